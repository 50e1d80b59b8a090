//! [`Producer`]: records in, batches out, every record once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use partition_log::Rejection;
use record_batch::{BatchBuilder, Compression};

use crate::append_id::AppendId;
use crate::blocking;
use crate::config::Ack;
use crate::core::Core;
use crate::engine::{Engine, Handle};
use crate::error::{AppendError, SendError, SessionError};
use crate::partitioner::partition_for_key;
use crate::record::Record;
use crate::signal::Signal;
use crate::topic::Topic;
use crate::transport::{Direct, Transport};

mod lane;
mod named;
mod ticket;

use lane::{Lane, LaneNews, LaneSettings};
use named::Source;
pub(crate) use ticket::Outcome;
use ticket::Stored;
pub use ticket::{RecordMetadata, Ticket};

/// Opens a producer.
#[derive(Clone)]
pub struct ProducerBuilder {
    engine: Engine,
    settings: Settings,
    transport: Arc<dyn Transport>,
    name: Option<String>,
    take_over: bool,
    repartition: bool,
}

#[derive(Debug, Clone)]
struct Settings {
    compression: Compression,
    linger: Duration,
    batch_bytes: usize,
    buffer_bytes: usize,
    max_record_bytes: usize,
    max_in_flight: usize,
    delivery_timeout: Duration,
    max_block: Duration,
    ack: Option<Ack>,
    create_partitions: Option<u32>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            compression: Compression::None,
            linger: Duration::ZERO,
            batch_bytes: 64 << 10,
            buffer_bytes: 32 << 20,
            max_record_bytes: 1 << 20,
            max_in_flight: 5,
            delivery_timeout: Duration::from_secs(120),
            max_block: Duration::from_secs(60),
            ack: None,
            create_partitions: None,
        }
    }
}

impl ProducerBuilder {
    pub(crate) fn new(engine: &Engine) -> ProducerBuilder {
        let transport = engine
            .core()
            .transport
            .clone()
            .unwrap_or_else(|| Arc::new(Direct));
        ProducerBuilder {
            engine: engine.clone(),
            settings: Settings::default(),
            transport,
            name: None,
            take_over: false,
            repartition: false,
        }
    }

