//! One partition of the log: order, idempotence per producer, recovery.
//!
//! The heart is [`producer`]: which batch is new, which one is a retry, and which one must be
//! refused. [`producers`] remembers what the decision needs for every producer of the partition.
//! Both are pure: no IO, no clock, no randomness, so a replay of the log rebuilds them exactly
//! (invariant I20).
//!
//! [`PartitionLog::append`] puts them in front of the files: admit, write, apply. The log is the
//! truth; [`snapshot`]s of the table are caches of it, and [`rebuild`] makes the table anew.

#![forbid(unsafe_code)]

mod config;
mod deletion;
mod error;
mod explain;
mod log;
pub mod producer;
pub mod producers;
mod reader;
mod recovery;
pub mod sequence;
pub mod snapshot;
mod snapshotter;
mod sources;
pub mod spill;

pub use config::{
    BATCH_BYTES_MAX_DEFAULT, Now, PRODUCER_EXPIRY_MS_DEFAULT, PRODUCERS_MAX_DEFAULT,
    PartitionConfig, SEGMENT_BYTES_DEFAULT,
};
pub use deletion::Deletion;
pub use error::{AppendError, OpenError};
pub use explain::{Decision, Explanation};
pub use log::{Appended, OpenContext, Opened, PartitionLog};
pub use producer::{
    Admission, Fresh, Original, OutOfOrderKind, ProducerConfig, Rejection, SequenceReusePolicy,
    UnknownProducerPolicy,
};
pub use producers::{ProducerTable, ProducerView, WindowEntry};
pub use reader::PartitionReader;
pub use recovery::{Rebuilt, marker_of, rebuild};
pub use sequence::Sequence;
pub use snapshotter::Snapshotter;
pub use sources::Sources;
pub use spill::{Budget, Guarded, Loaded, Loading, Progress, Spiller};
