//! The engine through its public API, on disks in memory and on real ones.

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

mod acks;
mod added_partitions;
mod bad_input;
mod close;
mod crashes;
mod explain;
mod feeding;
mod full_disk;
mod futures;
mod group_commit;
mod idle;
mod opening;
mod panics;
mod permissions;
mod read_only;
mod readers;
#[cfg(target_os = "linux")]
mod readers_owned;
mod readers_stream;
mod retention;
mod sessions;
mod topics;
mod upkeep;
mod world;
