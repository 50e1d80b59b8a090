//! What a producer gives out for a record: the answer, later.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use sync::OnceLock;
use sync::atomic::{AtomicUsize, Ordering};

use crate::append_id::AppendId;
use crate::blocking;
use crate::error::AppendError;
use crate::signal::Signal;

/// Where a record is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RecordMetadata {
    /// The topic.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text"))]
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The offset. `None` for a record of a named producer that an earlier run stored, and that
    /// was therefore not sent again.
    pub offset: Option<u64>,
    /// Its timestamp, ms since 1970; that of the log where the log keeps its own.
    pub timestamp: i64,
    /// It was stored before, by an earlier try whose answer was lost, or by an earlier run.
    pub duplicate: bool,
}

/// What became of a batch.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// `None`: skipped, an earlier run stored it.
    pub(crate) base_offset: Option<u64>,
    pub(crate) duplicate: bool,
    /// The log's own time, where it keeps that.
    pub(crate) timestamp: Option<i64>,
}

/// Shared by all tickets of a batch.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    answer: OnceLock<Result<Stored, AppendError>>,
    answered: Signal,
    /// Tickets that have not been looked at.
    unseen: AtomicUsize,
}

impl Outcome {
    /// Answers all tickets of the batch. The first answer stays.
    pub(crate) fn set(&self, answer: Result<Stored, AppendError>) {
        let _ = self.answer.set(answer);
        self.answered.notify();
    }

    /// The answer, if it is there.
    pub(crate) fn get(&self) -> Option<&Result<Stored, AppendError>> {
        self.answer.get()
    }

    /// Counts a ticket.
    pub(crate) fn add_ticket(&self) {
        self.unseen.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether some ticket was dropped, or never asked.
    pub(crate) fn has_unseen(&self) -> bool {
        self.unseen.load(Ordering::Relaxed) > 0
    }

    /// Waits for the answer.
    pub(crate) async fn wait(&self) -> &Result<Stored, AppendError> {
        self.answered.wait(|| self.answer.get()).await
    }
}

/// The answer for one record. `.await` it, or [`Ticket::blocking_wait`].
///
/// Dropping it cancels nothing; a failure that nobody looked at comes out of the producer's next
/// `flush` or `close`.
#[derive(Debug)]
pub struct Ticket {
    pub(crate) outcome: Arc<Outcome>,
    pub(crate) id: AppendId,
    pub(crate) timestamp: i64,
}

impl Ticket {
    /// What to ask [`Engine::resolve`](crate::Engine::resolve) with if the answer never comes: after a crash, say.
    pub fn id(&self) -> &AppendId {
        &self.id
    }

    /// Whether the answer is there.
    pub fn is_done(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// Waits for the answer on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime; `.await` the ticket there.
    ///
    /// # Errors
    /// [`AppendError`]: certainly not written, unless [`AppendError::is_outcome_unknown`].
    pub fn blocking_wait(self) -> Result<RecordMetadata, AppendError> {
        if self.outcome.get().is_none() {
            blocking::wait("Ticket::blocking_wait", "ticket.await", self.outcome.wait());
        } else {
            blocking::refuse_async_worker("Ticket::blocking_wait", "ticket.await");
        }
        self.take()
    }

    // Only called once the answer is there.
    fn take(self) -> Result<RecordMetadata, AppendError> {
        self.outcome.unseen.fetch_sub(1, Ordering::Relaxed);
        match self.outcome.get() {
            Some(Ok(stored)) => Ok(RecordMetadata {
                topic: self.id.topic.clone(),
                partition: self.id.partition,
                offset: stored
                    .base_offset
                    .map(|base| base + u64::from(self.id.index)),
                timestamp: stored.timestamp.unwrap_or(self.timestamp),
                duplicate: stored.duplicate,
            }),
            Some(Err(AppendError::OutcomeUnknown {
                topic,
                partition,
                offset,
                why,
                ..
            })) => Err(AppendError::OutcomeUnknown {
                topic: topic.clone(),
                partition: *partition,
                offset: *offset,
                why: why.clone(),
                id: Some(Box::new(self.id.clone())),
            }),
            Some(Err(error)) => Err(error.clone()),
            None => Err(AppendError::Closed),
        }
    }
}

impl IntoFuture for Ticket {
    type Output = Result<RecordMetadata, AppendError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// Waits for the answer.
    ///
    /// # Cancel safety
    /// Nothing is cancelled by dropping it but the waiting.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            self.outcome.wait().await;
            self.take()
        })
    }
}
