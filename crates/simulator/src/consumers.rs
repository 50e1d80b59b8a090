//! Consumers that must act once: orders are published, also again under other producer ids; members of a group work on them
//! with an inbox in the log; they die between any two steps, freeze and wake up late; what they do is judged in the end.

mod desk;
mod judge;
mod operations;
mod positions;
mod publisher;
mod requests;
mod work;

use std::time::Duration;

use oncelog::inbox::{EmbeddedInbox, EmbeddedSettings, ForwardError, StoreError};
use oncelog::{Ack, ConfigError, GroupError, TopicConfig};

use crate::random::Random;
use crate::violation::{Violation, violated};
use crate::world::{Task, World, poll};
use desk::{Desk, Note};
use publisher::Publisher;
use requests::Waiting;
pub(crate) use requests::is_consumers;
use work::{Job, work};

/// The group of all consumers, what it reads, where it puts dead letters, and where effects go.
pub(crate) const GROUP: &str = "shop";
pub(crate) const ORDERS: &str = "orders";
pub(crate) const LETTERS: &str = "orders.dlq";
pub(crate) const EFFECTS: &str = "effects";

/// A consumer: what it does, as far as it came, and what it shares with the world.
struct Worker {
    number: u64,
    task: Task<()>,
    desk: std::rc::Rc<Desk>,
}

/// All that belongs to consumers. What does not survive a process is dropped with it.
#[derive(Default)]
pub(crate) struct Consumers {
    inbox: Option<EmbeddedInbox>,
    workers: Vec<Worker>,
    /// Dead or only slow: nobody can tell. Some wake up, and go on as if they still had what they had.
    frozen: Vec<Worker>,
    hired: u64,
    publisher: Publisher,
    waiting: Vec<Waiting>,
    forwarding: Option<Task<Result<usize, ForwardError>>>,
    redriving: Option<Task<Result<bool, GroupError>>>,
    tidying: Option<Task<Result<(), StoreError>>>,
}

impl World {
    /// Whether there are consumers in this world.
    pub(crate) fn has_consumers(&self) -> bool {
        self.plan.consumers > 0
    }

    /// Makes their topics, before anything goes wrong.
    pub(crate) fn found_consumers(&mut self) -> Result<(), Violation> {
        if !self.has_consumers() {
            return Ok(());
        }
        self.counts.runs_with_consumers = 1;
        let engine = self.engine()?;
        let topics = [(ORDERS, 2), (LETTERS, 1), (EFFECTS, 1)];
        for (topic, partitions) in topics {
            let config = match self.consumers_config(topic) {
                Ok(config) => config,
                Err(error) => return violated("SIM", error.to_string()),
            };
            if let Err(error) = engine.create_topic(topic, partitions, config) {
                return violated("SIM", error.to_string());
            }
        }
        self.open_inbox()
    }

    // Always durable: an effect of what a power cut may take back is nobody's promise.
    fn consumers_config(&self, topic: &str) -> Result<TopicConfig, ConfigError> {
        let mut config = TopicConfig::default().with_ack(Ack::Synced);
        config.set("segment.bytes", &self.plan.segment_bytes.to_string())?;
        if self.plan.deletion == 1 && topic == ORDERS {
            config.set("retention.consumed.by", GROUP)?;
        }
        Ok(config)
    }

    // Small files and little patience, so that short runs clean and write snapshots.
    fn open_inbox(&mut self) -> Result<(), Violation> {
        let settings = EmbeddedSettings {
            segment_bytes: 1 << 16,
            clean_above: 30,
            snapshot_after: 40,
            ..EmbeddedSettings::default()
        };
        match EmbeddedInbox::open_with(&self.engine()?, "inbox", settings) {
            Ok(inbox) => self.consumers.inbox = Some(inbox),
            Err(_) if self.may_fail() => {}
            Err(error) => return violated("I46", format!("the inbox does not open: {error}")),
        }
        Ok(())
    }

    fn hire(&mut self) -> Result<(), Violation> {
        let Some(inbox) = self.consumers.inbox.clone() else {
            return Ok(());
        };
        self.consumers.hired += 1;
        let number = self.consumers.hired;
        let random = Random::of_step(self.seed, "worker", number);
        let desk = std::rc::Rc::new(Desk::default());
        desk.calm(self.is_calm);
        let job = Job::new(self.engine()?, inbox, desk.clone(), random);
        self.event(format_args!("consumer {number} begins"));
        let task: Task<()> = Box::pin(work(job));
        self.consumers.workers.push(Worker { number, task, desk });
        Ok(())
    }

    /// The process is gone, and its consumers and their publisher with it.
    pub(crate) fn consumers_lost(&mut self) {
        let consumers = std::mem::take(&mut self.consumers);
        consumers.waiting.iter().for_each(Waiting::forget);
        self.consumers.hired = consumers.hired;
        self.consumers.publisher = consumers.publisher.lost();
        let inside = consumers.workers.len() + consumers.frozen.len();
        // Those that froze before were counted then.
        self.counts.consumer_crashes += consumers.workers.len() as u64;
        if inside > 0 {
            self.event(format_args!("{inside} consumers are gone"));
        }
    }

    /// Lets consumers go on as far as they may.
    pub(crate) fn look_at_consumers(&mut self) -> Result<(), Violation> {
        if !self.has_consumers() {
            return Ok(());
        }
        self.look_at_requests()?;
        self.look_at_publisher();
        // What is made durable here may be where everything ends.
        self.inside.turn(true);
        let looked = self.consume();
        self.inside.turn(false);
        if let Some((end, next)) = self.inside.take() {
            // Whatever they were told after that reached nobody.
            return self.ends_with(end, next);
        }
        looked
    }

    fn consume(&mut self) -> Result<(), Violation> {
        if self.consumers.inbox.is_none() {
            self.open_inbox()?;
        }
        for mut worker in std::mem::take(&mut self.consumers.workers) {
            let ended = poll(&mut worker.task);
            self.counts += worker.desk.take_counts();
            for note in worker.desk.take_notes() {
                self.note(worker.number, note)?;
            }
            if ended.is_none() {
                self.consumers.workers.push(worker);
            }
        }
        if let Some(done) = self.consumers.forwarding.as_mut().and_then(poll) {
            self.consumers.forwarding = None;
            match done {
                Ok(0) => {}
                Ok(count) => self.event(format_args!("{count} effects are forwarded")),
                Err(error) => self.event(format_args!("effects not forwarded: {error}")),
            }
        }
        if let Some(done) = self.consumers.redriving.as_mut().and_then(poll) {
            self.consumers.redriving = None;
            self.counts.redriven += u64::from(matches!(done, Ok(true)));
            self.event(format_args!("redriven: {done:?}"));
        }
        if let Some(done) = self.consumers.tidying.as_mut().and_then(poll) {
            self.consumers.tidying = None;
            self.event(format_args!("tidied: {}", done.is_ok()));
        }
        Ok(())
    }

    fn note(&mut self, number: u64, note: Note) -> Result<(), Violation> {
        match note {
            Note::Event(what) => self.event(format_args!("consumer {number} {what}")),
            Note::Trouble(what) if self.may_fail() => {
                self.event(format_args!("consumer {number}: {what}"));
            }
            Note::Trouble(what) => {
                return violated("I46", format!("consumer {number}: {what}"));
            }
            Note::Broken(violation) => return Err(violation),
        }
        Ok(())
    }
}

/// How long a delivery is a consumer's own, and after how long it is silent.
const VISIBILITY: Duration = Duration::from_secs(3);
const SESSION: Duration = Duration::from_secs(6);
