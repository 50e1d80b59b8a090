//! The suite, random interleavings and the special cases, over PostgreSQL.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod crashes;
mod fixture;
#[path = "../servers/mod.rs"]
mod servers;
mod special;
mod together;

use consumer_inbox::conformance::{Interleavings, block_on, inbox_interleavings, interleavings};

mod dedup {
    use super::fixture::store;
    consumer_inbox::dedup_store_conformance!(store);
}

mod inbox {
    use super::fixture::inbox;
    consumer_inbox::inbox_conformance!(inbox);
}

mod entities {
    use super::fixture::inbox;
    consumer_inbox::entity_conformance!(inbox);
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
    if let Some(ran) = Interleavings::from_env(200).in_pieces(4, 50, run) {
        println!("{ran}");
    }
}

#[test]
fn every_interleaving_of_the_inbox_is_the_models() {
    let run = |of| {
        block_on(async {
            let fixture = fixture::inbox().await?;
            Some(inbox_interleavings(&fixture, of).await)
        })
    };
    if let Some(ran) = Interleavings::from_env(100).in_pieces(4, 25, run) {
        println!("{ran}");
    }
}
