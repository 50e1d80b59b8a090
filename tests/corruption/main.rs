//! Damage of every kind to a small data directory that holds every kind of file.
//!
//! Each case damages a copy of it, checks it, opens it beside a writer and for writing, reads
//! everything, sends known batches again and new ones, closes it and does some of that once more.
//! Allowed is that nothing shows, that the log is cut above its stable mark, and an error that names
//! the file; never a wrong record, a missing one without an error, or a duplicate that is stored.
//!
//! `ONCELOG_FLIPS` (default 2000, or `all`): so many bits are flipped, of each directory.
//! `ONCELOG_CUTS` (`all`, else one of 7): which lengths small files are cut to.
//! `ONCELOG_CORRUPTION_SEED` moves what is drawn. `ONCELOG_CASE`: does that one case, as it was
//! printed, and prints what comes of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints its counts; helpers included"
)]

mod canonical;
mod change;
mod examine;
mod facts;
mod machine;
mod reading;
mod real_files;
mod sweep;
mod sweeps;
mod watchdog;
mod writing;
