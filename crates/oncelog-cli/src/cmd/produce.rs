//! `produce`: a record a line, idempotently.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use oncelog::{
    Ack, AppendError, BatchBuilder, Create, Engine, ProducerSession, Topic, TopicConfig,
    TopicError, partition_for_key,
};
use serde_json::json;

use crate::args::{Common, Produce};
use crate::cmd::open_to_write;
use crate::columns::KeyColumn;
use crate::exit::Stop;
use crate::interrupt::Interrupt;
use crate::lines::{Input, Lines, Next};
use crate::lossy::{LossyLink, random_seed};
use crate::output::{Out, counted, grouped};
use crate::progress::{Progress, Unit};
use crate::sender::{Counts, Lane, Producer};

/// How often a wait for input looks whether to end.
const LOOK: Duration = Duration::from_millis(100);
/// When a batch that is not full leaves, if standard input is slow.
const STDIN_LINGER: Duration = Duration::from_secs(1);
/// What a batch may hold where the topic allows more: larger ones gain nothing.
const BATCH_BYTES: usize = 1 << 20;
/// Longest line with a codec: what a reader agrees to decompress.
const LINE_BYTES: usize = 64 << 20;
/// What a record without headers takes at most beside its key and value: length, attributes,
/// timestamp, offset, three more lengths.
const RECORD_OVERHEAD_BYTES: usize = 5 + 1 + 10 + 5 + 15;

pub(crate) fn run(args: &Produce, common: &Common, interrupt: &Interrupt) -> anyhow::Result<()> {
    let begun = Instant::now();
    let key_column = match &args.key_column {
        Some(column) if !args.header_line => Some(KeyColumn::by_number(column, &args.delimiter)?),
        _ => None,
    };
    let input = Input::open(&args.file)?;
    let engine = open_to_write(common.data(), Create::Missing)?;
    let session = engine.session()?;
    let mut feed = Feed::open(args, &engine, &session)?;
    feed.key_column = key_column;

    let progress = Progress::start("produce", Unit::Bytes, input.size, !common.quiet);
    let outcome = feed.run(&input, interrupt, &progress);
    drop(progress);
    let counts = feed.counts();
    let nothing_sent = counts == Counts::default();
    match outcome {
        Err(error) if nothing_sent => return Err(error),
        outcome => {
            summary(args, common, &feed, &session, begun.elapsed())?;
            outcome?;
        }
    }
    engine.close()?;
    Ok(())
}

/// The way of lines into the topic.
struct Feed<'a> {
    args: &'a Produce,
    topic: Topic,
    key_column: Option<KeyColumn>,
    partitions: Vec<Filling>,
    /// Where records without a key go until that batch is sent.
    sticky: usize,
    lines: Lines,
    /// Most bytes of a batch with more than one record.
    batch_bytes: usize,
    seed: u64,
    ack: Ack,
}

/// One partition: the batch that is being filled, and the way it leaves.
struct Filling {
    lane: Lane,
    builder: BatchBuilder,
    bytes: usize,
    first_line: u64,
    last_line: u64,
}

