//! Records as a stream.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::task::coop;

use super::{Reader, Waiting};
use crate::consumed_record::ConsumedRecord;
use crate::error::ReadError;

/// A reader's records as a `Stream`, under any executor.
///
/// It ends where the reader ends; one that follows goes on until the engine closes or the topic is
/// deleted, which is its last error. Errors at which a reader stays where it is, such as
/// [`ReadError::Deleted`], end it too: [`RecordStream::into_reader`] gives the reader back, to
/// [`seek`](Reader::seek) and go on. Under tokio it lets other tasks have their turn.
///
/// # Cancel safety
/// Nothing is lost by dropping a pending `next`, of this type or of an extension trait, nor by
/// dropping the stream: the next record is then still the next one of a stream that is opened at
/// the same place.
///
/// ```
/// use log_engine::{Engine, ReadError};
///
/// async fn print_from_now_on(engine: &Engine) -> Result<(), ReadError> {
///     let mut live = engine.reader("orders").follow().stream()?;
///     while let Some(record) = live.next().await.transpose()? {
///         println!("{} {:?}", record.offset(), record.value());
///     }
///     Ok(())
/// }
/// ```
#[must_use = "a stream reads nothing unless it is polled"]
pub struct RecordStream {
    reader: Reader,
    /// Kept from poll to poll, so that the task that polled last is the one that is woken.
    waiting: Option<Waiting>,
    has_ended: bool,
}

impl RecordStream {
    pub(super) fn new(reader: Reader) -> RecordStream {
        RecordStream {
            reader,
            waiting: None,
            has_ended: false,
        }
    }

    /// The next record; `None` at the end.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping it.
    pub async fn next(&mut self) -> Option<Result<ConsumedRecord, ReadError>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// The next offset to be read of a partition; `None` when it is not among those read.
    pub fn position(&self, partition: u32) -> Option<u64> {
        self.reader.position(partition)
    }

    /// The reader, at the record that would have come next.
    pub fn into_reader(self) -> Reader {
        self.reader
    }

    fn note_end(&mut self, answer: Option<&Result<ConsumedRecord, ReadError>>) {
        self.has_ended = match answer {
            // The reader goes on behind that batch.
            Some(Ok(_) | Err(ReadError::Malformed { .. })) => false,
            Some(Err(_)) | None => true,
        };
    }
}

impl Stream for RecordStream {
    type Item = Result<ConsumedRecord, ReadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.has_ended {
            return Poll::Ready(None);
        }
        let turn = ready!(coop::poll_proceed(context));
        loop {
            if let Some(waiting) = &mut this.waiting {
                ready!(Pin::new(waiting).poll(context));
                this.waiting = None;
            }
            if let Some(answer) = this.reader.try_record() {
                turn.made_progress();
                this.note_end(answer.as_ref());
                return Poll::Ready(answer);
            }
            this.waiting = Some(Waiting::for_more(&this.reader));
        }
    }
}

impl std::fmt::Debug for RecordStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordStream")
            .field("reader", &self.reader)
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}
