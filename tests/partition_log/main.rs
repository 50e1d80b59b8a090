//! A partition's log as its engine drives it, step by step: sections A, F and G of the behaviour
//! specification.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking, and counts little; helpers included"
)]

mod driver;
mod recovery;
mod retention;
mod snapshots;
