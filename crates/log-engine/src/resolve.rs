//! What became of an append whose answer is missing (I7). Never a guess.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use partition_log::{Now, ProducerView, UnknownProducerPolicy};
use record_batch::BatchHeader;
use segment_storage::Cursor;

use crate::append_id::AppendId;
use crate::blocking;
use crate::config::Ack;
use crate::ends::State;
use crate::engine::Engine;
use crate::error::{ReadError, ResolveError, TopicError};
use crate::partition::{PartitionState, Source};

/// What became of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolution {
    /// It is in the log, as durable as its topic promises. The offset is `None` for a record that
    /// was not sent because an earlier run had stored it.
    Written {
        /// The record's offset.
        offset: Option<u64>,
    },
    /// It is not in the log, and never will be: safe to send anew.
    NotWritten,
    /// The log cannot know any more.
    Forgotten(Forgotten),
}

/// Why a log cannot know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Forgotten {
    /// The topic is gone, and all that was in it.
    #[error("topic {0} does not exist any more")]
    TopicDeleted(Arc<str>),
    /// The record would be among those that were deleted, or after them.
    #[error("records below offset {log_start} were deleted, and it may have been one of them")]
    RecordsDeleted {
        /// First offset that is left.
        log_start: u64,
    },
}

impl Engine {
    /// Says what became of an append: also in another run than it was made in. While the record is
    /// still under way, waits for its answer; else the log knows, and an append that is not in it
    /// is fenced off, so that it never will be.
    ///
    /// Reads the log from its start when the append is older than its producer's window: on this
    /// thread, and for as long as the disk takes. It waits for others at most for the engine's
    /// append timeout.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping it.
    ///
    /// # Errors
    /// [`ResolveError`]; after [`ResolveError::TimedOut`] ask again.
    pub async fn resolve(&self, id: &AppendId) -> Result<Resolution, ResolveError> {
        let core = self.core();
        if core.is_closed() {
            return Err(ResolveError::Closed);
        }
        if id.sequence < 0 {
            return Ok(Resolution::Written { offset: None });
        }
        let forgotten = || Resolution::Forgotten(Forgotten::TopicDeleted(id.topic.clone()));
        // Another topic may have that name by now.
        let topic = match self.topic(&id.topic) {
            Ok(topic) => Some(topic).filter(|topic| topic.id() == id.topic_id),
            Err(TopicError::Closed) => return Err(ResolveError::Closed),
            Err(_) => None,
        };
        let Some(partition) = topic.and_then(|topic| topic.partition(id.partition).ok()) else {
            return Ok(forgotten());
        };
        let state = &partition.state;
        let timeout = core.config.append_timeout.as_millis();
        let timeout_ms = u64::try_from(timeout).unwrap_or(u64::MAX);
        let deadline_ms = core.time.now().elapsed_ms.saturating_add(timeout_ms);
        let late = || {
            let is_late = core.time.now().elapsed_ms >= deadline_ms;
            is_late.then(|| ResolveError::TimedOut {
                topic: id.topic.clone(),
                partition: id.partition,
                timeout_ms,
            })
        };
        if let Some(outcome) = core.unanswered_outcome(id)
            && let Ok(stored) = first_of(outcome.wait(), state.ends.wait(late)).await?
        {
            let offset = stored.base_offset.map(|base| base + u64::from(id.index));
            return Ok(Resolution::Written { offset });
        }
        let resolution = look_up(state, id, core.time.now())?;
        let Resolution::Written {
            offset: Some(offset),
        } = resolution
        else {
            return Ok(resolution);
        };
        if state.config.ack() != Ack::Synced || state.ends.synced() > offset {
            return Ok(resolution);
        }
        core.commit(state);
        let ended = || match state.ends.state() {
            _ if state.ends.synced() > offset => Some(Ok(resolution.clone())),
            State::Open => late().map(Err),
            State::Deleted => Some(Ok(forgotten())),
            State::Closed => Some(Err(ResolveError::Closed)),
            State::Fenced => Some(Err(ResolveError::NotDurable {
                topic: id.topic.clone(),
                partition: id.partition,
            })),
        };
        state.ends.wait(ended).await
    }

    /// As [`Engine::resolve`], waiting on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// As [`Engine::resolve`].
    pub fn blocking_resolve(&self, id: &AppendId) -> Result<Resolution, ResolveError> {
        blocking::wait("blocking_resolve", "resolve", self.resolve(id))
    }
}

