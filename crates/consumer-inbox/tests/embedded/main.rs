//! Ids in the log: the suite over a disk whose power fails at each reopening, crashes at every point of it, and what is special.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says which cases it covers"
)]

mod crashes;
mod fixture;
mod forwarding;
mod growth;
mod special;
mod threads;

use consumer_inbox::conformance::{Interleavings, block_on, interleavings};
use fixture::{Embedded, EmbeddedEffects};

mod dedup {
    async fn fixture() -> Option<super::Embedded> {
        Some(super::Embedded::new(1))
    }
    consumer_inbox::dedup_store_conformance!(fixture);
}

mod inbox {
    async fn fixture() -> Option<super::EmbeddedEffects> {
        Some(super::EmbeddedEffects::new(1))
    }
    consumer_inbox::inbox_conformance!(fixture);
}

#[test]
fn every_interleaving_is_the_models() {
    let mut all = Interleavings::from_env(2_000);
    // A log is read at each crash, so one does not hold them all.
    while all.runs > 0 {
        let of = Interleavings {
            runs: all.runs.min(50),
            ..all
        };
        let line = block_on(interleavings(&Embedded::new(all.seed), of));
        if all.runs == of.runs {
            println!("{line}");
        }
        all.runs -= of.runs;
        all.seed = all.seed.wrapping_add(of.runs);
    }
}