    /// Gives the producer a name that survives restarts. One handle has it at a time; after a
    /// crash it is free at once. Every record needs a [`Record::position`]; what an earlier run
    /// stored is not stored again, and [`Producer::resume_from`] says where to go on.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> ProducerBuilder {
        self.name = Some(name.into());
        self
    }

    /// Takes the name from a handle that has it: that one is fenced, everywhere, before this one
    /// reads where to go on.
    #[must_use]
    pub fn take_over(mut self) -> ProducerBuilder {
        self.take_over = true;
        self
    }

    /// Accepts topics that have another number of partitions than when the name first wrote there.
    /// Records then go to other partitions than before, where what is stored is not recognised:
    /// send only what is known not to be stored.
    #[must_use]
    pub fn repartition(mut self) -> ProducerBuilder {
        self.repartition = true;
        self
    }

    /// Compresses batches. Default: not.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> ProducerBuilder {
        self.settings.compression = compression;
        self
    }

    /// How long a batch waits for more records although it could leave. Default 0: batches form
    /// while others are in flight.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> ProducerBuilder {
        self.settings.linger = linger;
        self
    }

    /// Bytes at which a batch is full, before compression. Default 64 KiB. A record that is larger
    /// gets a batch of its own.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> ProducerBuilder {
        self.settings.batch_bytes = bytes;
        self
    }

    /// Bytes of records without an answer at which sending waits for room. Default 32 MiB.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> ProducerBuilder {
        self.settings.buffer_bytes = bytes;
        self
    }

    /// Largest record, as an encoded batch of one. Default 1 MiB.
    #[must_use]
    pub fn max_record_bytes(mut self, bytes: usize) -> ProducerBuilder {
        self.settings.max_record_bytes = bytes;
        self
    }

    /// Batches of a partition that may be unanswered at a time, 1 up to the topic's
    /// `producer.window`, which bounds it. Default 5.
    #[must_use]
    pub fn max_in_flight(mut self, batches: usize) -> ProducerBuilder {
        self.settings.max_in_flight = batches;
        self
    }

    /// How long a record is tried before its ticket says that it failed, or that its outcome is
    /// not known. Default 120 s.
    #[must_use]
    pub fn delivery_timeout(mut self, timeout: Duration) -> ProducerBuilder {
        self.settings.delivery_timeout = timeout;
        self
    }

    /// How long `send` and `blocking_send` wait for room. Default 60 s.
    #[must_use]
    pub fn max_block(mut self, wait: Duration) -> ProducerBuilder {
        self.settings.max_block = wait;
        self
    }

    /// Answers at a higher level than topics ask for. A lower one is refused when sending.
    #[must_use]
    pub fn ack(mut self, ack: Ack) -> ProducerBuilder {
        self.settings.ack = Some(ack);
        self
    }

    /// Creates topics that are missing, with that many partitions, instead of refusing the record.
    #[must_use]
    pub fn create_topics(mut self, partitions: u32) -> ProducerBuilder {
        self.settings.create_partitions = Some(partitions);
        self
    }

    /// Carries batches over another way than a call: one that loses answers, for tests.
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> ProducerBuilder {
        self.transport = Arc::new(transport);
        self
    }

    /// Opens the producer: a new session, with a producer id that was never used.
    ///
    /// # Errors
    /// [`SendError`]: settings that cannot be, or no producer id.
    pub fn open(self) -> Result<Producer, SendError> {
        let settings = self.settings;
        if settings.max_in_flight == 0 {
            return Err(SendError::Setting {
                setting: "max_in_flight",
                allowed: "at least 1",
            });
        }
        if settings.batch_bytes == 0 || settings.buffer_bytes < settings.max_record_bytes {
            let allowed = "buffer_bytes at least max_record_bytes, batch_bytes at least 1";
            return Err(SendError::Setting {
                setting: "buffer_bytes",
                allowed,
            });
        }
        let engine_core = self.engine.core();
        if engine_core.is_closed() {
            return Err(SendError::Closed);
        }
        let _one_at_a_time = engine_core.name_changes.lock();
        let source = match &self.name {
            Some(name) => {
                free_name(engine_core, name, self.take_over)?;
                Some(named::take(engine_core, name, self.repartition)?)
            }
            None => None,
        };
        let identity = match &source {
            Some(source) => (source.identity.producer_id, source.identity.producer_epoch),
            None => (engine_core.allocate_producer_id()?, 0),
        };
        let core = Arc::new(ProducerCore {
            engine: self.engine.handle().clone(),
            transport: self.transport,
            name: self.name,
            resume_from: source.as_ref().map_or(0, |source| source.resume_from),
            state: Mutex::new(State {
                counts: ProducerCounts::default(),
                identity,
                source,
                topics: HashMap::default(),
                lanes: Vec::new(),
                buffered_bytes: 0,
                stopped: None,
                is_closing: false,
                failures: Vec::new(),
                flushes: 0,
            }),
            settings,
            room: Signal::default(),
            is_queued: AtomicBool::new(false),
        });
        if let (Some(name), Some(names)) = (&core.name, &engine_core.names) {
            names.set_holder(name, &core);
        }
        engine_core.add_producer(&core);
        Ok(Producer {
            handle: Arc::new(ProducerHandle { core }),
        })
    }
}

// A name that another handle has is refused, or taken from it.
fn free_name(core: &Core, name: &str, take_over: bool) -> Result<(), SendError> {
    let Some(names) = &core.names else {
        return Err(SendError::Closed);
    };
    let Some(holder) = names.holder(name) else {
        return Ok(());
    };
    if !take_over {
        let holder = format!("a handle of process {}", std::process::id());
        return Err(SendError::NameInUse {
            name: name.into(),
            holder: holder.into(),
        });
    }
    holder.fence();
    names.release(name, &holder);
    Ok(())
}

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
        self.core.state.lock().is_closing = true;
        self.core.enqueue();
    }
}

/// What a producer's handles and the sender thread share.
pub(crate) struct ProducerCore {
    engine: Arc<Handle>,
    transport: Arc<dyn Transport>,
    settings: Settings,
    name: Option<String>,
    resume_from: u64,
    state: Mutex<State>,
    room: Signal,
    is_queued: AtomicBool,
}

/// What a producer did so far. All but `batches` are counts of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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

struct State {
    counts: ProducerCounts,
    /// Producer id and epoch of lanes to come.
    identity: (i64, i16),
    source: Option<Source>,
    topics: HashMap<String, Route>,
    lanes: Vec<Lane>,
    buffered_bytes: usize,
    /// Why nothing can be sent any more.
    stopped: Option<AppendError>,
    is_closing: bool,
    /// Failed batches that some ticket did not look at.
    failures: Vec<Arc<Outcome>>,
    /// Flushes that wait: nothing lingers meanwhile.
    flushes: usize,
}

