//! One partition of the log: order, idempotence per producer, recovery.
//!
//! The heart is [`producer`]: which batch is new, which one is a retry, and which one must be
//! refused. [`producers`] remembers what the decision needs for every producer of the partition.
//! Both are pure: no IO, no clock, no randomness, so a replay of the log rebuilds them exactly
//! (invariant I20).

#![forbid(unsafe_code)]

pub mod producer;
pub mod producers;
pub mod sequence;

pub use producer::{
    Admission, Fresh, Original, OutOfOrderKind, ProducerConfig, Rejection, SequenceReusePolicy,
    UnknownProducerPolicy,
};
pub use producers::{ProducerTable, ProducerView, WindowEntry};
pub use sequence::Sequence;
