//! A whole world: an engine on a simulated disk, its clients, the network between them, and the
//! models that judge every answer.

mod crash;
mod delivery;
mod inside;
mod reading;
mod topics;
mod upkeep;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use oncelog::testing::{Faults, FileSystem, SimulatedDisk};
use oncelog::{Ack, Clock, Engine, ManualClock, Partition, Rejection, TopicConfig};

use crate::clients::{Embedded, Named, Remote};
use crate::consumers::Consumers;
use crate::history::History;
use crate::model::{LogModel, Refusal, Rules};
use crate::network::Network;
use crate::plan::Plan;
use crate::random::Random;
use crate::trace::Trace;
use crate::violation::{Violation, violated};
pub(crate) use crash::batches_of;
use delivery::Waiting;
use inside::Inside;
use topics::Scratch;

/// A future of the world's, polled by hand.
pub(crate) type Task<T> = Pin<Box<dyn Future<Output = T>>>;

/// Polls once; nobody is woken, for the world looks at everything again.
pub(crate) fn poll<T>(task: &mut Task<T>) -> Option<T> {
    match task.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Operations.
    pub operations: u64,
    /// Crashes that kept the page cache, and clean closes.
    pub kills: u64,
    /// Crashes that kept what was durable.
    pub power_cuts: u64,
    /// Syncs that failed.
    pub failed_syncs: u64,
    /// Runs in which a sync failed.
    pub runs_with_failed_syncs: u64,
    /// Times the disk was full.
    pub full_disks: u64,
    /// Requests and answers that were lost.
    pub lost: u64,
    /// Requests that came again.
    pub repeated: u64,
    /// Batches appended.
    pub appended: u64,
    /// Batches recognised as duplicates.
    pub duplicates: u64,
    /// Batches refused.
    pub refused: u64,
    /// Records read back and compared.
    pub read: u64,
    /// Backups that were restored and compared.
    pub backups: u64,
    /// Repairs of directories without damage.
    pub repairs: u64,
    /// Runs with consumers.
    pub runs_with_consumers: u64,
    /// Orders handed to consumers, each time.
    pub delivered: u64,
    /// Orders handed to consumers again.
    pub redelivered: u64,
    /// Orders published again, in another record.
    pub republished: u64,
    /// Dead letters sent again.
    pub redriven: u64,
    /// Consumers that died, or froze.
    pub consumer_crashes: u64,
    /// Lines of effects, two an order.
    pub effects: u64,
    /// Simulated milliseconds.
    pub elapsed_ms: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.operations += other.operations;
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.failed_syncs += other.failed_syncs;
        self.runs_with_failed_syncs += other.runs_with_failed_syncs;
        self.full_disks += other.full_disks;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.appended += other.appended;
        self.duplicates += other.duplicates;
        self.refused += other.refused;
        self.read += other.read;
        self.backups += other.backups;
        self.repairs += other.repairs;
        self.runs_with_consumers += other.runs_with_consumers;
        self.delivered += other.delivered;
        self.redelivered += other.redelivered;
        self.republished += other.republished;
        self.redriven += other.redriven;
        self.consumer_crashes += other.consumer_crashes;
        self.effects += other.effects;
        self.elapsed_ms += other.elapsed_ms;
    }
}

/// One log and what goes with it.
pub(crate) struct Log {
    pub(crate) topic: &'static str,
    pub(crate) partition: u32,
    pub(crate) model: LogModel,
    handle: Option<Partition>,
    /// Where the reader goes on, over all lives of the engine.
    cursor: u64,
    reader: Option<oncelog::Reader>,
}

