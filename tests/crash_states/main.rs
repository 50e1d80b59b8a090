//! Every state that a power cut may leave, of short lives of an engine.
//!
//! A life is recorded to the page. For each place in the record, power is cut there: what was synced
//! is on the disk, and of what was not, any combination. Each disk made that way is opened, held
//! against what clients were told before the cut, written to, cut from power once more, and opened
//! and checked again, for some mistakes show only then.
//!
//! `ONCELOG_CRASH_BITS` (default 6, at most 12): up to so many unsynced things, all combinations are
//! made; where there are more, all single and pair losses, and as many drawn ones.
//! `ONCELOG_CRASH_SEED` moves what is drawn.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and counts little; helpers included"
)]

mod check;
mod facts;
mod images;
mod interloper;
mod life;
mod lines;
mod machine;
mod partition;
mod sequences;
mod workloads;
