//! The runner over an engine in memory, and, with the feature `failpoints`, over one whose process dies.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(feature = "failpoints")]
#[path = "../common/mod.rs"]
mod common;

mod build;
#[cfg(feature = "failpoints")]
mod crashes;
mod fixture;
mod leases;
mod ordering;
mod transactions;
