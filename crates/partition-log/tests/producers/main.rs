//! The producer table against the conformance rows of idempotent appends and epochs, and against a
//! naive model. Tests named `case_NNN` are rows of the conformance list.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod admission;
mod epochs;
mod explain;
mod forgetting;
mod harness;
mod markers;
mod memory;
mod model;
mod named;
mod refusals;
