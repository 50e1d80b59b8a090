//! `log_engine::inspect`: what is whole passes, what is damaged is found and named, and no damage
//! makes it panic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, helpers included"
)]

mod caches;
mod damage;
mod directory;
mod dump;
mod sweep;
mod whole;