impl<'a> Feed<'a> {
    fn open(
        args: &'a Produce,
        engine: &Engine,
        session: &ProducerSession,
    ) -> anyhow::Result<Feed<'a>> {
        let topic = open_topic(args, engine)?;
        let window = window(&topic);
        if u64::from(args.max_in_flight) > window {
            let text = format!(
                "--max-in-flight {}: allowed: 1 to {window}, the producer.window of topic {}",
                args.max_in_flight, args.topic
            );
            return Err(Stop::Usage(text).into());
        }
        let idempotence = setting(&topic, "idempotence").is_none_or(|value| value == "true");
        let producer = Producer {
            id: session.producer_id(),
            epoch: session.epoch(),
        };
        let seed = args.seed.unwrap_or_else(random_seed);
        let ack = args.ack.map_or(topic.config().ack(), Ack::from);
        let mut partitions = Vec::new();
        for index in 0..topic.partitions() {
            let partition = topic.partition(index)?.raise_ack(ack)?;
            let link = LossyLink::new(seed, 0, index, args.lost_ack);
            let max_in_flight = usize::try_from(args.max_in_flight)?;
            partitions.push(Filling {
                lane: Lane::new(partition, producer, link, max_in_flight).idempotence(idempotence),
                builder: BatchBuilder::new().compression(args.compression.into()),
                bytes: 0,
                first_line: 0,
                last_line: 0,
            });
        }
        let record_bytes = topic.config().batch_bytes_max();
        let line_bytes = match args.compression {
            crate::args::Codec::None => record_bytes,
            _ => record_bytes.max(LINE_BYTES),
        };
        Ok(Feed {
            args,
            key_column: None,
            partitions,
            sticky: 0,
            lines: Lines::new(line_bytes),
            // Below the limit, because what cannot be compressed grows a little.
            batch_bytes: (record_bytes - record_bytes / 8).min(BATCH_BYTES),
            seed,
            ack,
            topic,
        })
    }

    /// Sends everything. When a line is wrong, the input fails, or somebody asks to end, the lines
    /// read before are sent all the same.
    fn run(
        &mut self,
        input: &Input,
        interrupt: &Interrupt,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let read = self.read(input, interrupt, progress);
        if let Err(error) = &read
            && error.chain().any(|cause| cause.is::<AppendError>())
        {
            // Batches behind one that failed would be refused. What was sent before is counted.
            for filling in &mut self.partitions {
                drop(filling.lane.settle());
            }
            return read;
        }
        let sent = self.send_all();
        read.and(sent)
    }

    fn read(
        &mut self,
        input: &Input,
        interrupt: &Interrupt,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let linger = match self.args.linger_ms {
            Some(ms) => Some(Duration::from_millis(ms)),
            None => input.is_stdin.then_some(STDIN_LINGER),
        };
        let mut last_input = Instant::now();
        let mut lines = std::mem::replace(&mut self.lines, Lines::new(0));
        loop {
            if interrupt.asked() {
                return Err(Stop::Interrupted.into());
            }
            let wait = linger.map_or(LOOK, |linger| linger.clamp(Duration::from_millis(1), LOOK));
            match input.next(wait)? {
                Next::Chunk(chunk) => {
                    let now = now_ms();
                    lines.feed(&chunk, |number, line| self.line(number, line, now))?;
                    progress.add(u64::try_from(chunk.len())?);
                    last_input = Instant::now();
                }
                Next::Idle => {
                    if linger.is_some_and(|linger| last_input.elapsed() >= linger) {
                        self.send_all()?;
                    }
                }
                Next::End => break,
            }
        }
        lines.finish(|number, line| self.line(number, line, now_ms()))
    }

    fn line(&mut self, number: u64, line: &[u8], now: i64) -> anyhow::Result<()> {
        if number == 1 && self.args.header_line {
            if let Some(column) = &self.args.key_column {
                let found = KeyColumn::by_name(column, line, &self.args.delimiter)?;
                self.key_column = Some(found);
            }
            return Ok(());
        }
        let key = match &self.key_column {
            Some(column) => Some(column.of(number, line)?),
            None => None,
        };
        let mut index = match key {
            Some(key) => usize::try_from(partition_for_key(key, self.topic.partitions()))?,
            None => self.sticky,
        };
        // An upper bound instead of the true size: that depends on the time through the varints
        // of timestamps, and where a batch ends must not.
        let bytes = key.map_or(0, <[u8]>::len) + line.len() + RECORD_OVERHEAD_BYTES;
        if self.partitions[index].bytes + bytes > self.batch_bytes {
            self.partitions[index].send()?;
            if key.is_none() {
                index = self.turn();
            }
        }
        let filling = &mut self.partitions[index];
        if filling.builder.is_empty() {
            filling.first_line = number;
        }
        filling.last_line = number;
        filling.bytes += bytes;
        filling
            .builder
            .push(now, key, Some(line), &[])
            .with_context(|| format!("line {number}"))?;
        if filling.builder.len() >= usize::try_from(self.args.batch_records)? {
            filling.send()?;
            if key.is_none() {
                self.turn();
            }
        }
        Ok(())
    }

    /// The next partition for records without a key.
    fn turn(&mut self) -> usize {
        self.sticky = (self.sticky + 1) % self.partitions.len();
        self.sticky
    }

    fn send_all(&mut self) -> anyhow::Result<()> {
        for filling in &mut self.partitions {
            filling.send()?;
        }
        for filling in &mut self.partitions {
            filling.lane.settle()?;
        }
        Ok(())
    }

    fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for filling in &self.partitions {
            sum += filling.lane.counts();
        }
        sum
    }
}

