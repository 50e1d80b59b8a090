//! `consume`: the records of a topic, to standard output.

use std::collections::HashMap;
use std::io::{self, IsTerminal};

use oncelog::{
    BatchHeader, Batches, Engine, ReadError, Reader, SOURCE_HEADER, SourcePosition, Start,
};
use serde::Serialize;
use serde_json::Value;

use crate::args::{Common, Consume, Format, Offset};
use crate::batches;
use crate::cmd::open_to_read;
use crate::exit::Stop;
use crate::interrupt::Interrupt;
use crate::output::{Out, bytes_json, counted, note};
use crate::progress::{Progress, Unit};

pub(crate) fn run(args: &Consume, common: &Common, interrupt: &Interrupt) -> anyhow::Result<()> {
    let format = format(args, common)?;
    let engine = open_to_read(common.data())?;
    let mut reader = open(args, &engine)?;
    if args.follow {
        // A reader that waits for more ends with its engine.
        let waiting = engine.clone();
        interrupt.on_ask(move || drop(waiting.close()));
    }
    let mut printer = Printer {
        out: Out::new(),
        topic: &args.topic,
        format,
        left: args.max.unwrap_or(u64::MAX),
        printed: 0,
    };
    let outcome = print_all(args, common, &engine, &mut reader, interrupt, &mut printer);
    let flushed = printer.out.flush();
    let is_stdout_closed =
        |error: &anyhow::Error| matches!(error.downcast_ref(), Some(Stop::StdoutClosed));
    if !common.quiet && !outcome.as_ref().is_err_and(is_stdout_closed) && flushed.is_ok() {
        note(&format!(
            "{} of {}",
            counted(printer.printed, "record"),
            args.topic
        ));
    }
    outcome?;
    flushed
}

fn format(args: &Consume, common: &Common) -> anyhow::Result<Format> {
    match (args.format, common.json) {
        (None, false) => Ok(Format::Value),
        (None | Some(Format::Json), true) => Ok(Format::Json),
        (Some(format), false) => Ok(format),
        (Some(_), true) => {
            let text = "--format: allowed with --json: json, or no --format";
            Err(Stop::Usage(text.to_owned()).into())
        }
    }
}

fn open(args: &Consume, engine: &Engine) -> anyhow::Result<Reader> {
    let topic = engine.topic(&args.topic)?;
    let start = match args.offset {
        Offset::Earliest => Start::Earliest,
        Offset::Latest => Start::Latest,
        Offset::At(offset) => {
            if args.partition.is_none() && topic.partitions() > 1 {
                let text = format!(
                    "--offset {offset}: an offset is one of a partition, and {} has {}; allowed \
                     without --partition: earliest, latest",
                    args.topic,
                    topic.partitions()
                );
                return Err(Stop::Usage(text).into());
            }
            Start::Offset(offset)
        }
    };
    let mut reader = engine.reader(&args.topic).start(start);
    if let Some(partition) = args.partition {
        topic.partition(partition)?;
        reader = reader.partition(partition);
    }
    if args.follow {
        reader = reader.follow();
    }
    Ok(reader.open()?)
}

/// Where a partition is, and where its end was when the command began.
struct Span {
    next: u64,
    end: u64,
}

fn spans(args: &Consume, engine: &Engine, reader: &Reader) -> anyhow::Result<HashMap<u32, Span>> {
    let topic = engine.topic(&args.topic)?;
    let mut spans = HashMap::new();
    for index in 0..topic.partitions() {
        if let Some(next) = reader.position(index) {
            let end = topic.partition(index)?.high_watermark();
            spans.insert(index, Span { next, end });
        }
    }
    Ok(spans)
}

fn print_all(
    args: &Consume,
    common: &Common,
    engine: &Engine,
    reader: &mut Reader,
    interrupt: &Interrupt,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let mut spans = spans(args, engine, reader)?;
    let total: u64 = spans
        .values()
        .map(|span| span.end.saturating_sub(span.next))
        .sum();
    let total = (!args.follow).then(|| args.max.map_or(total, |max| max.min(total)));
    // On a terminal the records are what shows how far it is.
    let shown = !common.quiet && !args.follow && !io::stdout().is_terminal();
    let progress = Progress::start("consume", Unit::Records, total, shown);
    loop {
        let is_at_end = !args.follow && spans.values().all(|span| span.next >= span.end);
        if is_at_end || printer.left == 0 {
            return Ok(());
        }
        if interrupt.asked() {
            return if args.follow {
                Ok(())
            } else {
                Err(Stop::Interrupted.into())
            };
        }
        let run = match reader.blocking_next_batches() {
            None => return Ok(()),
            Some(Err(ReadError::Closed)) if interrupt.asked() => continue,
            Some(run) => run?,
        };
        let Some(span) = spans.get_mut(&run.partition) else {
            continue;
        };
        let end = if args.follow { u64::MAX } else { span.end };
        let before = printer.printed;
        printer.run(&run, span.next, end)?;
        span.next = run.next_offset;
        progress.add(printer.printed - before);
        if args.follow {
            printer.out.flush()?;
        }
    }
}

