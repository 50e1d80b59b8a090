//! Consumer groups through the public API, on disks in memory.

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
mod shop;
#[path = "../engine/world.rs"]
#[allow(dead_code, reason = "shared with the engine's tests; each uses a part")]
mod world;

mod consuming;
mod dead_letters;
mod limits;
mod members;
mod parking_crash;
mod restarts;
mod retention;
mod waiting;