/// Where the records of a topic go.
struct Route {
    topic: Topic,
    lanes: Vec<Option<usize>>,
    /// Partition of records without a key, until its batch is full.
    sticky: u32,
    sticky_bytes: usize,
}

impl ProducerCore {
    fn now_ms(&self) -> u64 {
        self.engine.core.time.now().elapsed_ms
    }

    /// Has the sender thread take a turn.
    pub(crate) fn enqueue(self: &Arc<ProducerCore>) {
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
        let is_idle = state.lanes.iter().all(Lane::is_idle);
        let is_done = state.is_closing && is_idle;
        drop(state);
        if is_done {
            self.release();
        }
        (next_ms, is_done)
    }

    fn drive(&self, state: &mut State, context: &mut Context<'_>) -> Option<u64> {
        let now_ms = self.now_ms();
        let hurry = state.is_closing || state.flushes > 0;
        set_floor(state);
        let mut next_ms: Option<u64> = None;
        for at in 0..state.lanes.len() {
            let news = match state.lanes.get_mut(at) {
                Some(lane) => lane.turn(&*self.transport, context, now_ms, hurry),
                None => break,
            };
            next_ms = [next_ms, self.take(state, at, news)]
                .into_iter()
                .flatten()
                .min();
        }
        next_ms
    }

    fn take(&self, state: &mut State, at: usize, news: LaneNews) -> Option<u64> {
        state.buffered_bytes = state.buffered_bytes.saturating_sub(news.freed_bytes);
        state.failures.extend(news.failed);
        state.counts += news.counts;
        let mut next_ms = news.next_ms;
        if news.wants_identity {
            match self.engine.core.allocate_producer_id() {
                Ok(producer_id) => {
                    state.identity = (producer_id, 0);
                    if let Some(lane) = state.lanes.get_mut(at) {
                        lane.renew(producer_id);
                    }
                    next_ms = Some(self.now_ms());
                }
                // Without an id the batch is tried again, and fails when its time is over.
                Err(_) => next_ms = Some(self.now_ms() + 50),
            }
        }
        if let Some(error) = news.stopped {
            state.stopped.get_or_insert(error);
        }
        if news.freed_bytes > 0 {
            self.room.notify();
        }
        next_ms
    }