/// Prints records until it printed as many as were asked for.
struct Printer<'a> {
    out: Out,
    topic: &'a str,
    format: Format,
    left: u64,
    printed: u64,
}

impl Printer<'_> {
    /// Prints what lies from offset `from` and below `end`.
    fn run(&mut self, run: &Batches, from: u64, end: u64) -> anyhow::Result<()> {
        for batch in batches::of(run) {
            let malformed = |source| {
                anyhow::Error::new(source).context(Stop::Damaged(format!(
                    "a batch of {}-{} behind offset {from} cannot be read",
                    self.topic, run.partition
                )))
            };
            let (header, records) = batch.map_err(malformed)?;
            let mut source = None;
            for record in records {
                let mut record = record.map_err(malformed)?;
                if header.attributes.has_source() && source.is_none() {
                    // The first record carries it for all; it is the log's header, not theirs.
                    let last = record.headers.pop_if(|h| h.key.as_str() == SOURCE_HEADER);
                    let value = last.and_then(|header| header.value);
                    source = value.and_then(|value| SourcePosition::decode(&value));
                }
                let offset = batches::offset(record.offset);
                if offset < from || offset >= end {
                    continue;
                }
                if self.left == 0 {
                    return Ok(());
                }
                let (key, value) = (record.key.as_deref(), record.value.as_deref());
                match self.format {
                    Format::Value => self.out.bytes(value.unwrap_or_default())?,
                    Format::KeyValue => {
                        self.out.bytes(key.unwrap_or_default())?;
                        self.out.bytes(b"\t")?;
                        self.out.bytes(value.unwrap_or_default())?;
                    }
                    Format::Json => {
                        let headers = record.headers.iter();
                        let headers = headers
                            .map(|h| (h.key.as_str(), h.value.as_deref()))
                            .collect();
                        let mut line = Line::new(self.topic, run.partition, offset, &header);
                        line.source_position = source.map(|source| source.last);
                        let line =
                            line.content(record.timestamp, key, value, headers, record.sequence);
                        self.out.json(&line)?;
                    }
                }
                if self.format != Format::Json {
                    self.out.bytes(b"\n")?;
                }
                self.left -= 1;
                self.printed += 1;
            }
        }
        Ok(())
    }
}

/// A record as JSON. Contract: spec of the command.
#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: u32,
    offset: u64,
    timestamp: i64,
    key: Value,
    value: Value,
    headers: Vec<JsonHeader<'a>>,
    biz_id: Value,
    source_position: Option<u64>,
    producer_id: Option<i64>,
    producer_epoch: Option<i16>,
    sequence: Option<i32>,
}

#[derive(Serialize)]
struct JsonHeader<'a> {
    key: &'a str,
    value: Value,
}

impl<'a> Line<'a> {
    fn new(topic: &'a str, partition: u32, offset: u64, header: &BatchHeader) -> Line<'a> {
        let is_produced = header.has_producer();
        Line {
            topic,
            partition,
            offset,
            timestamp: 0,
            key: Value::Null,
            value: Value::Null,
            headers: Vec::new(),
            biz_id: Value::Null,
            source_position: None,
            producer_id: is_produced.then_some(header.producer_id),
            producer_epoch: is_produced.then_some(header.producer_epoch),
            sequence: None,
        }
    }

    fn content(
        mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Vec<(&'a str, Option<&[u8]>)>,
        sequence: Option<i32>,
    ) -> Line<'a> {
        self.timestamp = timestamp;
        self.key = bytes_json(key);
        self.value = bytes_json(value);
        // Of headers with one name the last counts.
        let biz_id = headers.iter().rev().find(|(name, _)| *name == "biz-id");
        self.biz_id = bytes_json(biz_id.and_then(|(_, value)| *value));
        let headers = headers.into_iter();
        self.headers = headers
            .map(|(key, v)| JsonHeader {
                key,
                value: bytes_json(v),
            })
            .collect();
        self.sequence = sequence;
        self
    }
}
