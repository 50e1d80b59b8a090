//! A whole world from one seed: the engine on a simulated disk, clients of every kind, a network
//! that loses and repeats, crashes, and a model that judges each answer.
//!
//! Everything that happens comes from the seed and the [`Plan`], so what went wrong once goes wrong
//! again. A run takes milliseconds.
//!
//! ```
//! let plan = simulator::Plan::of(7);
//! let outcome = simulator::run(7, &plan, 0, &|_| false);
//! assert_eq!(outcome.violation, None);
//! ```

#![forbid(unsafe_code)]

mod batch;
mod clients;
mod consumers;
mod history;
mod model;
mod network;
mod operations;
mod plan;
mod random;
mod run;
mod shrink;
mod trace;
mod violation;
mod world;

pub use plan::{Plan, PlanError};
pub use random::Random;
pub use run::{Outcome, run};
pub use shrink::{Shrunk, shrink};
pub use violation::Violation;
pub use world::Counts;
