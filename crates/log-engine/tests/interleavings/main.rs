//! Whole engines whose threads shuttle runs, one step at a time, in an order that a seed decides:
//! what loom cannot explore to the end. Run by `tests/interleavings`.
//!
//! `ONCELOG_SCHEDULES` is how many orders each scenario is run in, `ONCELOG_SEED` what they come
//! from: both again, and the same orders are run again.

#![cfg(oncelog_shuttle)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it explored; helpers included"
)]

mod closing;
mod commits;
mod evicting;
mod schedules;
mod world;