impl Filling {
    fn send(&mut self) -> anyhow::Result<()> {
        self.bytes = 0;
        let sent = self.lane.send(&mut self.builder);
        sent.map_err(|error| match error.downcast_ref() {
            Some(AppendError::TooLarge { .. }) if self.first_line == self.last_line => {
                error.context(format!("line {}", self.first_line))
            }
            Some(AppendError::TooLarge { .. }) => {
                error.context(format!("lines {} to {}", self.first_line, self.last_line))
            }
            _ => error,
        })
    }
}

/// The topic as the options want it, created if it is missing.
fn open_topic(args: &Produce, engine: &Engine) -> anyhow::Result<Topic> {
    let topic = match engine.topic(&args.topic) {
        Err(TopicError::UnknownTopic { .. }) => {
            let config = TopicConfig::default().with_ack(args.ack.map_or(Ack::Synced, Ack::from));
            return Ok(engine.create_topic(&args.topic, args.partitions.unwrap_or(1), config)?);
        }
        topic => topic?,
    };
    if let Some(partitions) = args.partitions
        && partitions != topic.partitions()
    {
        let text = format!(
            "--partitions {partitions}: topic {} exists with {}; allowed: that number, or no \
             --partitions",
            args.topic,
            topic.partitions()
        );
        return Err(Stop::Usage(text).into());
    }
    let level = topic.config().ack();
    if let Some(ack) = args.ack.map(Ack::from)
        && ack < level
    {
        let allowed: Vec<String> = [Ack::Memory, Ack::Interval, Ack::Synced]
            .into_iter()
            .filter(|ack| *ack >= level)
            .map(|ack| ack.to_string())
            .collect();
        let text = format!(
            "--ack {ack}: topic {} promises {level}, which can be raised but not lowered; \
             allowed: {}",
            args.topic,
            allowed.join(", ")
        );
        return Err(Stop::Usage(text).into());
    }
    Ok(topic)
}

fn setting(topic: &Topic, name: &str) -> Option<String> {
    topic
        .config()
        .entries()
        .into_iter()
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// Batches of a producer that the topic recognises when they come again.
fn window(topic: &Topic) -> u64 {
    setting(topic, "producer.window")
        .and_then(|value| value.parse().ok())
        .unwrap_or(5)
}

fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn summary(
    args: &Produce,
    common: &Common,
    feed: &Feed<'_>,
    session: &ProducerSession,
    elapsed: Duration,
) -> anyhow::Result<()> {
    let counts = feed.counts();
    let elapsed_ms = u64::try_from(elapsed.as_millis())?;
    let rate = counts.records.saturating_mul(1_000) / elapsed_ms.max(1);
    let mut out = Out::new();
    if common.json {
        out.json(&json!({
            "topic": args.topic,
            "records": counts.records,
            "batches": counts.batches,
            "retransmitted": counts.retransmitted,
            "duplicates_answered": counts.duplicates_answered,
            "skipped": 0,
            "producer_id": session.producer_id(),
            "epoch": session.epoch(),
            "bytes": counts.bytes,
            "elapsed_ms": elapsed_ms,
            "records_per_second": rate,
            "seed": feed.seed,
        }))?;
    } else {
        out.line(&format!(
            "{} in {} ({}) to {} ({}, {}) in {}.{:03} s: {} records/s",
            counted(counts.records, "record"),
            counted(counts.batches, "batch"),
            counted(counts.bytes, "byte"),
            args.topic,
            counted(feed.topic.partitions().into(), "partition"),
            feed.ack,
            elapsed_ms / 1_000,
            elapsed_ms % 1_000,
            grouped(rate)
        ))?;
        out.line(&format!(
            "{} sent again, {} answered as duplicates, 0 skipped; producer {}, epoch {}, seed {}",
            grouped(counts.retransmitted),
            grouped(counts.duplicates_answered),
            session.producer_id(),
            session.epoch(),
            feed.seed
        ))?;
    }
    out.flush()
}
