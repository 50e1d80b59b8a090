//! What the fuzz targets do with their bytes. The same functions are replayed by an ordinary test
//! (`cargo test -p oncelog-tests --test fuzz_regressions`) over everything that was ever found, and
//! over the seed inputs.
//!
//! A target fails by panicking: the code under it must not, whatever the bytes are, and what it
//! says must hold.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs,
    reason = "this is test code: it fails by panicking"
)]

mod batches;
#[allow(
    dead_code,
    reason = "made for the corruption sweeps, where all of it is used"
)]
#[path = "../../corruption/canonical.rs"]
mod canonical;
mod directories;
#[allow(
    dead_code,
    reason = "made for the corruption sweeps, where all of it is used"
)]
#[path = "../../corruption/facts.rs"]
mod facts;
mod indexes;
mod input;
#[allow(
    dead_code,
    reason = "made for the corruption sweeps, where all of it is used"
)]
#[path = "../../corruption/machine.rs"]
mod machine;
mod operations;
#[cfg(test)]
mod replay;
mod segments;
mod slots;
mod snapshots;
mod states;

pub use batches::{batch_parse, decompress, records};
pub use directories::directory_recovery;
pub use indexes::index;
pub use operations::operations;
pub use segments::segment_recovery;
pub use slots::marks_slots;
pub use snapshots::snapshot;
pub use states::state_files;

/// A target.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 10] = [
    ("batch_parse", batch_parse),
    ("records", records),
    ("decompress", decompress),
    ("snapshot", snapshot),
    ("index", index),
    ("marks_slots", marks_slots),
    ("state_files", state_files),
    ("segment_recovery", segment_recovery),
    ("directory_recovery", directory_recovery),
    ("operations", operations),
];