    // Puts a record into its lane, and sends what may leave at once.
    fn send(self: &Arc<ProducerCore>, record: &Record<'_>) -> Result<Ticket, SendError> {
        let name = record.topic().ok_or(SendError::NoTopic)?;
        let bytes = record.size_upper_bound();
        let (size, limit) = (
            record.batch_size_upper_bound(),
            self.settings.max_record_bytes,
        );
        if size > limit {
            return Err(SendError::TooLarge {
                topic: name.into(),
                bytes: size,
                limit,
            });
        }
        let mut state = self.state.lock();
        if let Some(error) = &state.stopped {
            return Err(SendError::Stopped(Box::new(error.clone())));
        }
        if state.is_closing || self.engine.core.is_closed() {
            return Err(SendError::Closed);
        }
        if state.buffered_bytes + bytes > self.settings.buffer_bytes {
            let (buffered, limit) = (state.buffered_bytes, self.settings.buffer_bytes);
            return Err(SendError::Full { buffered, limit });
        }
        let position = record.source_position();
        match (&state.source, position) {
            (Some(source), Some(given)) => {
                if let Some(last) = source.last.filter(|&last| given <= last) {
                    return Err(SendError::PositionOrder { last, given });
                }
            }
            (None, None) => {}
            _ => return Err(SendError::Position),
        }
        let at = self.lane_for(&mut state, name, record, bytes)?;
        if let Some(ticket) = skipped(&mut state, at, position) {
            return Ok(ticket);
        }
        let now = self.engine.core.time.now();
        let State {
            lanes,
            buffered_bytes,
            source,
            ..
        } = &mut *state;
        let Some(lane) = lanes.get_mut(at) else {
            return Err(SendError::Closed);
        };
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
                partition: lane.partition.state.index,
                producer_id: placed.identity.producer_id,
                producer_epoch: placed.identity.producer_epoch,
                sequence: placed.identity.base_sequence,
                index: placed.index,
            },
            timestamp,
        };
        self.after_push(state, at, was_idle);
        Ok(ticket)
    }

    // On this thread while nothing is in the way; the sender thread sees to the rest.
    fn after_push(
        self: &Arc<ProducerCore>,
        mut state: parking_lot::MutexGuard<'_, State>,
        at: usize,
        was_idle: bool,
    ) {
        let now_ms = self.now_ms();
        set_floor(&mut state);
        let Some(lane) = state.lanes.get_mut(at) else {
            return;
        };
        if !lane.is_sendable(now_ms) {
            // A timer is set when the batch begins to fill.
            if was_idle {
                drop(state);
                self.enqueue();
            }
            return;
        }
        let waker = Waker::from(self.clone());
        let mut context = Context::from_waker(&waker);
        let news = lane.turn(&*self.transport, &mut context, now_ms, false);
        let next_ms = self.take(&mut state, at, news);
        drop(state);
        if next_ms.is_some() {
            self.enqueue();
        }
    }

    fn lane_for(
        &self,
        state: &mut State,
        name: &str,
        record: &Record<'_>,
        bytes: usize,
    ) -> Result<usize, SendError> {
        if !state.topics.contains_key(name) {
            let topic = self.topic(name)?;
            if let Some(source) = &mut state.source {
                source.pin(&self.engine.core, &topic)?;
            }
            let lanes = (0..topic.partitions()).map(|_| None).collect();
            let route = Route {
                topic,
                lanes,
                sticky: 0,
                sticky_bytes: 0,
            };
            state.topics.insert(name.to_owned(), route);
        }
        let State {
            topics,
            lanes,
            identity,
            source,
            ..
        } = state;
        let Some(route) = topics.get_mut(name) else {
            return Err(SendError::NoTopic);
        };
        let partition = match record.key_bytes() {
            Some(key) => partition_for_key(key, route.topic.partitions()),
            // A function of the record alone, so that it is the same in every run.
            None if source.is_some() => {
                let partitions = u64::from(route.topic.partitions().max(1));
                let position = record.source_position().unwrap_or(0);
                u32::try_from(position % partitions).unwrap_or(0)
            }
            None => route.next_sticky(bytes, self.settings.batch_bytes),
        };
        let slot = usize::try_from(partition).unwrap_or(usize::MAX);
        if let Some(Some(at)) = route.lanes.get(slot) {
            return Ok(*at);
        }
        let mut handle = route.topic.partition(partition)?;
        if let Some(ack) = self.settings.ack {
            handle = handle
                .raise_ack(ack)
                .map_err(|e| SendError::Stopped(Box::new(e)))?;
        }
        let window = usize::try_from(route.topic.config().producer_window()).unwrap_or(5);
        let milliseconds = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let settings = LaneSettings {
            compression: self.settings.compression,
            batch_bytes: self.settings.batch_bytes,
            linger_ms: milliseconds(self.settings.linger),
            in_flight_max: self.settings.max_in_flight.min(window),
            delivery_timeout_ms: milliseconds(self.settings.delivery_timeout),
            is_named: source.is_some(),
        };
        lanes.push(Lane::new((handle, route.topic.id()), settings, *identity));
        if let Some(place) = route.lanes.get_mut(slot) {
            *place = Some(lanes.len() - 1);
        }
        Ok(lanes.len() - 1)
    }

    fn topic(&self, name: &str) -> Result<Topic, SendError> {
        let engine = Engine::from_handle(self.engine.clone());
        match (engine.topic(name), self.settings.create_partitions) {
            (Err(crate::TopicError::UnknownTopic { .. }), Some(partitions)) => {
                Ok(engine.ensure_topic(name, partitions)?)
            }
            (found, _) => Ok(found?),
        }
    }

    fn unanswered(&self, state: &mut State) -> Vec<Arc<Outcome>> {
        state
            .lanes
            .iter()
            .flat_map(Lane::unanswered)
            .cloned()
            .collect()
    }

    /// Answers everything that is left: the engine closes and does not wait any longer.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        state.is_closing = true;
        for at in 0..state.lanes.len() {
            let news = state
                .lanes
                .get_mut(at)
                .map(|lane| lane.abandon(&AppendError::Closed));
            if let Some(news) = news {
                self.take(&mut state, at, news);
            }
        }
    }

    /// Stops the producer: its name was taken over.
    fn fence(&self) {
        let mut state = self.state.lock();
        let (producer_id, given) = state.identity;
        let rejection = Rejection::Fenced {
            producer_id,
            given,
            current: given.saturating_add(1),
        };
        for at in 0..state.lanes.len() {
            let Some(lane) = state.lanes.get_mut(at) else {
                break;
            };
            let (topic, partition) = (
                lane.partition.state.topic.clone(),
                lane.partition.state.index,
            );
            let rejection = rejection.clone();
            let news = lane.abandon(&AppendError::Rejected {
                topic,
                partition,
                rejection,
            });
            self.take(&mut state, at, news);
        }
        state.stopped = Some(AppendError::Rejected {
            topic: "".into(),
            partition: 0,
            rejection,
        });
        state.is_closing = true;
    }

    /// Lets go of the name.
    fn release(&self) {
        if let (Some(name), Some(names)) = (&self.name, &self.engine.core.names) {
            names.release(name, self);
        }
    }

    /// What became of a record of this producer that has no answer yet.
    pub(crate) fn unanswered_outcome(&self, id: &AppendId) -> Option<Arc<Outcome>> {
        let state = self.state.lock();
        let lane = state.lanes.iter().find(|lane| lane.is_lane_of(id))?;
        lane.unanswered_outcome(id.sequence)
    }

    /// Begins to close: what is buffered leaves, nothing more is taken.
    pub(crate) fn begin_close(self: &Arc<ProducerCore>) {
        self.state.lock().is_closing = true;
        self.enqueue();
    }

    /// Wakes those who wait for room, so that they look at their deadline.
    pub(crate) fn wake_senders(&self) {
        if self.room.is_waited_for() {
            self.room.notify();
        }
    }

    pub(crate) async fn flush(self: &Arc<ProducerCore>) -> Result<(), AppendError> {
        let outcomes = {
            let mut state = self.state.lock();
            state.flushes += 1;
            self.unanswered(&mut state)
        };
        // However this future ends, lingering begins again.
        let _flushing = Flushing(self);
        self.enqueue();
        for outcome in &outcomes {
            // What failed comes out below.
            let _ = outcome.wait().await;
        }
        let failures = std::mem::take(&mut self.state.lock().failures);
        let mut unseen = failures.iter().filter(|outcome| outcome.has_unseen());
        match unseen.next().and_then(|outcome| outcome.get()) {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

struct Flushing<'a>(&'a Arc<ProducerCore>);

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        self.0.state.lock().flushes -= 1;
    }
}

