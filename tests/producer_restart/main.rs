//! Producers that are restarted, over links that lose things, on machines that fail.
//!
//! Everything is judged by what clients saw: what they handed over, what they were answered, and
//! what is read. A failure prints its seed; `ONCELOG_SEED=17` runs that one alone, `ONCELOG_RUNS`
//! says how many there are.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking; helpers included"
)]

mod killed;
mod limit;
mod lives;
mod seeded;
mod unnamed;
