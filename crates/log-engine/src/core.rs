//! What the engine's handles and its threads share.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Weak};
use std::time::Instant;

use pid_allocator::{AllocateError, PidAllocator};
use segment_storage::Disk;
use sync::atomic::{AtomicBool, AtomicU64, Ordering};
use sync::thread::{self, JoinHandle};
use sync::{Mutex, RwLock, mpsc};

use crate::append_id::AppendId;
use crate::blocking;
use crate::committer::{self, Committer, Kind};
use crate::config::EngineConfig;
use crate::directory::{Directory, TopicEntry};
use crate::ends::State;
use crate::env::Time;
use crate::error::{CloseError, SessionError};
use crate::groups::Groups;
use crate::housekeeping::Timer;
use crate::lineage::Random;
use crate::names::Names;
use crate::panics::caught;
use crate::partition::{Follow, PartitionState, Source};
use crate::producer::{Outcome, ProducerCore};
use crate::segment_feeder::Feeder;
use crate::senders::Senders;
use crate::signal::Signal;
use crate::topics::TopicState;
use crate::transport::Transport;

/// The engine behind all of its handles.
pub(crate) struct Core {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) time: Time,
    pub(crate) config: EngineConfig,
    /// `None` where another process writes the directory.
    pub(crate) directory: Option<Directory>,
    pub(crate) producer_ids: Option<PidAllocator>,
    pub(crate) topics: RwLock<BTreeMap<Arc<str>, Arc<TopicState>>>,
    /// Held while topics are made or removed, so that one list is written at a time. Holds topics
    /// that could not be made or removed whole, until nothing of them is left.
    pub(crate) topic_changes: Mutex<Vec<TopicEntry>>,
    pub(crate) committer: Committer,
    pub(crate) feeder: Feeder,
    pub(crate) senders: Senders,
    /// How producers reach the logs, unless they say otherwise.
    pub(crate) transport: Option<Arc<dyn Transport>>,
    producers: Mutex<Vec<Weak<ProducerCore>>>,
    /// `None` where another process writes.
    pub(crate) names: Option<Names>,
    /// Held while a producer is opened, so that a name has one new holder at a time.
    pub(crate) name_changes: Mutex<()>,
    /// Told whenever the feeder has tried to reserve producer ids.
    ids_reserved: Signal,
    id_failures: AtomicU64,
    /// For the lineages of copies.
    pub(crate) random: Mutex<Random>,
    pub(crate) timer: Timer,
    pub(crate) groups: Groups,
    is_closed: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Core {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        time: Time,
        config: EngineConfig,
        directory: Option<Directory>,
        producer_ids: Option<PidAllocator>,
    ) -> Core {
        Core {
            disk,
            time,
            config,
            directory,
            producer_ids,
            topics: RwLock::default(),
            topic_changes: Mutex::default(),
            committer: Committer::default(),
            feeder: Feeder::default(),
            senders: Senders::default(),
            transport: None,
            producers: Mutex::default(),
            names: None,
            name_changes: Mutex::default(),
            ids_reserved: Signal::default(),
            id_failures: AtomicU64::new(0),
            random: Mutex::new(Random::new(0)),
            timer: Timer::default(),
            groups: Groups::default(),
            is_closed: AtomicBool::new(false),
            threads: Mutex::default(),
        }
    }

    /// A producer id that was never handed out before.
    ///
    /// # Errors
    /// [`SessionError`].
    pub(crate) fn allocate_producer_id(&self) -> Result<i64, SessionError> {
        if self.is_closed() {
            return Err(SessionError::Closed);
        }
        let ids = self.producer_ids.as_ref().ok_or(SessionError::ReadOnly)?;
        let producer_id = match ids.allocate() {
            Ok(id) => id,
            // The feeder is late: ids are taken faster than the disk can reserve them.
            Err(AllocateError::Exhausted { .. }) => self.wait_for_producer_id(ids)?,
            Err(error) => return Err(error.into()),
        };
        if ids.needs_block() {
            self.feeder.want_producer_ids();
        }
        Ok(producer_id)
    }

    // Until the feeder has reserved a block, or could not; at most for the append timeout.
    fn wait_for_producer_id(&self, ids: &PidAllocator) -> Result<i64, SessionError> {
        let failures = self.id_failures.load(Ordering::Acquire);
        if self.config.is_driven {
            self.reserve_producer_ids();
        } else {
            self.feeder.want_producer_ids();
        }
        let answer = || match ids.allocate() {
            Err(AllocateError::Exhausted { .. }) if self.is_closed() => {
                Some(Err(SessionError::Closed))
            }
            Err(exhausted @ AllocateError::Exhausted { .. }) => {
                let failed = self.id_failures.load(Ordering::Acquire) != failures;
                failed.then(|| Err(exhausted.into()))
            }
            done => Some(done.map_err(SessionError::from)),
        };
        let reserved = self.ids_reserved.wait(answer);
        blocking::wait_for(self.config.append_timeout, reserved)
            .unwrap_or_else(|| Ok(ids.allocate()?))
    }

    /// Takes care of a producer, until it is done.
    pub(crate) fn add_producer(self: &Arc<Core>, producer: &Arc<ProducerCore>) {
        let mut producers = self.producers.lock();
        producers.retain(|producer| producer.strong_count() > 0);
        producers.push(Arc::downgrade(producer));
    }

    /// Starts the thread that drives producers, unless it runs: without it they would send nothing.
    ///
    /// # Errors
    /// When it cannot be started; the next call tries again.
    pub(crate) fn start_sender(self: &Arc<Core>) -> io::Result<()> {
        if self.config.is_driven || !self.senders.starts() {
            return Ok(());
        }
        let core = self.clone();
        let started = self.spawn("oncelog-sender", move || core.senders.work(&core.time));
        if started.is_err() {
            self.senders.did_not_start();
        }
        started
    }

    pub(crate) fn live_producers(&self) -> Vec<Arc<ProducerCore>> {
        self.producers
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// The outcome that a record still under way will have.
    pub(crate) fn unanswered_outcome(&self, id: &AppendId) -> Option<Arc<Outcome>> {
        self.live_producers()
            .iter()
            .find_map(|producer| producer.unanswered_outcome(id))
    }

    /// Has every log know the named producers for good, and forget positions of ids that no name
    /// has any more. Notes which logs lost what they knew of which name (I18).
    ///
    /// # Errors
    /// When that cannot be stored. It has to be before the logs are written to: their next snapshots
    /// do not say it any more.
    pub(crate) fn keep_names(&self) -> io::Result<()> {
        let Some(names) = &self.names else {
            return Ok(());
        };
        let ids: BTreeSet<i64> = names.all().into_iter().map(|(_, id)| id).collect();
        let mut lost = Vec::new();
        for topic in self.topics.read().values() {
            for partition in &topic.partitions {
                let Some(mut log) = partition.log() else {
                    continue;
                };
                let is_lost = log.is_history_lost();
                let producers = log.producers_mut();
                ids.iter().for_each(|&id| producers.keep(id));
                producers.sources_mut().retain(|id| ids.contains(&id));
                if is_lost {
                    let known: BTreeSet<i64> =
                        producers.sources().positions().map(|(id, _)| id).collect();
                    lost.push(((topic.entry.id, partition.index), known));
                }
            }
        }
        names.update(|identity| {
            for (log, known) in &lost {
                if identity.wrote_to(log.0) && !known.contains(&identity.producer_id) {
                    identity.lost.insert(*log);
                }
            }
        })
    }

    // Hands over what producers have buffered, before appends are refused.
    fn close_producers(self: &Arc<Core>) {
        let producers = self.live_producers();
        for producer in &producers {
            producer.begin_close();
        }
        if self.config.is_driven {
            let mut turns = 0..;
            while turns.next().is_some_and(|turn| self.step(turn)) {}
            return producers.iter().for_each(|producer| producer.abandon());
        }
        let until = Instant::now() + self.config.close_timeout / 2;
        for producer in producers {
            let left = until.saturating_duration_since(Instant::now());
            if blocking::wait_for(left, producer.drain()).is_none() {
                producer.abandon();
            }
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Starts the threads that drive the turns.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(crate) fn start(self: &Arc<Core>) -> io::Result<()> {
        if self.config.is_driven {
            return Ok(());
        }
        let core = self.clone();
        self.spawn("oncelog-timer", move || core.keep_time())?;
        if self.directory.is_some() {
            let core = self.clone();
            self.committer.add_worker();
            self.spawn("oncelog-commit", move || core.commit_turns())?;
            let core = self.clone();
            self.spawn("oncelog-feeder", move || {
                core.feeder
                    .work(|| core.reserve_producer_ids(), || core.save_time());
            })?;
        }
        Ok(())
    }

    fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work)?;
        self.threads.lock().push(thread);
        Ok(())
    }

    pub(crate) fn reserve_producer_ids(&self) {
        if let Some(ids) = &self.producer_ids
            && ids.needs_block()
        {
            // A failure shows to whoever finds no id left, and housekeeping asks again.
            let reserved = caught(|| ids.reserve(self.time.now().elapsed_ms));
            if !matches!(reserved, Ok(Ok(()))) {
                self.id_failures.fetch_add(1, Ordering::AcqRel);
            }
        }
        self.ids_reserved.notify();
    }

    /// Does what an append left to do for others.
    pub(crate) fn follow_up(self: &Arc<Core>, partition: &Arc<PartitionState>, follow: Follow) {
        if follow.feed {
            self.feeder.enqueue(partition);
        }
        if follow.sync {
            self.commit(partition);
        } else if follow.turn {
            let more = self.committer.enqueue(partition, Kind::Sync);
            self.more_workers(more);
        }
        if follow.upkeep {
            self.keep_up(partition);
        }
        if follow.flush_later && !follow.sync {
            self.timer.flush_later(partition);
        }
    }

    fn keep_up(self: &Arc<Core>, partition: &Arc<PartitionState>) {
        let more = self.committer.enqueue(partition, Kind::Upkeep);
        self.more_workers(more);
    }

    /// Syncs everything that was written to a partition, on this thread.
    pub(crate) fn commit_now(&self, partition: &Arc<PartitionState>) {
        committer::turn_now(partition, &self.time);
    }

    /// Has everything that was written to a partition synced.
    pub(crate) fn commit(self: &Arc<Core>, partition: &Arc<PartitionState>) {
        let more = self.committer.sync(partition);
        self.more_workers(more);
    }

    pub(crate) fn more_workers(self: &Arc<Core>, more: bool) {
        if more && !self.config.is_driven {
            let core = self.clone();
            // With fewer workers the others do it; the first one is started with the engine.
            if self
                .spawn("oncelog-commit", move || core.commit_turns())
                .is_err()
            {
                self.committer.remove_worker();
            }
        }
    }

    fn commit_turns(self: &Arc<Core>) {
        self.committer.work(&self.time, &|| self.more_workers(true));
    }

    pub(crate) fn save_time(&self) {
        if let Some(directory) = &self.directory {
            // Without it a crash makes producers live longer, never shorter.
            let _ = directory.save_time(self.time.now());
        }
    }

    pub(crate) fn partitions(&self) -> Vec<Arc<PartitionState>> {
        let topics = self.topics.read();
        topics
            .values()
            .flat_map(|topic| topic.partitions.iter().cloned())
            .collect()
    }

    /// Closes everything cleanly, unless that was done: refuses appends, takes the last turns,
    /// ends the threads. Waits at most for the close timeout.
    ///
    /// # Errors
    /// What could not be closed cleanly. The next open recovers it.
    pub(crate) fn close(self: &Arc<Core>) -> Result<(), CloseError> {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let outcome = if self.config.is_driven {
            self.close_logs()
        } else {
            self.close_logs_in_time()
        };
        self.ids_reserved.notify();
        self.groups.wake_all();
        self.committer.stop();
        self.feeder.stop();
        self.senders.stop();
        self.timer.stop();
        if !matches!(outcome, Err(CloseError::TimedOut { .. })) {
            self.join_threads();
            // Nobody writes any more, so another engine may, though handles of this one live on.
            if let Some(directory) = &self.directory {
                directory.unlock();
            }
        }
        outcome
    }

    // One that ends may have started another, and takes the lock for that.
    fn join_threads(&self) {
        let me = thread::current().id();
        loop {
            let threads = std::mem::take(&mut *self.threads.lock());
            if threads.is_empty() {
                return;
            }
            for thread in threads {
                if thread.thread().id() != me {
                    let _ = thread.join();
                }
            }
        }
    }

    fn close_logs_in_time(self: &Arc<Core>) -> Result<(), CloseError> {
        let (done, closed) = mpsc::channel();
        let core = self.clone();
        let work = move || {
            let _ = done.send(core.close_logs());
        };
        let timeout = self.config.close_timeout;
        match self.spawn("oncelog-close", work) {
            Ok(()) => closed.recv_timeout(timeout).unwrap_or_else(|_| {
                self.give_up();
                let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                Err(CloseError::TimedOut { timeout_ms })
            }),
            // No thread to be had: then this one, without a deadline.
            Err(_) => self.close_logs(),
        }
    }

    // The disk did not answer in time: nobody waits for it any longer (I32).
    fn give_up(&self) {
        for partition in self.partitions() {
            partition.ends.begin_close();
            partition.ends.set_state(State::Closed);
        }
    }

    fn close_logs(self: &Arc<Core>) -> Result<(), CloseError> {
        // Whoever makes a name or a topic, or removes one, is let finish: it writes in the
        // directory, and its logs have to be closed. Whoever comes after it looks, and is refused.
        drop(self.name_changes.lock());
        drop(self.topic_changes.lock());
        self.close_producers();
        let mut outcome = Ok(());
        // All at once: no log takes appends while another is being closed, for nobody would sync
        // them.
        for partition in self.partitions() {
            partition.refuse_appends();
            // Whoever moves the log's start is let finish; nobody begins to any more.
            drop(partition.deleting.lock());
        }
        for partition in self.partitions() {
            if !matches!(partition.source, Source::Writer(_)) {
                partition.ends.set_state(State::Closed);
                continue;
            }
            let fenced = partition.ends.state() == State::Fenced;
            if let Err(error) = committer::close(&partition, &self.time)
                && outcome.is_ok()
            {
                let log = partition.name();
                outcome = Err(CloseError::Log {
                    log,
                    source: Arc::new(error),
                });
            }
            if fenced {
                partition.ends.wake();
            } else {
                partition.ends.set_state(State::Closed);
            }
        }
        if let Some(directory) = &self.directory
            && let Err(error) = directory.save_time(self.time.now())
            && outcome.is_ok()
        {
            let log = crate::directory::GENERATION.to_owned();
            outcome = Err(CloseError::Log {
                log,
                source: Arc::new(error),
            });
        }
        outcome
    }
}
