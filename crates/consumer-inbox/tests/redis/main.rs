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

/// On four threads: each waits for the server most of the time.
#[test]
fn every_interleaving_is_the_models() {
    let run = |of| {
        block_on(async {
            let fixture = fixture::store().await?;
            Some(interleavings(&fixture, of).await)
        })
    };
    if let Some(ran) = Interleavings::from_env(2_000).in_pieces(4, 250, run) {
        println!("{ran}");
    }
}
