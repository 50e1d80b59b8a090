//! The command as users meet it: the built binary, its exit codes, and what it prints where.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod backup;
mod bad_input;
mod demo;
mod demo_consumer;
mod demo_stores;
mod groups;
mod harness;
mod help;
mod inspect;
mod killed;
mod named;
mod produce;
mod repair;
mod signals;
mod why;
