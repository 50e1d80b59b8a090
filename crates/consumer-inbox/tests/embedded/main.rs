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
#[path = "../common/matrix.rs"]
#[allow(unreachable_pub, reason = "shared")]
mod matrix;
mod special;
mod threads;

use consumer_inbox::conformance::{Interleavings, block_on, inbox_interleavings, interleavings};
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

/// A log is read at each crash, so one does not hold them all.
#[test]
fn every_interleaving_is_the_models() {
    let of = Interleavings::from_env(2_000);
    let run = |of: Interleavings| Some(block_on(interleavings(&Embedded::new(of.seed), of)));
    println!("{}", of.in_pieces(2, 50, run).unwrap());
}

#[test]
fn every_interleaving_of_the_inbox_is_the_models() {
    let of = Interleavings::from_env(2_000);
    let ran = of.in_pieces(2, 50, |of| {
        let inbox = EmbeddedEffects::new(of.seed);
        Some(block_on(inbox_interleavings(&inbox, of)))
    });
    println!("{}", ran.unwrap());
}
