//! A recorded life: clients on a machine, and what they are told.

use std::collections::BTreeMap;

use harness::history::BatchName;
use harness::ledger::{Line, TOPIC};
use oncelog::testing::{FileSystem, SimulatedDisk, Trace};
use oncelog::{Ack, AppendError, Partition, Pending, Producer, TopicConfig};

use crate::facts::{Facts, Sent, SentLine, TopicFacts};
use crate::interloper::Interloper;
use crate::lines::open_named;
use crate::machine::Machine;
use crate::partition::settle;

/// When the first machine is switched on, ms since 1970.
const WALL_MS: i64 = 1_700_000_000_000;

pub(crate) struct Life {
    pub(crate) disk: SimulatedDisk,
    pub(crate) machine: Machine,
    pub(crate) facts: Facts,
    pub(crate) seed: u64,
    starts: i64,
    /// The next batch of each producer, by topic, producer and partition.
    next: BTreeMap<(String, i64, u32), BatchName>,
    /// Appends during syncs, to a topic.
    interloper: Option<(String, Interloper)>,
}

impl Life {
    /// A life on a disk, of whose past the facts are known. All of it is recorded.
    pub(crate) fn begin(disk: SimulatedDisk, facts: Facts, seed: u64) -> Life {
        disk.record();
        let starts = 1 + i64::from(u32::try_from(facts.ids.len()).unwrap());
        let wall_ms = WALL_MS + starts * 1_000;
        let machine = Machine::start(&disk, seed, wall_ms).unwrap();
        Life {
            disk,
            machine,
            facts,
            seed,
            starts,
            next: BTreeMap::new(),
            interloper: None,
        }
    }

    /// Ends the recording.
    pub(crate) fn end(self) -> (Trace, Facts) {
        // Else nobody ever closes its engine.
        self.disk.on_slow_sync(|_| ());
        (self.disk.take_trace().unwrap(), self.facts)
    }

    fn now(&self) -> usize {
        self.disk.recorded()
    }

    /// Takes note of what the first open of this life found.
    pub(crate) fn note_found(&mut self) {
        for topic in &mut self.facts.topics {
            settle(&self.machine, topic).unwrap();
        }
    }

    /// Begins to record anew: all that was done so far counts as durable.
    pub(crate) fn forget_past(&mut self) {
        self.note_durable(|_| true);
        self.facts = self.facts.until(self.now());
        self.disk.record();
    }

    // Everything that was sent to some topics is durable by now.
    fn note_durable(&mut self, which: impl Fn(&TopicFacts) -> bool) {
        let now = self.now();
        for topic in self.facts.topics.iter_mut().filter(|topic| which(topic)) {
            for sent in &mut topic.sent {
                sent.durable = sent.durable.or(Some(now));
            }
        }
    }

    /// Cuts the power; another life begins with what is left, and is recorded from its start.
    pub(crate) fn crash(&mut self, file_system: FileSystem, seed: u64) {
        let left = self.disk.clone().on(file_system).power_cut(seed);
        let facts = self.facts.until(self.now());
        *self = Life::begin(left, facts, self.seed + 1);
        self.note_found();
    }

    /// Lets time pass, and everything happen that is due then.
    pub(crate) fn pass(&mut self, ms: u32) {
        // Longer than `flush.ms`; what others append meanwhile waits for the next time.
        let is_flushed = |topic: &TopicFacts| topic.ack == Ack::Interval && ms > 100;
        self.work(
            |machine| machine.pass(ms),
            |life| life.note_durable(is_flushed),
        );
    }

    /// Closes the engine and opens it again.
    pub(crate) fn reopen(&mut self) {
        self.machine.engine.close().unwrap();
        self.note_durable(|_| true);
        self.starts += 1;
        let wall_ms = WALL_MS + self.starts * 1_000;
        self.machine = Machine::start(&self.disk, self.seed, wall_ms).unwrap();
    }

