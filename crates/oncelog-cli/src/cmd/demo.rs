//! `demo`: the main job in one go. Producers send over a link that loses acknowledgements; the
//! log is then read back and judged.

mod judge;
mod record;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use oncelog::{BatchBuilder, Create, Engine, ProducerSession, Topic, TopicConfig};
use serde_json::json;
use tempfile::TempDir;

use crate::args::{Common, Demo};
use crate::batches;
use crate::cmd::open_to_write;
use crate::exit::Stop;
use crate::interrupt::Interrupt;
use crate::lossy::{LossyLink, random_seed};
use crate::output::{Out, grouped, table};
use crate::progress::{Progress, Unit};
use crate::sender::{Counts, Lane, Producer};

use self::judge::{Judge, Verdict};

const TOPIC: &str = "demo";
const PARTITIONS: u32 = 4;
/// Each drives its share of the producers. While one waits for the disk the others build batches.
const THREADS: u32 = 4;
/// Small enough that every producer sends a hundred batches or so, and loses some.
const BATCH_RECORDS: u64 = 100;
/// What the log remembers of each producer by default, as with Kafka.
const MAX_IN_FLIGHT: usize = 5;

/// Which records each producer sends: as many each, the first ones one more where it does not
/// come out even.
#[derive(Debug, Clone, Copy)]
struct Shares {
    records: u64,
    producers: u32,
}

impl Shares {
    /// Records of a producer.
    fn of(self, producer: u32) -> u64 {
        let producers = u64::from(self.producers);
        self.records / producers + u64::from(u64::from(producer) < self.records % producers)
    }

    /// Records of all producers before it.
    fn before(self, producer: u32) -> u64 {
        let (producers, producer) = (u64::from(self.producers), u64::from(producer));
        self.records / producers * producer + producer.min(self.records % producers)
    }
}

pub(crate) fn run(args: &Demo, common: &Common, interrupt: &Interrupt) -> anyhow::Result<()> {
    let begun = Instant::now();
    let seed = args.seed.unwrap_or_else(random_seed);
    let place = Place::new(common)?;
    let engine = open_to_write(&place.path, Create::Missing)?;
    let config = TopicConfig::default().with_idempotence(!args.no_idempotence);
    let topic = engine.create_topic(TOPIC, PARTITIONS, config)?;
    let shares = Shares {
        records: args.records,
        producers: args.producers,
    };

    let progress = Progress::start("send", Unit::Records, Some(args.records), !common.quiet);
    let sent = send_all(args, seed, shares, &engine, &topic, interrupt, &progress)?;
    drop(progress);
    let stored = topic.describe().records;
    let progress = Progress::start("read back", Unit::Records, Some(stored), !common.quiet);
    let verdict = read_back(args, shares, &engine, interrupt, &progress)?;
    drop(progress);
    engine.close()?;

    let report = Report {
        args,
        seed,
        sent,
        verdict,
        elapsed: begun.elapsed(),
    };
    report.print(common)?;
    report.judge(interrupt)
}

/// Where the log of the demo lies.
struct Place {
    path: PathBuf,
    /// Removes the directory in the end.
    _temporary: Option<TempDir>,
}

impl Place {
    fn new(common: &Common) -> anyhow::Result<Place> {
        if let Some(path) = &common.data {
            return Ok(Place {
                path: path.clone(),
                _temporary: None,
            });
        }
        let directory = tempfile::Builder::new()
            .prefix("oncelog-demo-")
            .tempdir()
            .context("cannot make a temporary directory; name one with --data")?;
        // The engine makes its directory itself.
        Ok(Place {
            path: directory.path().join("data"),
            _temporary: Some(directory),
        })
    }
}

/// Counts of everything sent. `handed` is what was given to the producers.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    handed: u64,
    counts: Counts,
}

fn send_all(
    args: &Demo,
    seed: u64,
    shares: Shares,
    engine: &Engine,
    topic: &Topic,
    interrupt: &Interrupt,
    progress: &Progress,
) -> anyhow::Result<Sent> {
    let threads = THREADS.min(args.producers);
    // Producer ids are handed out in the order of the numbers, so that the same seed gives the
    // same log.
    let mut groups: Vec<Vec<Sender>> = (0..threads).map(|_| Vec::new()).collect();
    for number in 0..args.producers {
        let sender = Sender::new(args, seed, number, shares.of(number), engine, topic)?;
        groups[usize::try_from(number % threads)?].push(sender);
    }
    let mut sum = Sent::default();
    thread::scope(|scope| {
        let drive = |group| scope.spawn(move || drive(group, interrupt, progress));
        let running: Vec<_> = groups.into_iter().map(drive).collect();
        for thread in running {
            let sent = thread
                .join()
                .map_err(|_| anyhow!("a sending thread panicked"))??;
            sum.handed += sent.handed;
            sum.counts += sent.counts;
        }
        anyhow::Ok(())
    })?;
    Ok(sum)
}

/// Lets each producer of a group send a batch in turn until all are through.
fn drive(
    mut group: Vec<Sender>,
    interrupt: &Interrupt,
    progress: &Progress,
) -> anyhow::Result<Sent> {
    let mut builder = BatchBuilder::new();
    let mut handed = 0;
    let mut is_more = true;
    while is_more && !interrupt.asked() {
        is_more = false;
        for sender in &mut group {
            let records = sender.send_next(&mut builder)?;
            handed += records;
            progress.add(records);
            is_more |= records > 0;
        }
    }
    let mut counts = Counts::default();
    for sender in &mut group {
        for lane in &mut sender.lanes {
            lane.settle()?;
            counts += lane.counts();
        }
    }
    Ok(Sent { handed, counts })
}

