//! One run: a machine, a few producers on it, and what happens to both, drawn from a seed.
//!
//! A run has lives: an engine is opened and, in the end, closed, killed, or cut from power. In each
//! life the producers send lines of their sources, over a network that loses requests and answers;
//! are dropped, closed and opened again; or lose their names to others while batches of theirs are
//! still on their way. After each life the log is held against what clients saw; in the end every
//! line must be there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use harness::late::Late;
use harness::ledger::{Ledger, Line, TOPIC};
use harness::random::Random;
use oncelog::storage::MemoryDisk;
use oncelog::testing::Lossy;
use oncelog::{Ack, Engine, Env, Producer, SendError, SystemClock, Ticket, TopicConfig};

/// What happened in all runs.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) lines: u64,
    pub(crate) restarts: u64,
    pub(crate) kills: u64,
    pub(crate) power_cuts: u64,
    pub(crate) take_overs: u64,
    pub(crate) late: u64,
    pub(crate) skipped: u64,
    pub(crate) answers_lost: u64,
    pub(crate) requests_lost: u64,
}

/// How the run's machine is set up.
struct Plan {
    seed: u64,
    ack: Ack,
    partitions: u32,
    window: u64,
    /// Sources with a name; each has as many lines.
    sources: u64,
    lines: u64,
    loss: f64,
}

impl Plan {
    fn draw(seed: u64, random: &mut Random) -> Plan {
        let acks = [Ack::Synced, Ack::Synced, Ack::Interval, Ack::Memory];
        Plan {
            seed,
            ack: acks[pick(random, 4)],
            partitions: 1 + u32::try_from(random.below(4)).unwrap(),
            window: [5, 5, 9][pick(random, 3)],
            sources: 1 + random.below(2),
            lines: 30 + random.below(60),
            loss: [0.0, 0.05, 0.2][pick(random, 3)],
        }
    }
}

fn pick(random: &mut Random, count: u64) -> usize {
    usize::try_from(random.below(count)).unwrap()
}

/// A producer, and the lines that it handed over and has no answer for.
struct Client {
    source: u64,
    is_named: bool,
    producer: Producer,
    network: Late,
    next: u64,
    waiting: Vec<(Line, Ticket)>,
}

struct Run<'a> {
    plan: Plan,
    random: Random,
    ledger: Ledger,
    totals: &'a mut Totals,
    engine: Engine,
    clients: Vec<Client>,
    lossy: Lossy,
    /// The next source without a name; each session has its own.
    next_unnamed: u64,
    /// How far each named source was handed over.
    reached: BTreeMap<u64, u64>,
}

/// Runs one seed.
///
/// # Errors
/// What was stored twice, or not, or out of order, or refused without a reason.
pub(crate) fn run(seed: u64, totals: &mut Totals) -> Result<(), String> {
    let mut random = Random::new(seed);
    let plan = Plan::draw(seed, &mut random);
    let mut disk = MemoryDisk::new();
    let engine = open(&disk, &plan);
    let lossy = Lossy::seed(seed)
        .lose_answers(plan.loss)
        .lose_requests(plan.loss / 2.0)
        .repeat(plan.loss / 2.0)
        .delay(0..3);
    let mut run = Run {
        plan,
        random,
        ledger: Ledger::default(),
        totals,
        engine,
        clients: Vec::new(),
        lossy,
        next_unnamed: 1_000,
        reached: BTreeMap::new(),
    };
    let lives = 1 + run.random.below(4);
    for _ in 0..lives {
        run.live()?;
        disk = run.end_life(&disk)?;
    }
    let counts = run.lossy.counts();
    run.totals.answers_lost += counts.answers_lost;
    run.totals.requests_lost += counts.requests_lost;
    run.finish()
}

