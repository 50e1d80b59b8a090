//! [`Producer`]: records in, batches out, every record once.

use std::sync::Arc;

use crate::blocking;
use crate::error::{AppendError, SendError, SessionError};
use crate::record::Record;

mod builder;
mod closing;
mod lane;
mod named;
mod route;
mod shared;
mod ticket;

pub use builder::ProducerBuilder;
pub(crate) use shared::ProducerCore;
pub(crate) use ticket::Outcome;
pub use ticket::{RecordMetadata, Ticket};

/// Sends records, each stored once however often its answer gets lost. Cheap to clone, and shared
/// by threads; order is promised per partition, in the order of one thread's calls.
///
/// When the last clone is dropped, what is buffered is still handed over, in the background;
/// [`Producer::close`] waits for it and says what failed.
///
/// ```
/// use log_engine::{Engine, Record};
///
/// let engine = Engine::in_memory();
/// engine.ensure_topic("orders", 3)?;
/// let producer = engine.producer().open()?;
/// let ticket = producer.blocking_send(Record::to("orders").key("A-1").value("two shirts"))?;
/// assert_eq!(ticket.blocking_wait()?.offset, Some(0));
/// producer.blocking_close()?;
/// # Ok::<(), log_engine::Error>(())
/// ```
#[derive(Clone)]
pub struct Producer {
    handle: Arc<ProducerHandle>,
}

struct ProducerHandle {
    core: Arc<ProducerCore>,
}

impl Drop for ProducerHandle {
    fn drop(&mut self) {
        self.core.let_go();
    }
}

/// What a producer did so far. All but `batches` are counts of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ProducerCounts {
    /// Sent, each counted once.
    pub records: u64,
    /// Batches sent, each counted once.
    pub batches: u64,
    /// Sent again.
    pub retransmitted: u64,
    /// Answered as stored before, because an earlier try's answer was lost.
    pub duplicates_answered: u64,
    /// Not sent, because an earlier run had stored them.
    pub skipped: u64,
}

impl std::ops::AddAssign for ProducerCounts {
    fn add_assign(&mut self, other: ProducerCounts) {
        self.records += other.records;
        self.batches += other.batches;
        self.retransmitted += other.retransmitted;
        self.duplicates_answered += other.duplicates_answered;
        self.skipped += other.skipped;
    }
}

impl Producer {
    fn new(core: Arc<ProducerCore>) -> Producer {
        let handle = Arc::new(ProducerHandle { core });
        Producer { handle }
    }

    /// The first position of the source that may be missing: read it from there. 0 for a name that
    /// stored nothing yet, and without a name. Sending more is safe, what is stored is skipped.
    pub fn resume_from(&self) -> u64 {
        self.handle.core.resume_from
    }

    /// What it did so far.
    pub fn counts(&self) -> ProducerCounts {
        self.handle.core.state.lock().counts
    }

    /// Its producer id and epoch now. Several sessions of one producer have several.
    pub fn identity(&self) -> (i64, i16) {
        self.handle.core.state.lock().identity
    }

    /// The name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.handle.core.name.as_deref()
    }

    /// Hands a record over if there is room; never waits.
    ///
    /// # Errors
    /// [`SendError`]; the producer goes on as if the call had not been made.
    pub fn try_send(&self, record: Record<'_>) -> Result<Ticket, SendError> {
        self.handle.core.send(&record)
    }

    /// Hands a record over, waiting for room in the buffer if there is none.
    ///
    /// # Cancel safety
    /// Dropped before it returned, the record was not handed over.
    ///
    /// # Errors
    /// [`SendError`]; [`SendError::Full`] when there was no room in time.
    pub async fn send(&self, record: Record<'_>) -> Result<Ticket, SendError> {
        let core = &self.handle.core;
        let wait = u64::try_from(core.settings.max_block.as_millis()).unwrap_or(u64::MAX);
        let deadline = core.now_ms().saturating_add(wait);
        core.room
            .wait(|| match core.send(&record) {
                Err(SendError::Full { .. }) if core.now_ms() < deadline => {
                    core.wait_for_room_until(deadline);
                    None
                }
                sent => Some(sent),
            })
            .await
    }

    /// As [`Producer::send`], waiting on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub fn blocking_send(&self, record: Record<'_>) -> Result<Ticket, SendError> {
        blocking::refuse_async_worker("blocking_send", "send");
        match self.handle.core.send(&record) {
            Err(SendError::Full { .. }) => {
                blocking::wait("blocking_send", "send", self.send(record))
            }
            sent => sent,
        }
    }

    /// Sends a record and waits for its answer.
    ///
    /// # Cancel safety
    /// Dropped early, the record may have been handed over, or not; use [`Producer::send`] and its
    /// ticket where that matters.
    ///
    /// # Errors
    /// Of sending, or of appending.
    pub async fn append(&self, record: Record<'_>) -> Result<RecordMetadata, crate::Error> {
        Ok(self.send(record).await?.await?)
    }

    /// As [`Producer::append`], waiting on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// As [`Producer::append`].
    pub fn blocking_append(&self, record: Record<'_>) -> Result<RecordMetadata, crate::Error> {
        blocking::refuse_async_worker("blocking_append", "append");
        Ok(self.blocking_send(record)?.blocking_wait()?)
    }

    /// Sends everything that is buffered now, and waits for its answers.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping it.
    ///
    /// # Errors
    /// The first failure that no ticket's owner has looked at.
    pub async fn flush(&self) -> Result<(), AppendError> {
        self.handle.core.flush().await
    }

    /// As [`Producer::flush`], waiting on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub fn blocking_flush(&self) -> Result<(), AppendError> {
        blocking::wait("blocking_flush", "flush", self.flush())
    }

    /// Closes the producer, for all its clones: sends what is buffered, waits for the answers, frees
    /// the name, and has the log forget the session if nothing is in doubt.
    ///
    /// # Cancel safety
    /// Dropped early, nothing more is taken, and what is buffered still leaves.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn close(&self) -> Result<(), AppendError> {
        self.handle.core.close().await
    }

    /// As [`Producer::close`], waiting on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub fn blocking_close(&self) -> Result<(), AppendError> {
        blocking::wait("blocking_close", "close", self.close())
    }
}

impl From<SessionError> for SendError {
    fn from(error: SessionError) -> SendError {
        SendError::Session(error)
    }
}
