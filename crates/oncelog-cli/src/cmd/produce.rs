//! `produce`: a record a line, idempotently.

mod feed;

use std::time::{Duration, Instant};

use oncelog::{Ack, Create, Engine, Topic, TopicConfig, TopicError};
use serde_json::json;

use crate::args::{Common, Produce};
use crate::cmd::open_to_write;
use crate::dice::random_seed;
use crate::exit::Stop;
use crate::interrupt::Interrupt;
use crate::lines::Input;
use crate::output::{Out, counted, grouped};
use crate::progress::{Progress, Unit};

use self::feed::{Columns, Feed};

pub(crate) fn run(args: &Produce, common: &Common, interrupt: &Interrupt) -> anyhow::Result<()> {
    let begun = Instant::now();
    // What is wrong with the options is said before anything is made.
    let columns = match args.header_line {
        false => Columns::find(args, None)?,
        true => Columns::default(),
    };
    let input = Input::open(&args.file)?;
    let engine = open_to_write(common.data(), Create::Missing)?;
    let topic = open_topic(args, &engine)?;
    let seed = args.seed.unwrap_or_else(random_seed);
    let mut feed = Feed::open(args, &engine, &topic, columns, (seed, input.is_stdin))?;

    let progress = Progress::start("produce", Unit::Bytes, input.size, !common.quiet);
    let outcome = feed.run(&input, interrupt, &progress);
    drop(progress);
    match outcome {
        Err(error) if feed.did_nothing() => return Err(error),
        outcome => {
            summary(args, common, &feed, seed, begun.elapsed())?;
            outcome?;
        }
    }
    drop(feed);
    engine.close()?;
    Ok(())
}

/// The topic as the options want it, created if it is missing.
fn open_topic(args: &Produce, engine: &Engine) -> anyhow::Result<Topic> {
    let topic = match engine.topic(&args.topic) {
        Err(TopicError::UnknownTopic { .. }) => {
            let config = TopicConfig::default().with_ack(args.ack.map_or(Ack::Synced, Ack::from));
            engine.create_topic(&args.topic, args.partitions.unwrap_or(1), config)?
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
    let window = topic.config().producer_window();
    if args.max_in_flight > window {
        let text = format!(
            "--max-in-flight {}: allowed: 1 to {window}, the producer.window of topic {}",
            args.max_in_flight, args.topic
        );
        return Err(Stop::Usage(text).into());
    }
    Ok(topic)
}

fn summary(
    args: &Produce,
    common: &Common,
    feed: &Feed<'_>,
    seed: u64,
    elapsed: Duration,
) -> anyhow::Result<()> {
    let (acknowledged, counts) = (feed.acknowledged(), feed.counts());
    let (producer_id, epoch) = feed.identity();
    let elapsed_ms = u64::try_from(elapsed.as_millis())?;
    let rate = acknowledged.records.saturating_mul(1_000) / elapsed_ms.max(1);
    let mut out = Out::new();
    if common.json {
        out.json(&json!({
            "topic": args.topic,
            "name": args.name,
            "records": acknowledged.records,
            "batches": acknowledged.batches,
            "retransmitted": counts.retransmitted,
            "duplicates_answered": feed.duplicates_answered(),
            "skipped": counts.skipped,
            "producer_id": producer_id,
            "epoch": epoch,
            "bytes": acknowledged.bytes,
            "elapsed_ms": elapsed_ms,
            "records_per_second": rate,
            "seed": seed,
        }))?;
    } else {
        out.line(&format!(
            "{} in {} ({}) to {} ({}, {}) in {}.{:03} s: {} records/s",
            counted(acknowledged.records, "record"),
            counted(acknowledged.batches, "batch"),
            counted(acknowledged.bytes, "byte"),
            args.topic,
            counted(feed.topic().partitions().into(), "partition"),
            args.ack.map_or(feed.topic().config().ack(), Ack::from),
            elapsed_ms / 1_000,
            elapsed_ms % 1_000,
            grouped(rate)
        ))?;
        let name = args.name.as_ref();
        out.line(&format!(
            "{} sent again, {} answered as duplicates, {} skipped; producer {}{producer_id}, \
             epoch {epoch}, seed {seed}",
            grouped(counts.retransmitted),
            grouped(feed.duplicates_answered()),
            grouped(counts.skipped),
            name.map_or(String::new(), |name| format!("{name} = ")),
        ))?;
    }
    out.flush()
}
