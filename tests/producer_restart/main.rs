//! Producers that are restarted, over links that lose things, on machines that fail.
//!
//! Everything is judged by what clients saw: what they handed over, what they were answered, and
//! what is read. There are 1,000 seeded runs ([`seeded`]) and 60 kills of a real process
//! ([`killed`]); [`limit`] shows what a producer without a name cannot do. Each prints its counts.
//!
//! A failure prints its seed; `ONCELOG_SEED=17` runs that one alone, `ONCELOG_RUNS` says how many
//! seeds there are. For a night:
//!
//! ```sh
//! ONCELOG_RUNS=1000000 cargo test --release -p oncelog-tests --test producer_restart -- --nocapture
//! ```
//!
//! `tests/planted` shows that the runs find mistakes.

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
