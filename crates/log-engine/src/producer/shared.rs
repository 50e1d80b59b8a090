//! What a producer's handles and the sender thread share.
//!
//! One lock guards it all, and is never held while a disk or another thread is waited for, but for
//! the moments in which a topic is used for the first time. Whoever holds it may take a log's lock
//! or the senders' queue, never the other way round.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use record_batch::BatchBuilder;
use sync::atomic::{AtomicBool, Ordering};
use sync::{Mutex, MutexGuard};

use super::ProducerCounts;
use super::builder::Settings;
use super::lane::{Lane, LaneNews};
use super::named::Source;
use super::route::Route;
use super::ticket::{Outcome, Stored, Ticket};
use crate::append_id::AppendId;
use crate::engine::Handle;
use crate::error::{AppendError, SendError};
use crate::panics::caught;
use crate::record::Record;
use crate::signal::Signal;
use crate::transport::Transport;

/// Failures kept for the next flush, at most; it reports one of them.
const FAILURES_MAX: usize = 1_000;

/// What a producer's handles and the sender thread share.
pub(crate) struct ProducerCore {
    pub(super) engine: Arc<Handle>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) settings: Settings,
    pub(super) name: Option<String>,
    pub(super) resume_from: u64,
    pub(super) state: Mutex<State>,
    pub(super) room: Signal,
    is_queued: AtomicBool,
}

pub(super) struct State {
    pub(super) counts: ProducerCounts,
    /// Producer id and epoch of lanes to come, and since when, in elapsed ms.
    pub(super) identity: (i64, i16),
    pub(super) identity_ms: u64,
    pub(super) source: Option<Source>,
    pub(super) topics: HashMap<String, Route>,
    pub(super) lanes: Vec<Lane>,
    pub(super) buffered_bytes: usize,
    /// Why nothing can be sent any more.
    pub(super) stopped: Option<AppendError>,
    /// The name was taken over.
    pub(super) is_fenced: bool,
    pub(super) is_closing: bool,
    /// A record found no room: what lingers leaves.
    pub(super) is_starved: bool,
    /// When those who wait for room are to look at their deadlines, in elapsed ms.
    pub(super) room_ms: Option<u64>,
    /// Failed batches that some ticket did not look at.
    pub(super) failures: Vec<Arc<Outcome>>,
    /// Flushes that wait: nothing lingers meanwhile.
    pub(super) flushes: usize,
}

impl ProducerCore {
    pub(super) fn new(
        engine: Arc<Handle>,
        (transport, settings): (Arc<dyn Transport>, Settings),
        name: Option<String>,
        source: Option<Source>,
        identity: (i64, i16),
    ) -> ProducerCore {
        let identity_ms = engine.core.time.now().elapsed_ms;
        ProducerCore {
            engine,
            transport,
            settings,
            name,
            resume_from: source.as_ref().map_or(0, |source| source.resume_from),
            state: Mutex::new(State {
                counts: ProducerCounts::default(),
                identity,
                identity_ms,
                source,
                topics: HashMap::default(),
                lanes: Vec::new(),
                buffered_bytes: 0,
                stopped: None,
                is_fenced: false,
                is_closing: false,
                is_starved: false,
                room_ms: None,
                failures: Vec::new(),
                flushes: 0,
            }),
            room: Signal::default(),
            is_queued: AtomicBool::new(false),
        }
    }

    /// Makes it the holder of its name, and known to the engine.
    pub(super) fn register(self: &Arc<ProducerCore>) {
        if let (Some(name), Some(names)) = (&self.name, &self.engine.core.names) {
            names.set_holder(name, self);
        }
        self.engine.core.add_producer(self);
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.engine.core.time.now().elapsed_ms
    }

