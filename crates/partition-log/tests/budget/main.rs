//! The producer budget: producers above it move to disk, and no answer changes by that.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod batches;
mod damage;
mod driver;
mod equivalence;
mod eviction;
mod expiry;
mod interleaved;
mod memory;
mod random;
mod threads;