fn open(disk: &MemoryDisk, plan: &Plan) -> Engine {
    let env = Env {
        disk: std::sync::Arc::new(disk.clone()),
        clock: std::sync::Arc::new(SystemClock),
        seed: plan.seed,
    };
    let engine = Engine::with_env(env).open().unwrap();
    if engine.topic(TOPIC).is_err() {
        let mut config = TopicConfig::default().with_ack(plan.ack);
        config.set("segment.bytes", "4096").unwrap();
        config.set("flush.ms", "5").unwrap();
        config
            .set("producer.window", &plan.window.to_string())
            .unwrap();
        engine.create_topic(TOPIC, plan.partitions, config).unwrap();
    }
    engine
}

impl Run<'_> {
    fn live(&mut self) -> Result<(), String> {
        for source in 0..self.plan.sources {
            let client = self.open_named(source, false)?;
            self.clients.push(client);
        }
        if self.random.below(2) == 0 {
            let client = self.open_unnamed()?;
            self.clients.push(client);
        }
        for _ in 0..5 + self.random.below(25) {
            let at = pick(&mut self.random, self.clients.len() as u64);
            match self.random.below(12) {
                0..6 => self.send(at)?,
                6..8 => self.take_answers(at)?,
                // What nobody waits for is told by nobody.
                8 => self.clients[at].waiting.clear(),
                9 => {
                    let flushed = self.clients[at].producer.blocking_flush();
                    flushed.map_err(|e| format!("a flush failed: {e}"))?;
                    self.take_answers(at)?;
                }
                10 => self.restart(at)?,
                _ => self.take_over(at)?,
            }
        }
        Ok(())
    }

    fn builder(&mut self, network: &Late) -> oncelog::ProducerBuilder {
        let producer = self.engine.producer().transport(network.clone());
        let producer = producer.batch_bytes(60 + pick(&mut self.random, 300));
        let producer = producer.max_in_flight(1 + pick(&mut self.random, 9));
        let linger = Duration::from_millis([0, 0, 1][pick(&mut self.random, 3)]);
        producer.linger(linger)
    }

    fn open_unnamed(&mut self) -> Result<Client, String> {
        let network = Late::over(self.lossy.clone());
        let producer = self.builder(&network).open();
        self.next_unnamed += 1;
        Ok(Client {
            source: self.next_unnamed,
            is_named: false,
            producer: producer.map_err(|e| format!("no producer: {e}"))?,
            network,
            next: 0,
            waiting: Vec::new(),
        })
    }

    // Opens a name, and goes on where it says, or further back, which is safe.
    fn open_named(&mut self, source: u64, take_over: bool) -> Result<Client, String> {
        let network = Late::over(self.lossy.clone());
        let begun = Instant::now();
        let producer = loop {
            let mut builder = self.builder(&network).name(format!("source {source}"));
            if take_over {
                builder = builder.take_over();
            }
            match builder.open() {
                Ok(producer) => break producer,
                // The one before still hands over what it has.
                Err(SendError::NameInUse { .. }) if begun.elapsed() < Duration::from_secs(20) => {
                    std::thread::yield_now();
                }
                Err(error) => return Err(format!("no producer: {error}")),
            }
        };
        let from = producer.resume_from();
        let found = self.ledger.check(&self.engine)?;
        if !found.has_all_below(source, from) {
            return Err(format!(
                "source {source} resumes from {from}, and lines below it are missing"
            ));
        }
        let next = match self.random.below(3) {
            0 => 0,
            1 => self.random.below(from + 1),
            _ => from,
        };
        Ok(Client {
            source,
            is_named: true,
            producer,
            network,
            next,
            waiting: Vec::new(),
        })
    }

    fn send(&mut self, at: usize) -> Result<(), String> {
        let count = 1 + self.random.below(12);
        let client = &mut self.clients[at];
        let end = match client.is_named {
            true => self.plan.lines.min(client.next + count),
            false => client.next + count,
        };
        for position in client.next..end {
            let line = Line::at(client.source, position);
            self.ledger.sent(&line, client.is_named);
            let ticket = client.producer.blocking_send(line.record(client.is_named));
            let ticket = ticket.map_err(|e| format!("{line:?} was not taken: {e}"))?;
            client.waiting.push((line, ticket));
            self.totals.lines += 1;
        }
        client.next = client.next.max(end);
        if client.is_named {
            let reached = self.reached.entry(client.source).or_default();
            *reached = client.next.max(*reached);
        }
        Ok(())
    }

    fn take_answers(&mut self, at: usize) -> Result<(), String> {
        for (line, ticket) in std::mem::take(&mut self.clients[at].waiting) {
            let stored = ticket.blocking_wait();
            let stored = stored.map_err(|e| format!("{line:?} was refused: {e}"))?;
            self.totals.skipped += u64::from(stored.offset.is_none());
            self.ledger.stored(&line, &stored)?;
        }
        Ok(())
    }

    // The client's process ends, or closes properly, and another one begins.
    fn restart(&mut self, at: usize) -> Result<(), String> {
        self.totals.restarts += 1;
        if self.random.below(2) == 0 {
            let closed = self.clients[at].producer.blocking_close();
            closed.map_err(|e| format!("a close failed: {e}"))?;
            self.take_answers(at)?;
        }
        let client = self.clients.remove(at);
        let (source, is_named) = (client.source, client.is_named);
        drop(client);
        let client = match is_named {
            true => self.open_named(source, false)?,
            false => self.open_unnamed()?,
        };
        self.clients.insert(at, client);
        Ok(())
    }

    // Another process takes the name, while batches of the first are still on their way.
    fn take_over(&mut self, at: usize) -> Result<(), String> {
        if !self.clients[at].is_named {
            return Ok(());
        }
        self.totals.take_overs += 1;
        self.clients[at].network.hold();
        self.send(at)?;
        self.send(at)?;
        let source = self.clients[at].source;
        let successor = self.open_named(source, true)?;
        let zombie = std::mem::replace(&mut self.clients[at], successor);
        self.deliver(&zombie);
        self.send(at)?;
        let next = Line::at(source, self.plan.lines + 1);
        match zombie.producer.blocking_send(next.record(true)) {
            Err(SendError::Fenced { .. }) => {}
            other => return Err(format!("who lost its name goes on: {other:?}")),
        }
        self.deliver(&zombie);
        Ok(())
    }

    // What it sent arrives, some of it, and nobody waits for the answer.
    fn deliver(&mut self, zombie: &Client) {
        for (partition, batch) in zombie.network.held() {
            if self.random.below(4) > 0 {
                let _ = partition.blocking_append(&batch);
                self.totals.late += 1;
            } else {
                let again = zombie.network.clone();
                drop(oncelog::Transport::append(&again, partition, batch));
            }
        }
    }

    // The machine is stopped, or stops. What was answered until now must be there afterwards.
    fn end_life(&mut self, disk: &MemoryDisk) -> Result<MemoryDisk, String> {
        let kind = self.random.below(4);
        let left = match kind {
            0 => {
                for at in 0..self.clients.len() {
                    let closed = self.clients[at].producer.blocking_close();
                    closed.map_err(|e| format!("a close failed: {e}"))?;
                    self.take_answers(at)?;
                }
                self.clients.clear();
                self.engine.close().map_err(|e| e.to_string())?;
                disk.clone()
            }
            1 | 2 if self.plan.ack == Ack::Synced => {
                self.totals.power_cuts += 1;
                disk.after_power_cut()
            }
            _ => {
                self.totals.kills += 1;
                disk.after_kill()
            }
        };
        self.clients.clear();
        let _ = self.engine.close();
        self.engine = open(&left, &self.plan);
        self.ledger.check(&self.engine)?;
        Ok(left)
    }

    // Nothing gets lost any more, and every source is sent to its end.
    fn finish(&mut self) -> Result<(), String> {
        self.lossy = Lossy::seed(self.plan.seed);
        for source in 0..self.plan.sources {
            let client = self.open_named(source, false)?;
            self.clients.push(client);
            let at = self.clients.len() - 1;
            while self.clients[at].next < self.plan.lines {
                self.send(at)?;
            }
            self.take_answers(at)?;
            let closed = self.clients[at].producer.blocking_close();
            closed.map_err(|e| format!("a close failed: {e}"))?;
        }
        self.ledger.check_complete(&self.engine)?;
        self.engine.close().map_err(|e| e.to_string())
    }
}
