//! A real process, real files, and SIGKILL: at random moments, at named points, and while it
//! recovers from the last one. Every answered record is there once and in order, what was shown
//! stays where it was, and there is nothing that nobody sent.
//!
//! The writer is this test's own binary, started again. The parent believes what it says on a pipe,
//! and nothing else. `ONCELOG_KILLS` and `ONCELOG_SEED` choose how many kills, and which.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking, and counts little; helpers included"
)]

mod asked;
mod lives;
mod points;
mod told;
mod writer;
