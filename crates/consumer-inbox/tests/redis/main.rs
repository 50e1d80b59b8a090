//! The suite, random interleavings and the special cases, over Redis.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod crashes;
mod effects;
mod fixture;
#[path = "../servers/mod.rs"]
mod servers;
mod special;

use consumer_inbox::conformance::{Interleavings, block_on, interleavings};

mod dedup {
    use super::fixture::store;
    consumer_inbox::dedup_store_conformance!(store);
}

#[test]
fn every_interleaving_is_the_models() {
    block_on(async {
        if let Some(fixture) = fixture::store().await {
            let of = Interleavings::from_env(2_000);
            println!("{}", interleavings(&fixture, of).await);
        }
    });
}
