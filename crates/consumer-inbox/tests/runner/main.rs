//! The runner over an engine in memory, and, with the feature `failpoints`, over one whose process dies.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(feature = "failpoints")]
#[path = "../common/mod.rs"]
mod common;

mod batches;
mod build;
mod busy;
#[cfg(feature = "failpoints")]
mod churn;
#[cfg(feature = "failpoints")]
mod crashes;
mod fixture;
mod forgetting;
#[cfg(feature = "failpoints")]
mod home;
#[cfg(feature = "failpoints")]
mod kills;
#[cfg(feature = "failpoints")]
mod kills_batches;
mod leases;
mod metrics;
mod ordering;
mod transactions;