    /// Has the sender thread take a turn.
    pub(super) fn enqueue(self: &Arc<ProducerCore>) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.engine.core.senders.push(self.clone());
        }
    }

    /// Takes a turn: sends, looks at answers, sends again. Returns when the next one is due, in
    /// elapsed ms, and whether the producer is finished.
    pub(crate) fn turn(self: &Arc<ProducerCore>) -> (Option<u64>, bool) {
        self.is_queued.store(false, Ordering::Release);
        let waker = Waker::from(self.clone());
        let mut context = Context::from_waker(&waker);
        let mut state = self.state.lock();
        let next_ms = self.drive(&mut state, &mut context);
        let is_done = state.is_closing && state.is_idle();
        drop(state);
        if is_done {
            self.release();
        }
        (next_ms, is_done)
    }

    fn drive(&self, state: &mut State, context: &mut Context<'_>) -> Option<u64> {
        let now_ms = self.now_ms();
        let is_starved = std::mem::take(&mut state.is_starved);
        let hurry = state.is_closing || state.flushes > 0 || is_starved;
        state.set_floor();
        let mut next_ms = state.room_ms;
        if next_ms.is_some_and(|ms| now_ms >= ms) {
            next_ms = None;
            state.room_ms = None;
            self.room.notify();
        }
        for at in 0..state.lanes.len() {
            let news = match state.lanes.get_mut(at) {
                Some(lane) => lane.turn(&*self.transport, context, now_ms, hurry),
                None => break,
            };
            next_ms = [next_ms, self.take(state, news)]
                .into_iter()
                .flatten()
                .min();
        }
        next_ms
    }

    pub(super) fn take(&self, state: &mut State, news: LaneNews) -> Option<u64> {
        state.buffered_bytes = state.buffered_bytes.saturating_sub(news.freed_bytes);
        if !news.failed.is_empty() {
            state.failures.extend(news.failed);
            state.failures.retain(|outcome| outcome.has_unseen());
            state.failures.truncate(FAILURES_MAX);
        }
        state.counts += news.counts;
        if let Some(error) = news.stopped {
            state.stopped.get_or_insert(error);
        }
        if news.freed_bytes > 0 {
            self.room.notify();
        }
        news.next_ms
    }

    // What does not depend on where the record goes.
    fn check(&self, state: &mut State, record: &Record<'_>, bytes: usize) -> Result<(), SendError> {
        if state.is_fenced {
            let name = self.name.as_deref().unwrap_or_default().into();
            return Err(SendError::Fenced { name });
        }
        if let Some(error) = &state.stopped {
            return Err(SendError::Stopped(Box::new(error.clone())));
        }
        if state.is_closing || self.engine.core.is_closed() {
            return Err(SendError::Closed);
        }
        match (&state.source, record.source_position()) {
            (Some(source), Some(given)) => {
                if let Some(last) = source.last.filter(|&last| given <= last) {
                    return Err(SendError::PositionOrder { last, given });
                }
            }
            (None, None) => {}
            _ => return Err(SendError::Position),
        }
        if state.buffered_bytes + bytes > self.settings.buffer_bytes {
            state.is_starved = true;
            let (buffered, limit) = (state.buffered_bytes, self.settings.buffer_bytes);
            return Err(SendError::Full { buffered, limit });
        }
        Ok(())
    }

    /// Puts a record into its lane, and sends what may leave at once. The producer is as before
    /// after an error.
    pub(super) fn send(self: &Arc<ProducerCore>, record: &Record<'_>) -> Result<Ticket, SendError> {
        let name = record.topic().ok_or(SendError::NoTopic)?;
        let (bytes, size) = (record.size_upper_bound(), record.batch_size_upper_bound());
        let too_large = |limit, setting| {
            let topic = name.into();
            Err(SendError::TooLarge {
                topic,
                bytes: size,
                limit,
                setting,
            })
        };
        if size > self.settings.max_record_bytes {
            return too_large(self.settings.max_record_bytes, "max_record_bytes");
        }
        let mut state = self.state.lock();
        if let Err(error) = self.check(&mut state, record, bytes) {
            let is_full = matches!(error, SendError::Full { .. });
            drop(state);
            if is_full {
                self.enqueue();
            }
            return Err(error);
        }
        let at = self.lane_for(&mut state, name, record, bytes)?;
        let position = record.source_position();
        if let Some(ticket) = state.skipped(at, record) {
            return Ok(ticket);
        }
        let now = self.engine.core.time.now();
        self.refresh(&mut state, at, now.elapsed_ms)?;
        let State {
            lanes,
            buffered_bytes,
            source,
            ..
        } = &mut *state;
        let Some(lane) = lanes.get_mut(at) else {
            return Err(SendError::Closed);
        };
        if let Some((limit, setting)) = lane.limit_below(size) {
            return too_large(limit, setting);
        }
        let was_idle = lane.is_idle();
        let timestamp = record.timestamp_ms().unwrap_or(now.wall_ms);
        let push = |batch: &mut BatchBuilder, is_first| match position {
            Some(_) if is_first => record.push_first_to(batch, timestamp),
            _ => record.push_to(batch, timestamp),
        };
        let placed = lane
            .push(now.elapsed_ms, bytes, position, push)
            .map_err(|error| SendError::Invalid {
                topic: name.into(),
                error,
            })?;
        *buffered_bytes += bytes;
        if let (Some(source), Some(position)) = (source, position) {
            source.last = Some(position);
        }
        let ticket = Ticket {
            outcome: placed.outcome,
            id: AppendId {
                topic: lane.partition.state.topic.clone(),
                topic_id: lane.topic_id,
                partition: lane.partition.state.index,
                producer_id: placed.identity.producer_id,
                producer_epoch: placed.identity.producer_epoch,
                sequence: placed.identity.base_sequence,
                index: placed.index,
            },
            timestamp,
        };
        self.after_push(state, at, was_idle || placed.index == 0);
        Ok(ticket)
    }

    // An id that the log may have forgotten, or forgets before the batch arrives, is not given to a
    // record: its append id would lead nowhere (I18).
    fn refresh(&self, state: &mut State, at: usize, now_ms: u64) -> Result<(), SendError> {
        let is_stale = |lane: &Lane| lane.is_stale(now_ms);
        if state.lanes.get(at).is_some_and(is_stale) {
            let producer_id = self.engine.core.allocate_producer_id()?;
            state.identity = (producer_id, 0);
            state.identity_ms = now_ms;
            if let Some(lane) = state.lanes.get_mut(at) {
                lane.renew(producer_id, now_ms);
            }
        }
        Ok(())
    }

    // On this thread while nothing is in the way; the sender thread sees to the rest.
    fn after_push(
        self: &Arc<ProducerCore>,
        mut state: MutexGuard<'_, State>,
        at: usize,
        begins: bool,
    ) {
        let now_ms = self.now_ms();
        state.set_floor();
        let Some(lane) = state.lanes.get_mut(at) else {
            return;
        };
        if !lane.is_sendable(now_ms) {
            // A timer is set when the batch begins to fill.
            if begins && lane.lingers() {
                drop(state);
                self.enqueue();
            }
            return;
        }
        let waker = Waker::from(self.clone());
        let mut context = Context::from_waker(&waker);
        let Ok(news) = caught(|| lane.turn(&*self.transport, &mut context, now_ms, false)) else {
            // A transport that panicked, as in `Senders::take_turn`: whoever has a ticket is told.
            drop(state);
            return self.abandon();
        };
        let next_ms = self.take(&mut state, news);
        drop(state);
        if next_ms.is_some() {
            self.enqueue();
        }
    }

    /// What became of a record of this producer that has no answer yet.
    pub(crate) fn unanswered_outcome(&self, id: &AppendId) -> Option<Arc<Outcome>> {
        let state = self.state.lock();
        let lane = state.lanes.iter().find(|lane| lane.is_lane_of(id))?;
        lane.unanswered_outcome(id.sequence)
    }

    /// Somebody waits for room, and wants to be woken at that time, in elapsed ms.
    pub(super) fn wait_for_room_until(self: &Arc<ProducerCore>, deadline_ms: u64) {
        let mut state = self.state.lock();
        let soonest = state.room_ms.map_or(deadline_ms, |ms| ms.min(deadline_ms));
        state.room_ms = Some(soonest);
        drop(state);
        self.enqueue();
    }

    /// Wakes those who wait for room, so that they look at their deadline.
    pub(crate) fn wake_senders(&self) {
        if self.room.is_waited_for() {
            self.room.notify();
        }
    }
}

