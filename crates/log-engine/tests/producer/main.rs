//! Producers through the public API: batches, answers, what gets lost, and names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking, and counts little; helpers included"
)]

#[path = "../../../../tests/harness/hooked_disk.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the end-to-end tests; each uses a part"
)]
mod hooked_disk;
#[path = "../../../oncelog/src/testing/lossy.rs"]
#[allow(unreachable_pub, reason = "it is public where it comes from")]
mod lossy;
#[path = "../engine/world.rs"]
#[allow(dead_code, reason = "shared with the engine's tests; each uses a part")]
mod world;

mod append_ids;
mod batch_records;
mod batching;
mod cancelled;
mod closing;
mod executors;
mod failing_disk;
mod forgotten;
mod in_flight;
mod lost_answers;
mod names;
mod names_crash;
mod names_fenced;
mod names_lost;
mod names_many;
mod names_repartition;
mod partitions;
mod pressure;
mod resolving;
mod sizes;
mod ticket;
mod timeouts;
mod topics;
mod ways;
