//! What a store answers to "may I work on this id?".

use std::time::Duration;

use bytes::Bytes;

use crate::identity::{DedupKey, Fingerprint};

/// A fencing token: the tokens of one key strictly grow (E3). Below 2^53, so that every store keeps
/// it exactly, also those whose numbers are doubles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(u64);

impl Token {
    /// No claim's token: what an [`Inbox`](crate::Inbox) says, whose transactions need none.
    pub const NONE: Token = Token(0);
    /// The greatest.
    pub const MAX: Token = Token((1 << 53) - 1);

    /// The token of that number; `None` above [`Token::MAX`].
    pub fn new(number: u64) -> Option<Token> {
        (number <= Token::MAX.0).then_some(Token(number))
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// The answer to a claim, or to an inbox's `admit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission<H> {
    /// The caller owns the work, and nobody else.
    Run(H),
    /// Finished before: acknowledge, return the stored result.
    Done(Receipt),
    /// Being worked on: deliver again later, never acknowledge (E1).
    Busy {
        /// When it is worth asking again; at most what is left of the lease.
        retry_after: Duration,
    },
    /// In the dead-letter topic: acknowledge (E9).
    Parked,
    /// Same id, other payload: to the dead-letter topic. The id keeps its state (E6).
    Mismatch {
        /// The fingerprint the id was first seen with.
        stored: Fingerprint,
    },
    /// Older than what may have been forgotten: to the dead-letter topic (E11).
    Expired,
}

impl<H> Admission<H> {
    /// The same answer, with something else granted.
    pub fn map<T>(self, grant: impl FnOnce(H) -> T) -> Admission<T> {
        match self {
            Admission::Run(held) => Admission::Run(grant(held)),
            Admission::Done(receipt) => Admission::Done(receipt),
            Admission::Busy { retry_after } => Admission::Busy { retry_after },
            Admission::Parked => Admission::Parked,
            Admission::Mismatch { stored } => Admission::Mismatch { stored },
            Admission::Expired => Admission::Expired,
        }
    }

    /// What was granted, if it was.
    pub fn granted(self) -> Option<H> {
        match self {
            Admission::Run(held) => Some(held),
            _ => None,
        }
    }
}

/// How work on an id ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The token it was finished under; [`Token::NONE`] from an inbox.
    pub token: Token,
    /// What the handler returned. None also if only the position is known any more.
    pub result: Option<Bytes>,
}

/// What became of the attempt before this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prior {
    /// There was none.
    New,
    /// It gave the id back.
    Released,
    /// Its lease ran out: its effect may have happened.
    Crashed,
    /// It was parked, and this is a re-drive. Attempts count from 1 again.
    Parked,
}

/// A claim that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Of what.
    pub key: DedupKey,
    /// Greater than every earlier token of the key.
    pub token: Token,
    /// 1 the first time. Counted durably before the effect (E7).
    pub attempt: u32,
    /// What became of the attempt before.
    pub prior: Prior,
}

/// How work on an id ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// Well, perhaps with a result for whoever asks again.
    Done(Option<Bytes>),
    /// Not: somebody may try again, at once.
    Released,
    /// Not, and nobody shall try again but by a re-drive.
    Parked,
}