/// One producer of the demo.
struct Sender {
    number: u32,
    /// Keeps its producer id in use.
    _session: ProducerSession,
    /// One for each partition.
    lanes: Vec<Lane>,
    next: u64,
    records: u64,
    batches: usize,
}

impl Sender {
    fn new(
        args: &Demo,
        seed: u64,
        number: u32,
        records: u64,
        engine: &Engine,
        topic: &Topic,
    ) -> anyhow::Result<Sender> {
        let session = engine.session()?;
        let producer = Producer {
            id: session.producer_id(),
            epoch: session.epoch(),
        };
        let mut lanes = Vec::new();
        for index in 0..topic.partitions() {
            let link = LossyLink::new(seed, number, index, args.lost_ack);
            let lane = Lane::new(topic.partition(index)?, producer, link, MAX_IN_FLIGHT);
            lanes.push(lane.idempotence(!args.no_idempotence));
        }
        Ok(Sender {
            number,
            _session: session,
            lanes,
            next: 0,
            records,
            batches: 0,
        })
    }

    /// Sends a batch to the partition whose turn it is. Gives the records in it, 0 at the end.
    fn send_next(&mut self, builder: &mut BatchBuilder) -> anyhow::Result<u64> {
        let count = BATCH_RECORDS.min(self.records - self.next);
        for record in self.next..self.next + count {
            let value = record::value(self.number, record);
            builder.push(record::TIME_MS, None, Some(&value), &[])?;
        }
        // Producers begin at different partitions, so that all are busy from the start.
        let turn = self.batches + usize::try_from(self.number)?;
        let lanes = self.lanes.len();
        self.lanes[turn % lanes].send(builder)?;
        self.next += count;
        self.batches += 1;
        Ok(count)
    }
}

fn read_back(
    args: &Demo,
    shares: Shares,
    engine: &Engine,
    interrupt: &Interrupt,
    progress: &Progress,
) -> anyhow::Result<Verdict> {
    let mut judge = Judge::new(shares, PARTITIONS);
    let mut reader = engine.reader(TOPIC).open()?;
    let was_asked = interrupt.asked();
    while let Some(run) = reader.blocking_next_batches() {
        // Asked during the sending it still judges what was sent.
        if interrupt.asked() && !was_asked {
            return Err(Stop::Interrupted.into());
        }
        let run = run?;
        let before = judge.stored();
        for batch in batches::of(&run) {
            let (_, records) = batch?;
            for record in records {
                let record = record?;
                let value = record.value.as_deref().unwrap_or_default();
                judge.see(run.partition, batches::offset(record.offset), value);
            }
        }
        progress.add(judge.stored() - before);
    }
    Ok(judge.verdict(!args.no_idempotence))
}

/// What came out.
struct Report<'a> {
    args: &'a Demo,
    seed: u64,
    sent: Sent,
    verdict: Verdict,
    elapsed: Duration,
}

impl Report<'_> {
    fn duplicated(&self) -> u64 {
        self.verdict.stored - self.verdict.unique
    }

    fn lost(&self) -> u64 {
        self.sent.handed - self.verdict.unique
    }

    fn print(&self, common: &Common) -> anyhow::Result<()> {
        let (sent, verdict) = (&self.sent, &self.verdict);
        let elapsed_ms = u64::try_from(self.elapsed.as_millis())?;
        let mut out = Out::new();
        if common.json {
            out.json(&json!({
                "sent": sent.handed,
                "retransmitted": sent.counts.retransmitted,
                "restarts": 0,
                "stored": verdict.stored,
                "unique": verdict.unique,
                "duplicated": self.duplicated(),
                "lost": self.lost(),
                "duplicates_answered": sent.counts.duplicates_answered,
                "seed": self.seed,
                "elapsed_ms": elapsed_ms,
            }))?;
            return out.flush();
        }
        let numbers = [
            sent.handed,
            sent.counts.retransmitted,
            verdict.stored,
            self.duplicated(),
            self.lost(),
        ];
        let heads = ["sent", "resent", "stored", "duplicated", "lost"];
        out.bytes(table(heads, &[numbers.map(grouped)]).as_bytes())?;
        out.line("")?;
        out.line(&format!(
            "{} producers, {} % of the acknowledgements lost, idempotence {}, seed {}: duplicated \
             {}, lost {}, in {}.{} s",
            self.args.producers,
            // As it was typed: 0.07 is 7 %, not 7.000000000000001.
            (self.args.lost_ack * 1e6).round() / 1e4,
            if self.args.no_idempotence {
                "off"
            } else {
                "on"
            },
            self.seed,
            self.duplicated(),
            self.lost(),
            elapsed_ms / 1_000,
            elapsed_ms % 1_000 / 100
        ))?;
        out.flush()
    }

    fn judge(&self, interrupt: &Interrupt) -> anyhow::Result<()> {
        if let Some(violation) = &self.verdict.violation {
            return Err(Stop::Failed(violation.clone()).into());
        }
        if self.lost() > 0 {
            return Err(Stop::Failed(format!("{} records were lost", self.lost())).into());
        }
        if interrupt.asked() && self.sent.handed < self.args.records {
            return Err(Stop::Interrupted.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_all_records() {
        for (records, producers) in [(1_000_000, 100), (10, 3), (2, 5), (7, 7)] {
            let shares = Shares { records, producers };
            let mut sum = 0;
            for producer in 0..producers {
                assert_eq!(shares.before(producer), sum);
                sum += shares.of(producer);
            }
            assert_eq!(sum, records);
        }
    }
}
