//! What a consumer is told to do.

use std::time::Duration;

/// When a claimed consumer marks an id (see the crate's table of policies). Each name says what may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The id is marked done, then the effect is tried once: at most once. A crash in between loses the effect, and nobody notices.
    Before,
    /// The id is looked up, the effect happens, then the id is marked: at least once, and two consumers at once both run.
    After,
    /// A timed claim, the effect, then the id is marked: at least once, and effectively once if the effect is fenced, keyed or can be
    /// verified.
    Lease {
        /// How long a claim excludes others after its last renewal. At least the visibility and the margin together.
        lease: Duration,
        /// How often it is renewed while the handler runs. Below half of the lease.
        renew_every: Duration,
    },
}

/// Which deliveries wait for which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Records of one partition with the same key, one after another. Records without a key wait for nobody.
    #[default]
    ByKey,
    /// All of them, one after another.
    Total,
    /// None.
    None,
}

/// What to do about an attempt that crashed, whose effect may have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnUnknown {
    /// Ask [`Handler::verify`](crate::Handler::verify); if that does not know, compensate, then run.
    #[default]
    Verify,
    /// Ask [`Handler::verify`](crate::Handler::verify); if that does not know, park.
    VerifyOrPark,
    /// [`Handler::compensate`](crate::Handler::compensate), then run.
    Compensate,
    /// Run: the effect takes the idempotency key or the token.
    Run,
    /// Park: a person decides.
    Park,
}

/// What becomes of later records of a key of which one was parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyAfterPark {
    /// They run.
    #[default]
    Continue,
    /// They are parked, too, in order, until the consumer is started anew.
    ParkToo,
}
