//! The log of segments on disks that crash, fill up, rot and fail: invariants I1, I4, I9 to I13,
//! I21 to I28, and rules R1 to R16 of the reliability specification.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod age;
mod append;
mod at_rest;
mod ceiling;
mod crashes;
mod damage;
mod deletion;
mod faults;
mod follow;
mod harness;
mod lookup;
mod marks;
mod pieces;
mod property;
mod read_errors;
mod recorder;
mod shown;
mod torn;
mod truncation;
mod unreadable;
