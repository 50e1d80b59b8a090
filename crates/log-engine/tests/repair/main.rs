//! Repairs: each kind of damage, what is kept and given up, and that the directory opens, holds and
//! goes on afterwards.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, helpers included"
)]

mod logs;
mod own_files;
mod place;
mod stopping;
mod sweep;