    pub(crate) fn close(&mut self) {
        self.machine.engine.close().unwrap();
        self.note_durable(|_| true);
        self.facts.closed = Some(self.now());
    }

    pub(crate) fn create_topic(&mut self, name: &str, partitions: u32, settings: &[(&str, &str)]) {
        let mut config = TopicConfig::default();
        for (key, value) in settings {
            config.set(key, value).unwrap();
        }
        let is_limited = config.retention_bytes().is_some() || config.retention_ms().is_some();
        let begun = self.now();
        let mut topic = TopicFacts::begun(name, config.ack(), partitions, begun);
        topic.is_limited = is_limited;
        self.facts.topics.push(topic);
        self.machine
            .engine
            .create_topic(name, partitions, config)
            .unwrap();
        let now = self.now();
        let topic = self.topic(name);
        topic.made = Some(now);
        topic.partitions[0].2 = Some(now);
    }

    fn topic(&mut self, name: &str) -> &mut TopicFacts {
        let mut topics = self.facts.topics.iter_mut();
        topics.rfind(|topic| topic.name == name).unwrap()
    }

    pub(crate) fn delete_topic(&mut self, name: &str) {
        let now = self.now();
        self.topic(name).deletion_begun = Some(now);
        self.machine.engine.delete_topic(name).unwrap();
        let now = self.now();
        self.topic(name).deleted = Some(now);
        self.next.retain(|(topic, _, _), _| topic != name);
    }

    pub(crate) fn add_partitions(&mut self, name: &str, partitions: u32) {
        let now = self.now();
        self.topic(name).partitions.push((partitions, now, None));
        self.machine
            .engine
            .add_partitions(name, partitions)
            .unwrap();
        let now = self.now();
        self.topic(name).partitions.last_mut().unwrap().2 = Some(now);
    }

    /// A producer id that was never used.
    pub(crate) fn producer(&mut self) -> i64 {
        let begun = self.machine.engine.session();
        let id = begun.unwrap().producer_id();
        let now = self.now();
        self.facts.ids.push((id, now));
        id
    }

    /// From now on somebody else appends to a partition while syncs are under way.
    pub(crate) fn let_interlope(&mut self, topic: &str, partition: u32) {
        let producer = self.producer();
        let handle = self.partition(topic, partition);
        let interloper = Interloper::new(&self.disk, handle, producer);
        self.interloper = Some((topic.to_owned(), interloper));
    }

    fn partition(&self, topic: &str, partition: u32) -> Partition {
        let topic = self.machine.engine.topic(topic).unwrap();
        topic.partition(partition).unwrap()
    }

    // Lets the machine work while others append, and notes what they did; `then` comes before that.
    fn work<T>(&mut self, work: impl FnOnce(&mut Machine) -> T, then: impl FnOnce(&mut Life)) -> T {
        let others = self.interloper.clone();
        if let Some((_, interloper)) = &others {
            interloper.wake(true);
        }
        let answer = work(&mut self.machine);
        then(self);
        if let Some((topic, interloper)) = others {
            interloper.wake(false);
            let now = self.now();
            let (sent, answered) = interloper.news();
            let facts = self.topic(&topic);
            facts.sent.extend(sent);
            for (batch, offset) in answered {
                let sent = facts.sent.iter_mut().rfind(|sent| sent.batch == batch);
                let sent = sent.unwrap();
                sent.answered = Some((now, offset));
                sent.durable = (facts.ack == Ack::Synced).then_some(now);
            }
        }
        answer
    }

    // Takes turns until a call has its answer.
    fn drive<T>(&mut self, call: impl Future<Output = T>) -> T {
        self.work(|machine| machine.drive(call).unwrap(), |_| ())
    }

