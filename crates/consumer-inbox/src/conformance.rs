//! One suite for every store (feature `conformance`): for the stores here, and for stores of your own.
//!
//! A *fixture* says how to make a store, how its time passes and what it cannot do; a macro makes one test of each numbered case:
//!
//! ```text
//! async fn fixture() -> Option<MyFixture> { … }           // None skips: the server is missing, say
//! consumer_inbox::dedup_store_conformance!(fixture);       // trait `Fixture`
//! consumer_inbox::inbox_conformance!(inbox_fixture);       // trait `InboxFixture`
//! consumer_inbox::entity_conformance!(entity_fixture);     // trait `EntityFixture`
//! ```
//!
//! Each test prints a line, `case 07 memory: ok` (see it with `--nocapture`), or why it does not apply. [`interleavings`] and
//! [`inbox_interleavings`] compare a store with a model over random sequences of calls.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, and this is what tests call"
)]

pub mod claims;
pub mod entities;
mod fixture;
pub mod forgetting;
pub mod inbox;
mod inbox_interleavings;
mod inbox_model;
pub mod inbox_rules;
mod interleavings;
pub mod locks;
mod model;
mod random;
mod sequences;

pub use fixture::{EntityFixture, Fixture, InboxFixture, LONG, Named, SHORT};
pub use inbox_interleavings::inbox_interleavings;
pub use interleavings::interleavings;
pub use random::Random;
pub use sequences::{Interleavings, Ran};

use std::fmt;
use std::future::Future;

/// How a case ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The store is as the case says.
    Ok,
    /// The case is about something that the store does not have.
    NotApplicable(&'static str),
    /// There was no store to ask. Does not count as passed.
    Skipped,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Ok => write!(f, "ok"),
            Outcome::NotApplicable(why) => write!(f, "does not apply: {why}"),
            Outcome::Skipped => write!(f, "skipped"),
        }
    }
}

/// What a test prints about a case.
pub fn line(case: &str, backend: &str, outcome: Outcome) -> String {
    format!("{} {backend}: {outcome}", case.replace('_', " "))
}

/// Runs a case to its end, on threads of its own.
///
/// # Panics
/// When the case fails, or threads cannot be had.
pub fn block_on<T>(case: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build();
    runtime.expect("threads for a case").block_on(case)
}

/// Makes a test of each case for a [`Fixture`](crate::conformance::Fixture), from a path to `async fn() -> Option<F>`.
#[macro_export]
macro_rules! dedup_store_conformance {
    ($fixture:path) => {
        $crate::conformance_cases!($fixture, claims:
            case_01 case_02 case_03 case_04 case_05 case_06 case_07 case_08 case_09 case_10 case_11
            case_12 case_13 case_14 case_15 case_16 rule_1 rule_2 rule_5);
        $crate::conformance_cases!($fixture, locks: case_66 case_67);
        $crate::conformance_cases!($fixture, forgetting:
            case_72 case_73 case_74 case_75 case_76 case_77 rule_3 rule_4 rule_6 rule_7);
    };
}

/// Makes a test of each case for an [`InboxFixture`](crate::conformance::InboxFixture).
#[macro_export]
macro_rules! inbox_conformance {
    ($fixture:path) => {
        $crate::conformance_cases!($fixture, inbox:
            case_31 case_32 case_33 case_36 case_37 case_38 case_39 case_40 case_42 case_43 case_70);
        $crate::conformance_cases!($fixture, inbox_rules:
            case_41 inbox_parked inbox_mismatch inbox_forgets inbox_newest inbox_outgoing inbox_misuse
            inbox_epochs inbox_process inbox_stale_duplicate);
    };
}

/// Makes a test of each case for an [`EntityFixture`](crate::conformance::EntityFixture).
#[macro_export]
macro_rules! entity_conformance {
    ($fixture:path) => {
        $crate::conformance_cases!($fixture, entities:
            case_68 case_69 entity_versions entity_amounts entity_removal entity_retries);
    };
}

/// A test of each named case of a module.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    ($fixture:path, $module:ident: $($case:ident)*) => { $(
        #[test]
        fn $case() {
            use $crate::conformance::{Named, Outcome, block_on, line, $module};
            let (backend, outcome) = block_on(async {
                match $fixture().await {
                    Some(fixture) => {
                        let outcome = $module::$case(&fixture).await;
                        if let Some(applies) = fixture.applies(stringify!($case)) {
                            assert_eq!(applies, outcome == Outcome::Ok, "{outcome}");
                        }
                        (fixture.backend(), outcome)
                    }
                    None => ("?", Outcome::Skipped),
                }
            });
            println!("{}", line(stringify!($case), backend, outcome));
        }
    )* };
}
