//! What a consumer counts.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// What a consumer did since it was built.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct Summary {
            $($(#[$doc])+ pub $name: u64,)+
        }

        /// The counters of a running consumer.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $(pub(crate) $name: AtomicU64,)+
        }

        impl Metrics {
            /// What they say now.
            pub fn summary(&self) -> Summary {
                Summary { $($name: self.$name.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

counts! {
    /// Handlers that were called.
    runs,
    /// Deliveries whose effect was done and settled by this consumer.
    done,
    /// Duplicates that were delivered before: the record came again.
    redeliveries,
    /// Duplicates at their first delivery: the fact came in another record, or the group was rewound.
    republications,
    /// Answers that somebody else works on it.
    busy,
    /// Ids that came with another payload.
    mismatches,
    /// Records older than what may have been forgotten.
    expired,
    /// Claims on ids whose attempt before crashed.
    takeovers,
    /// Crashed attempts whose effect had happened.
    verified_applied,
    /// Crashed attempts whose effect had not happened.
    verified_not_applied,
    /// Crashed attempts of which the handler did not know.
    verified_unknown,
    /// Deliveries that were given back for another attempt.
    retries,
    /// Handlers that panicked.
    panics,
    /// Effects that happened twice because two ran at once: policy `After` only.
    races,
    /// Claims that were lost to somebody else.
    lost,
    /// Deliveries that belong to somebody else by now.
    fenced,
    /// Deliveries that were left to come again: the store was not there, or the lease ended.
    lapsed,
    /// Records that were given up.
    parked,
    /// Those of them that went nowhere, for want of a dead-letter topic.
    dropped,
    /// Outgoing records that were sent to their topics.
    forwarded,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
