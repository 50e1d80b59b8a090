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

use consumer_inbox::conformance::{Interleavings, block_on, interleavings};

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

#[test]
fn every_interleaving_is_the_models() {
    block_on(async {
        if let Some(fixture) = fixture::store().await {
            let of = Interleavings::from_env(200);
            println!("{}", interleavings(&fixture, of).await);
        }
    });
}
