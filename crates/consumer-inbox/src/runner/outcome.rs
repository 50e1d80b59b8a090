//! The table of outcomes, without doing any of it.

use std::time::Duration;

use bytes::Bytes;

use super::error::RunError;
use super::policy::OnUnknown;
use crate::admission::{Admission, Prior, Settlement};
use crate::error::StoreError;
use crate::handler::{HandlerError, Verified};
use crate::identity::IdError;

/// What the log is told about a delivery.
#[derive(Debug)]
pub(crate) enum Fate {
    /// Acknowledge.
    Ack,
    /// Deliver it again.
    Again { after: Duration, is_counted: bool },
    /// To the dead-letter topic.
    Park(Cause),
    /// Acknowledge: the dead letter is committed elsewhere.
    Parked,
    /// Nothing: its visibility ends, and it comes again. Not counted.
    Lapse,
    /// Nothing: somebody else has it.
    Gone,
    /// Nothing, and the consumer stops.
    Stop(RunError),
}

impl Fate {
    /// Given back at once, without having been tried.
    pub(crate) fn back() -> Fate {
        Fate::Again {
            after: Duration::ZERO,
            is_counted: false,
        }
    }
}

/// Why a record is parked: for programs, and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) reason: &'static str,
    pub(crate) details: String,
}

impl Cause {
    pub(crate) fn new(reason: &'static str, details: impl Into<String>) -> Cause {
        let details = details.into();
        Cause { reason, details }
    }

    /// Its key was parked before.
    pub(crate) fn key() -> Cause {
        Cause::new("key-parked", "an earlier record of the key was parked")
    }

    /// It has no id, or one that is none.
    pub(crate) fn nameless(error: &IdError) -> Cause {
        let reason = match error {
            IdError::Missing { .. } => "missing-id",
            _ => "illegal-id",
        };
        Cause::new(reason, error.to_string())
    }

    /// Found dead that often before it ran.
    pub(crate) fn exhausted(attempts: u32) -> Cause {
        let details = format!("{attempts} attempts ended without an answer");
        Cause::new("attempts-exhausted", details)
    }
}

/// How a handler ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Well(Option<Bytes>),
    Badly(HandlerError),
    Panicked(String),
}

/// What is settled and what the log is told, after a handler ran; the pause is the back-off's if none is given.
#[derive(Debug)]
pub(crate) enum Verdict {
    Done(Option<Bytes>),
    Again(Option<Duration>),
    Park(Cause),
    Stop(RunError),
}

impl Verdict {
    pub(crate) fn settlement(&self) -> Settlement {
        match self {
            Verdict::Done(result) => Settlement::Done(result.clone()),
            Verdict::Again(_) | Verdict::Stop(_) => Settlement::Released,
            Verdict::Park(_) => Settlement::Parked,
        }
    }
}

/// After the handler ran in its `attempt`-th attempt of at most `attempts`.
pub(crate) fn after_handler(ended: Ended, attempt: u32, attempts: u32) -> Verdict {
    let is_last = attempt >= attempts;
    match ended {
        Ended::Well(result) => Verdict::Done(result),
        Ended::Badly(HandlerError::Reject(why)) => Verdict::Park(Cause::new("rejected", why)),
        Ended::Badly(HandlerError::Fatal(error)) => Verdict::Stop(RunError::Fatal(error)),
        Ended::Badly(error @ HandlerError::Retry { .. }) if is_last => {
            Verdict::Park(Cause::new("attempts-exhausted", error.to_string()))
        }
        Ended::Badly(HandlerError::Retry { after }) => Verdict::Again(after),
        Ended::Panicked(what) if is_last => Verdict::Park(Cause::new("panicked", what)),
        Ended::Panicked(_) => Verdict::Again(None),
    }
}

/// What a store answered, if it is not `Run`. The id keeps its state.
pub(crate) fn after_admission<H>(answer: Admission<H>, deliveries: u32) -> Result<H, Fate> {
    Err(match answer {
        Admission::Run(held) => return Ok(held),
        Admission::Done(_) => Fate::Ack,
        Admission::Busy { retry_after } => Fate::Again {
            after: retry_after.max(Duration::from_millis(1)),
            is_counted: false,
        },
        // A crash may have come between the id and the dead letter. Parking a record again adds nothing.
        Admission::Parked if deliveries > 1 => {
            Fate::Park(Cause::new("parked-before", "the id was parked before"))
        }
        Admission::Parked => Fate::Ack,
        Admission::Mismatch { stored } => Fate::Park(mismatch(&stored)),
        Admission::Expired => Fate::Park(expired()),
    })
}

pub(crate) fn mismatch(stored: &crate::Fingerprint) -> Cause {
    let details = format!("the id was seen before with another payload, of {stored:?}");
    Cause::new("mismatch", details)
}

pub(crate) fn expired() -> Cause {
    Cause::new("expired", "it is older than what may have been forgotten")
}

/// What comes before the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    Run,
    Verify { or_park: bool },
    Compensate,
    Park,
}

/// Whether an attempt before has to be cleared up first.
pub(crate) fn before_handler(prior: Prior, on_unknown: OnUnknown) -> First {
    match (prior, on_unknown) {
        (Prior::New | Prior::Released | Prior::Parked, _) | (_, OnUnknown::Run) => First::Run,
        (Prior::Crashed, OnUnknown::Verify) => First::Verify { or_park: false },
        (Prior::Crashed, OnUnknown::VerifyOrPark) => First::Verify { or_park: true },
        (Prior::Crashed, OnUnknown::Compensate) => First::Compensate,
        (Prior::Crashed, OnUnknown::Park) => First::Park,
    }
}