impl State {
    pub(super) fn is_idle(&self) -> bool {
        self.lanes.iter().all(Lane::is_idle)
    }

    // What batches say of the source from now on.
    fn set_floor(&mut self) {
        let Some(source) = &self.source else { return };
        let undurable = self.lanes.iter_mut().filter_map(Lane::undurable).min();
        let floor = source.floor(undurable);
        for lane in &mut self.lanes {
            lane.set_floor(floor);
        }
    }

    // The ticket of a record that an earlier run stored; it is not sent again.
    fn skipped(&mut self, at: usize, record: &Record<'_>) -> Option<Ticket> {
        let (source, position) = (self.source.as_mut()?, record.source_position()?);
        let lane = self.lanes.get(at)?;
        let (topic_id, partition) = (lane.topic_id, lane.partition.state.index);
        if !source.is_stored((topic_id, partition), record, position) {
            return None;
        }
        source.last = Some(position);
        self.counts.skipped += 1;
        let outcome = Outcome::default();
        outcome.set(Ok(Stored {
            base_offset: None,
            duplicate: true,
            timestamp: None,
        }));
        let topic = lane.partition.state.topic.clone();
        Some(Ticket {
            outcome: Arc::new(outcome),
            id: AppendId::skipped((topic, topic_id), partition, self.identity),
            timestamp: record.timestamp_ms().unwrap_or(0),
        })
    }
}

impl Wake for ProducerCore {
    // Always into the queue: were this the last handle of the engine, dropping it here would close
    // the engine on whatever thread woke it, the committer's for one, which closing waits for.
    fn wake(self: Arc<ProducerCore>) {
        let core = self.engine.core.clone();
        if self.is_queued.swap(true, Ordering::AcqRel) {
            core.senders.bury(self);
        } else {
            core.senders.push(self);
        }
    }
}