    /// Puts a producer's next batch into a partition, without waiting for what was promised.
    pub(crate) fn start(
        &mut self,
        topic: &str,
        partition: u32,
        producer: i64,
    ) -> (BatchName, Pending) {
        let key = (topic.to_owned(), producer, partition);
        let first = BatchName {
            producer_id: producer,
            partition,
            sequence: 0,
        };
        let batch = *self.next.entry(key.clone()).or_insert(first);
        self.next.insert(key, batch.next());
        let at = self.now();
        let handle = self.partition(topic, partition);
        let bytes = batch.bytes();
        let pending: Result<Pending, AppendError> = self.drive(handle.start(&bytes));
        // What others appended while it waited for room comes before it.
        self.topic(topic).sent.push(Sent {
            batch,
            at,
            answered: None,
            durable: None,
        });
        (batch, pending.unwrap())
    }

    /// Waits for what was promised of a batch.
    pub(crate) fn wait(&mut self, topic: &str, (batch, pending): (BatchName, Pending)) {
        let appended = self.drive(pending.wait()).unwrap();
        assert!(!appended.duplicate);
        let now = self.now();
        let topic = self.topic(topic);
        let sent = topic
            .sent
            .iter_mut()
            .rfind(|sent| sent.batch == batch)
            .unwrap();
        sent.answered = Some((now, appended.offset));
        if topic.ack == Ack::Synced {
            sent.durable = Some(now);
        }
    }

    /// Appends a producer's next batch, and waits for the answer.
    pub(crate) fn append(&mut self, topic: &str, partition: u32, producer: i64) {
        let started = self.start(topic, partition, producer);
        self.wait(topic, started);
    }

    /// Deletes the front of a partition, up to the beginning of its answered batch of that number.
    pub(crate) fn delete_before(&mut self, topic: &str, partition: u32, batch: usize) {
        let of = |sent: &&Sent| sent.batch.partition == partition;
        let offset = self
            .topic(topic)
            .sent
            .iter()
            .filter(of)
            .nth(batch)
            .unwrap()
            .answered
            .unwrap()
            .1;
        let now = self.now();
        self.topic(topic)
            .starts
            .push((partition, offset, now, None));
        let handle = self.partition(topic, partition);
        handle.delete_before(offset).unwrap();
        let now = self.now();
        self.topic(topic).starts.last_mut().unwrap().3 = Some(now);
    }

    /// Deletes everything before the last answered batch of a partition.
    pub(crate) fn delete_to_last(&mut self, topic: &str, partition: u32) {
        let of = |sent: &&Sent| sent.batch.partition == partition;
        let sent: Vec<_> = self.topic(topic).sent.iter().filter(of).collect();
        let last = sent.iter().rposition(|sent| sent.answered.is_some());
        self.delete_before(topic, partition, last.unwrap());
    }

    /// Makes the topic that named producers send their lines to.
    pub(crate) fn create_lines(&mut self, partitions: u32) {
        let mut config = TopicConfig::default();
        config.set("segment.bytes", "4096").unwrap();
        self.machine
            .engine
            .create_topic(TOPIC, partitions, config)
            .unwrap();
        self.facts.lines_made = Some(self.now());
    }

    pub(crate) fn open_named(&mut self, source: u64, take_over: bool) -> Producer {
        open_named(&self.machine, source, take_over).unwrap()
    }

    /// Sends the lines of a source up to a position, and waits for all.
    pub(crate) fn send_lines(&mut self, producer: &Producer, source: u64, from: u64, to: u64) {
        let mut tickets = Vec::new();
        for position in from..to {
            let at = self.now();
            let answered = None;
            self.facts.lines.push(SentLine {
                source,
                position,
                at,
                answered,
            });
            let line = Line::at(source, position);
            let ticket = self
                .machine
                .drive(producer.send(line.record(true)))
                .unwrap()
                .unwrap();
            tickets.push((self.facts.lines.len() - 1, ticket));
        }
        for (number, ticket) in tickets {
            let stored = self.machine.drive(ticket.into_future()).unwrap().unwrap();
            let now = self.now();
            self.facts.lines[number].answered = Some((now, stored.partition, stored.offset));
        }
    }
}