impl Wake for ProducerCore {
    fn wake(self: Arc<ProducerCore>) {
        self.enqueue();
    }
}

impl Route {
    fn next_sticky(&mut self, bytes: usize, batch_bytes: usize) -> u32 {
        if self.sticky_bytes > 0 && self.sticky_bytes + bytes > batch_bytes {
            self.sticky = (self.sticky + 1) % self.topic.partitions().max(1);
            self.sticky_bytes = 0;
        }
        self.sticky_bytes += bytes;
        self.sticky
    }
}

// What batches say of the source from now on.
fn set_floor(state: &mut State) {
    let Some(source) = &state.source else { return };
    let undurable = state.lanes.iter_mut().filter_map(Lane::undurable).min();
    let floor = source.floor(undurable);
    for lane in &mut state.lanes {
        lane.set_floor(floor);
    }
}

// The ticket of a record that an earlier run stored; it is not sent again.
fn skipped(state: &mut State, at: usize, position: Option<u64>) -> Option<Ticket> {
    let (source, position) = (state.source.as_mut()?, position?);
    let lane = state.lanes.get(at)?;
    let (topic, partition) = (lane.topic_id, lane.partition.state.index);
    if !source.is_stored(topic, partition, position) {
        return None;
    }
    source.last = Some(position);
    state.counts.skipped += 1;
    let outcome = Outcome::default();
    outcome.set(Ok(Stored {
        base_offset: None,
        duplicate: true,
        timestamp: None,
    }));
    let id = AppendId::skipped(
        lane.partition.state.topic.clone(),
        partition,
        state.identity,
    );
    Some(Ticket {
        outcome: Arc::new(outcome),
        id,
        timestamp: 0,
    })
}

impl Producer {
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
                Err(SendError::Full { .. }) if core.now_ms() < deadline => None,
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

    /// Closes the producer, for all its clones: sends what is buffered, waits for the answers, and
    /// has the log forget the session if nothing is in doubt.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn close(&self) -> Result<(), AppendError> {
        self.handle.core.state.lock().is_closing = true;
        let flushed = self.flush().await;
        let core = &self.handle.core;
        if flushed.is_ok() && core.name.is_none() {
            core.retire();
        }
        core.release();
        flushed
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

impl ProducerCore {
    // Nothing will be sent again under these ids, so no partition needs to know them (I18).
    fn retire(&self) {
        let state = self.state.lock();
        for lane in &state.lanes {
            if let Some(mut log) = lane.partition.state.log() {
                log.retire_producer(lane.producer_id());
            }
        }
    }
}

impl From<SessionError> for SendError {
    fn from(error: SessionError) -> SendError {
        SendError::Session(error)
    }
}