/// After the handler was asked what became of a crashed attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Done(Option<Bytes>),
    Run,
    Compensate,
    Park,
}

pub(crate) fn after_verify(said: Verified, or_park: bool) -> Then {
    match said {
        Verified::Applied(result) => Then::Done(result),
        Verified::NotApplied => Then::Run,
        Verified::Unknown if or_park => Then::Park,
        Verified::Unknown => Then::Compensate,
    }
}

/// What to do about a store's error.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The same call again, after a pause.
    Again(Option<Duration>),
    /// Somebody else has it.
    Gone,
    /// No repetition helps.
    Stop(StoreError),
}

pub(crate) fn trouble(error: StoreError) -> Trouble {
    match error {
        StoreError::Lost(_) | StoreError::Fenced { .. } => Trouble::Gone,
        StoreError::Busy { retry_after } => Trouble::Again(Some(retry_after)),
        StoreError::Unavailable | StoreError::Unknown | StoreError::Conflict | StoreError::Full => {
            Trouble::Again(None)
        }
        // Misuse, refused settings, a gap, and what a driver says.
        error => Trouble::Stop(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fingerprint, Receipt, Token};

    fn retry() -> Ended {
        Ended::Badly(HandlerError::Retry { after: None })
    }

    #[test]
    fn the_last_attempt_parks_what_an_earlier_one_tries_again() {
        assert!(matches!(after_handler(retry(), 2, 3), Verdict::Again(None)));
        for last in [3, 4] {
            let verdict = after_handler(retry(), last, 3);
            assert!(matches!(&verdict, Verdict::Park(why) if why.reason == "attempts-exhausted"));
            assert_eq!(verdict.settlement(), Settlement::Parked);
        }
        let panicked = |attempt| after_handler(Ended::Panicked("x".into()), attempt, 3);
        assert_eq!(panicked(1).settlement(), Settlement::Released);
        assert!(matches!(panicked(3), Verdict::Park(why) if why.reason == "panicked"));
        let rejected = Ended::Badly(HandlerError::Reject("no".into()));
        assert!(matches!(after_handler(rejected, 1, 3), Verdict::Park(why) if why.details == "no"));
        let fatal = Ended::Badly(HandlerError::Fatal("stop".into()));
        let fatal = after_handler(fatal, 3, 3);
        assert_eq!(fatal.settlement(), Settlement::Released);
        assert!(matches!(fatal, Verdict::Stop(RunError::Fatal(_))));
    }

    #[test]
    fn busy_is_never_acknowledged_nor_counted() {
        let answer: Admission<()> = Admission::Busy {
            retry_after: Duration::ZERO,
        };
        let fate = after_admission(answer, 9).unwrap_err();
        assert!(
            matches!(fate, Fate::Again { after, is_counted: false } if after > Duration::ZERO),
            "{fate:?}"
        );
    }

    #[test]
    fn what_is_done_is_acknowledged_and_what_does_not_match_is_parked() {
        let receipt = Receipt {
            token: Token::NONE,
            result: None,
        };
        let fate =
            |answer: Admission<()>, deliveries| after_admission(answer, deliveries).unwrap_err();
        assert!(matches!(fate(Admission::Done(receipt), 1), Fate::Ack));
        assert!(matches!(fate(Admission::Parked, 1), Fate::Ack));
        assert!(matches!(fate(Admission::Parked, 2), Fate::Park(_)));
        assert!(matches!(fate(Admission::Expired, 1), Fate::Park(why) if why.reason == "expired"));
        let stored = Fingerprint::of(b"other");
        let fate = fate(Admission::Mismatch { stored }, 1);
        assert!(matches!(fate, Fate::Park(why) if why.reason == "mismatch"));
    }

    #[test]
    fn only_a_crash_is_cleared_up() {
        let all = [
            OnUnknown::Verify,
            OnUnknown::VerifyOrPark,
            OnUnknown::Compensate,
            OnUnknown::Run,
            OnUnknown::Park,
        ];
        for on_unknown in all {
            for prior in [Prior::New, Prior::Released, Prior::Parked] {
                assert_eq!(before_handler(prior, on_unknown), First::Run);
            }
        }
        let crashed = all.map(|on_unknown| before_handler(Prior::Crashed, on_unknown));
        let verify = |or_park| First::Verify { or_park };
        let want = [
            verify(false),
            verify(true),
            First::Compensate,
            First::Run,
            First::Park,
        ];
        assert_eq!(crashed, want);
        assert_eq!(after_verify(Verified::Unknown, false), Then::Compensate);
        assert_eq!(after_verify(Verified::Unknown, true), Then::Park);
        assert_eq!(after_verify(Verified::NotApplied, true), Then::Run);
        let applied = Verified::Applied(Some(Bytes::from_static(b"r")));
        let done = Then::Done(Some(Bytes::from_static(b"r")));
        assert_eq!(after_verify(applied, false), done);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert!(matches!(trouble(StoreError::Unknown), Trouble::Again(None)));
        assert!(matches!(
            trouble(StoreError::Unavailable),
            Trouble::Again(None)
        ));
        assert!(matches!(
            trouble(StoreError::Lost(Token::NONE)),
            Trouble::Gone
        ));
        let fenced = StoreError::Fenced {
            held: 1,
            current: 2,
        };
        assert!(matches!(trouble(fenced), Trouble::Gone));
        assert!(matches!(trouble(StoreError::Misuse("x")), Trouble::Stop(_)));
        let gap = StoreError::Gap { want: 1, have: 2 };
        assert!(matches!(trouble(gap), Trouble::Stop(_)));
    }
}
