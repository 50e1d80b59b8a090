//! The suite, random interleavings and the special cases, over SQLite.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod crashes;
mod fixture;
mod special;

use fixture::{inbox_without_syncs, store_without_syncs};

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

/// On four threads: each waits for its store most of the time.
#[test]
fn every_interleaving_is_the_models() {
    let of = Interleavings::from_env(2_000);
    let run = |of| Some(block_on(interleavings(&store_without_syncs(), of)));
    println!("{}", of.in_pieces(4, 500, run).unwrap());
}

#[test]
fn every_interleaving_of_the_inbox_is_the_models() {
    let of = Interleavings::from_env(1_000);
    let run = |of| {
        block_on(async {
            let inbox = inbox_without_syncs().await;
            Some(inbox_interleavings(&inbox, of).await)
        })
    };
    println!("{}", of.in_pieces(4, 250, run).unwrap());
}
