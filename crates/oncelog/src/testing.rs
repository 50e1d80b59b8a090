//! For tests of programs that use oncelog: what goes wrong, on purpose and from a seed.

mod lossy;

pub use lossy::{Lossy, LossyCounts};
