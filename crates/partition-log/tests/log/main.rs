//! The partition log over crashes, damage, retention and restarts. Tests named `case_NNN` are rows
//! of the conformance list; where oncelog is stricter than Kafka, the test says by which rule.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod appends;
mod foreign_snapshots;
mod going_on;
mod harness;
mod histories;
mod named;
mod read_errors;
mod recovery;
mod replay;
mod retention;
mod snapshots;
mod truncation;
#[path = "../../../segment-storage/tests/storage/unreadable.rs"]
mod unreadable;