// What the first future gives, or the error that the second one ends with before it.
async fn first_of<T, E>(
    first: impl Future<Output = T>,
    second: impl Future<Output = E>,
) -> Result<T, E> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|context| match first.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Ok(value)),
        Poll::Pending => second.as_mut().poll(context).map(Err),
    })
    .await
}

fn look_up(
    state: &Arc<PartitionState>,
    id: &AppendId,
    now: Now,
) -> Result<Resolution, ResolveError> {
    if let Source::Damaged(corruption) = &state.source {
        return Err(ReadError::Damaged(corruption.clone()).into());
    }
    let log = state.log_with(id.producer_id, now);
    let Some(mut log) = log.map_err(|e| state.read_error(e))? else {
        return Err(ResolveError::ReadOnly);
    };
    let known = log.producers().get(id.producer_id);
    let passed = known.as_ref().map(|view| stands(view, id));
    match passed {
        Some(Stands::In { offset }) => {
            return Ok(Resolution::Written {
                offset: Some(offset),
            });
        }
        // Whatever comes now with this sequence or epoch is refused.
        Some(Stands::Behind) => {}
        Some(Stands::Ahead) | None => {
            let epoch = id.producer_epoch.saturating_add(1);
            log.producers_mut()
                .sources_mut()
                .fence(id.producer_id, epoch);
        }
    }
    // Under the policy `kafka` a producer that was forgotten is taken up again with whatever comes,
    // so what is known of it may be less than what the log holds.
    let is_all_known = log.config().producers.unknown == UnknownProducerPolicy::Strict;
    if passed == Some(Stands::Ahead) && is_all_known {
        return Ok(Resolution::NotWritten);
    }
    let end = log.next_offset();
    drop(log);
    scan(state, id, end)
}

/// Where an append stands to what a partition knows of its producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// In the window.
    In { offset: u64 },
    /// Before the window, or of an epoch that is over.
    Behind,
    /// Not reached yet.
    Ahead,
}

fn stands(view: &ProducerView, id: &AppendId) -> Stands {
    match view.epoch.cmp(&id.producer_epoch) {
        std::cmp::Ordering::Greater => return Stands::Behind,
        std::cmp::Ordering::Less => return Stands::Ahead,
        std::cmp::Ordering::Equal => {}
    }
    // Modulo 2^31; what is less than half of that away lies ahead.
    let distance = |from: i32| (i64::from(id.sequence) - i64::from(from)) & i64::from(i32::MAX);
    for batch in &view.window {
        let within = u64::try_from(distance(batch.first_sequence)).unwrap_or(0);
        if within < u64::from(batch.count) {
            return Stands::In {
                offset: batch.base_offset + within,
            };
        }
    }
    match view.window.last() {
        Some(newest) if distance(newest.last_sequence) > i64::from(i32::MAX / 2) => Stands::Behind,
        _ => Stands::Ahead,
    }
}

// The whole log up to `end`: unpublished batches, too, for they are in it.
fn scan(state: &Arc<PartitionState>, id: &AppendId, end: u64) -> Result<Resolution, ResolveError> {
    let view = state.reader.view();
    let log_start = view.start();
    let mut cursor = Cursor::at(log_start);
    let read_error = |e: segment_storage::ReadError| ResolveError::Read(e.into());
    while let Some(run) = view.read(&mut cursor, end, 1 << 20).map_err(read_error)? {
        let mut rest = run.bytes;
        while let Some(header) = next_header(&mut rest) {
            if (header.producer_id, header.producer_epoch) != (id.producer_id, id.producer_epoch) {
                continue;
            }
            let distance = i64::from(id.sequence) - i64::from(header.base_sequence);
            let distance = distance & i64::from(i32::MAX);
            if header.base_sequence >= 0 && distance <= i64::from(header.last_offset_delta) {
                let offset = u64::try_from(header.base_offset.saturating_add(distance)).ok();
                return Ok(Resolution::Written { offset });
            }
        }
    }
    if log_start > 0 {
        return Ok(Resolution::Forgotten(Forgotten::RecordsDeleted {
            log_start,
        }));
    }
    Ok(Resolution::NotWritten)
}

fn next_header(rest: &mut Bytes) -> Option<BatchHeader> {
    let header = BatchHeader::read(rest).ok()?;
    let _ = rest.split_to(header.size().min(rest.len()));
    Some(header)
}
