//! The engine: topics, partitions, group commit, producer sessions, readers.
//!
//! [`Engine`] is one data directory, opened. [`Partition`] appends batches that are built already,
//! [`ProducerSession`] builds them from records; [`Reader`] reads. The rule for names is that of
//! tokio's channels: a plain name is `async`, `blocking_` waits on this thread, `try_` never
//! waits. No runtime is needed: the futures run on any executor, and the engine has its own
//! threads, each a loop around one function:
//!
//! * the committer makes durable what was appended and answers whoever waits for it,
//! * the segment feeder prepares the next segment ahead of need,
//! * the timer wakes both when it is time.

#![forbid(unsafe_code)]

mod append_id;
mod backup;
mod blocking;
mod committer;
mod config;
mod consumed_record;
mod core;
mod directory;
mod driven;
mod ends;
mod engine;
mod env;
mod error;
mod explain;
mod given_up;
mod groups;
mod handle;
mod headers;
mod housekeeping;
pub mod inspect;
#[cfg(all(test, oncelog_loom))]
mod interleavings;
mod internal;
#[cfg(feature = "serde")]
mod json;
mod lineage;
mod locked;
mod names;
mod open_report;
mod panics;
mod partition;
mod partitioner;
mod producer;
mod reader;
mod record;
mod repair;
mod resolve;
mod retention;
mod segment_feeder;
mod senders;
mod session;
mod signal;
mod spilling;
mod topic;
mod topic_logs;
mod topics;
mod transport;
mod upkeep;
mod wording;

pub use append_id::{AppendId, AppendIdError};
pub use backup::{BackupError, BackupReport};
pub use config::{Ack, ConfigError, Create, TopicConfig};
pub use consumed_record::ConsumedRecord;
pub use engine::{Builder, Engine};
pub use env::{Clock, Env, ManualClock, SystemClock};
pub use error::{
    Action, AppendError, CloseError, Error, OpenError, ReadError, ResolveError, SendError,
    SessionError, TopicError, Unknown,
};
pub use groups::{
    ConsumerGroup, DeadLetter, Delivery, GroupDescription, GroupError, GroupPartition,
    JournalError, Member, Receipt,
};
pub use handle::{Appended, Partition, Pending};
#[doc(hidden)]
pub use internal::InternalLog;
pub use open_report::OpenReport;
pub use partition_log::{Decision, Explanation, Opened, ProducerView, Rejection, WindowEntry};
pub use partitioner::partition_for_key;
pub use producer::{Producer, ProducerBuilder, ProducerCounts, RecordMetadata, Ticket};
pub use reader::{Batches, Reader, ReaderBuilder, RecordStream, Start};
pub use record::Record;
pub use record_batch::{
    Batch, BatchBuilder, BatchError, BatchHeader, Compression, ProducerIdentity, Records,
    SOURCE_HEADER, SourcePosition,
};
pub use resolve::{Forgotten, Resolution};
pub use session::{Appender, ProducerSession};
pub use topic::{PartitionDescription, Topic, TopicDescription};

/// What is below: disks, for tests and for those who bring their own.
pub mod storage {
    pub use segment_storage::disk::{DirectoryEntry, Disk, DiskFile, Prepare};
    pub use segment_storage::{MemoryDisk, OsDisk};
}

pub use transport::{Answer, Direct, Transport, TransportError};
