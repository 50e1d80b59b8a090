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

use fixture::without_syncs;

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

/// On four threads: each waits for its store most of the time.
#[test]
fn every_interleaving_is_the_models() {
    let all = Interleavings::from_env(2_000);
    std::thread::scope(|scope| {
        for part in 0..4 {
            let (first, end) = (all.runs * part / 4, all.runs * (part + 1) / 4);
            let of = Interleavings {
                runs: end - first,
                seed: all.seed.wrapping_add(first),
                ..all
            };
            scope.spawn(move || println!("{}", block_on(interleavings(&without_syncs(), of))));
        }
    });
}