pub(crate) const TOPICS: [&str; 2] = ["a", "b"];

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    pub(crate) clock: ManualClock,
    pub(crate) disk: SimulatedDisk,
    /// What is to happen inside of a sync, and what came of it.
    pub(crate) inside: Inside,
    pub(crate) engine: Option<Engine>,
    pub(crate) logs: Vec<Log>,
    pub(crate) network: Network,
    waiting: Vec<Waiting>,
    pub(crate) history: History,
    pub(crate) trace: Trace,
    pub(crate) counts: Counts,
    pub(crate) embedded: Vec<Embedded>,
    pub(crate) named: Vec<Named>,
    pub(crate) remotes: Vec<Remote>,
    pub(crate) consumers: Consumers,
    /// A sync failed since the engine was opened.
    pub(crate) has_failed_sync: bool,
    pub(crate) is_full: bool,
    /// Nothing goes wrong any more.
    pub(crate) is_calm: bool,
    scratch: Scratch,
    highest_id: i64,
    contents: u64,
    lives: u64,
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan, keep_lines: usize) -> World {
        let file_system = match plan.filesystem {
            0 => FileSystem::Strict,
            1 => FileSystem::Ordered,
            _ => FileSystem::Loose,
        };
        let disk = SimulatedDisk::new(Random::of(seed, "disk").any()).on(file_system);
        disk.set_faults(Faults {
            write_back: f64::from(u32::try_from(plan.write_back).unwrap_or(0)) / 100_000.0,
            slow_syncs: 1.0,
            sync_ms: 0..plan.sync_ms + 1,
            ..Faults::NONE
        });
        let named = (0..plan.named).map(Named::new).collect();
        let history = History::new(plan.kafka_unknown == 1 && plan.expiry_ms > 0);
        World {
            seed,
            plan,
            // Some day in 2026.
            clock: ManualClock::at(1_790_000_000_000),
            disk,
            inside: Inside::default(),
            engine: None,
            logs: Vec::new(),
            network: Network::default(),
            waiting: Vec::new(),
            history,
            trace: Trace::new(keep_lines),
            counts: Counts::default(),
            embedded: Vec::new(),
            named,
            remotes: Vec::new(),
            consumers: Consumers::default(),
            has_failed_sync: false,
            is_full: false,
            is_calm: false,
            scratch: Scratch::new(),
            highest_id: -1,
            contents: 0,
            lives: 0,
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.elapsed_ms()
    }

    /// How much time may have passed for the engine: it adds to what it saw the time between its
    /// lives as the wall clock tells it, which may have jumped, up to a day each (R24).
    pub(crate) fn engine_ms(&self) -> u64 {
        let gaps = if self.plan.jumps == 1 { self.lives } else { 0 };
        self.now_ms() + gaps * 86_400_000
    }

    pub(crate) fn event(&mut self, what: std::fmt::Arguments<'_>) {
        let now_ms = self.now_ms();
        self.trace.event(now_ms, what);
    }

    /// The engine, which is open between operations.
    pub(crate) fn engine(&self) -> Result<Engine, Violation> {
        match &self.engine {
            Some(engine) => Ok(engine.clone()),
            None => violated("SIM", "no engine is open".into()),
        }
    }

    /// Some content that no record had before.
    pub(crate) fn content(&mut self) -> u64 {
        self.contents += 1;
        self.history.sent(self.contents);
        self.contents
    }

    fn ack(&self, topic: &str) -> Ack {
        let level = if topic == TOPICS[0] {
            self.plan.ack
        } else {
            self.plan.second_ack
        };
        match level {
            0 => Ack::Memory,
            1 => Ack::Interval,
            _ => Ack::Synced,
        }
    }

    /// Makes the topics, before anything goes wrong.
    pub(crate) fn found(&mut self) -> Result<(), Violation> {
        self.open()?;
        for (topic, partitions) in [(TOPICS[0], self.plan.partitions), (TOPICS[1], 1)] {
            let config = match self.config(topic) {
                Ok(config) => config,
                Err(error) => return violated("SIM", error.to_string()),
            };
            let partitions = u32::try_from(partitions).unwrap_or(1).max(1);
            let made = self.engine()?.create_topic(topic, partitions, config);
            if let Err(error) = made {
                return violated("SIM", error.to_string());
            }
            for partition in 0..partitions {
                self.add_log(topic, partition);
            }
        }
        self.found_consumers()
    }

    pub(crate) fn add_log(&mut self, topic: &'static str, partition: u32) {
        let rules = Rules {
            window: usize::try_from(self.plan.window).unwrap_or(5),
            kafka_unknown: self.plan.kafka_unknown == 1,
            expiry_ms: self.plan.expiry_ms,
            is_synced: self.ack(topic) == Ack::Synced,
            is_deleted_from: self.plan.deletion == 1,
        };
        self.logs.push(Log {
            topic,
            partition,
            model: LogModel::new(format!("{topic}-{partition}"), rules),
            handle: None,
            cursor: 0,
            reader: None,
        });
    }

    fn config(&self, topic: &str) -> Result<TopicConfig, oncelog::ConfigError> {
        let mut config = TopicConfig::default().with_ack(self.ack(topic));
        config.set("segment.bytes", &self.plan.segment_bytes.to_string())?;
        config.set("producer.window", &self.plan.window.to_string())?;
        if self.plan.kafka_unknown == 1 {
            config.set("producer.unknown", "kafka")?;
        }
        let expiry_ms = match self.plan.expiry_ms {
            0 => 1 << 50,
            ms => ms,
        };
        config.set("producer.id.expiration.ms", &expiry_ms.to_string())?;
        if self.plan.budget > 0 {
            config.set("producers.max", &self.plan.budget.to_string())?;
        }
        if self.plan.deletion == 1 {
            let bytes = self.plan.segment_bytes * 6;
            config.set("retention.bytes", &bytes.to_string())?;
        }
        Ok(config)
    }

    /// The place of a log among the logs.
    pub(crate) fn log(&self, topic: &str, partition: u32) -> Result<usize, Violation> {
        let is_it = |log: &Log| log.topic == topic && log.partition == partition;
        match self.logs.iter().position(is_it) {
            Some(at) => Ok(at),
            None => violated("SIM", format!("no log {topic}-{partition}")),
        }
    }

    pub(crate) fn handle(&mut self, log: usize) -> Result<Partition, Violation> {
        if let Some(handle) = &self.logs[log].handle {
            return Ok(handle.clone());
        }
        let (topic, partition) = (self.logs[log].topic, self.logs[log].partition);
        let found = self
            .engine()?
            .topic(topic)
            .and_then(|t| t.partition(partition));
        match found {
            Ok(handle) => Ok(self.logs[log].handle.insert(handle).clone()),
            Err(error) => violated("I1", format!("log {topic}-{partition} is gone: {error}")),
        }
    }

    /// Notes a producer id that was handed out.
    pub(crate) fn new_id(&mut self, id: i64) -> Result<(), Violation> {
        if id <= self.highest_id {
            let highest = self.highest_id;
            return violated("I15", format!("producer id {id} after {highest}"));
        }
        self.highest_id = id;
        Ok(())
    }

    /// Notes an id that was handed out, or belongs to a name and may come again.
    pub(crate) fn seen_id(&mut self, id: i64) {
        self.highest_id = self.highest_id.max(id);
    }

    /// Whether something that needs the disk may fail now.
    pub(crate) fn may_fail(&self) -> bool {
        self.is_full || self.has_failed_sync
    }

    /// Lets the engine take a turn. Returns whether there was one.
    pub(crate) fn turn(&mut self, choice: u64) -> Result<bool, Violation> {
        self.inside.turn(true);
        let turned = self.engine()?.step(choice);
        self.inside.turn(false);
        if let Some((end, next)) = self.inside.take() {
            // Whatever that turn went on to do reached nobody.
            self.ends_with(end, next)?;
            return Ok(false);
        }
        self.look()?;
        Ok(turned)
    }

    /// Looks at everything that may have changed.
    pub(crate) fn look(&mut self) -> Result<(), Violation> {
        self.look_at_answers()?;
        self.look_at_consumers()?;
        for log in 0..self.logs.len() {
            let start = self.handle(log)?.log_start_offset();
            self.logs[log].model.starts_at(start)?;
        }
        Ok(())
    }
}

/// The model's word for a rejection; `None` for one that the model's clients never earn.
pub(crate) fn refusal(rejection: &Rejection) -> Option<Refusal> {
    match rejection {
        Rejection::Fenced { .. } => Some(Refusal::Fenced),
        Rejection::OutOfOrder { .. } => Some(Refusal::OutOfOrder),
        Rejection::SequenceReuse { .. } => Some(Refusal::SequenceReuse),
        Rejection::UnknownProducer { .. } => Some(Refusal::Unknown),
        Rejection::Forgotten { .. } => Some(Refusal::Forgotten),
        _ => None,
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The disk and its hook hold each other.
        Inside::forget(&self.disk);
    }
}
