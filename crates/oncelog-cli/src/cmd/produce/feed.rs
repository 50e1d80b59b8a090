//! The way of lines into the topic.

use std::time::Duration;

use anyhow::Context;
use oncelog::{Ack, AppendError, Engine, Producer, ProducerCounts, Record, SendError, Topic};

use crate::args::{Codec, Produce};
use crate::columns::{BizId, Column};
use crate::exit::Stop;
use crate::interrupt::Interrupt;
use crate::lines::{Input, Lines, Next};
use crate::link::{Acknowledged, Link, Whose};
use crate::progress::Progress;
use crate::wait::{LOOK, wait_unless};

/// When a batch that is not full leaves, unless given: standard input may be slow, and somebody
/// may watch what comes out.
const STDIN_LINGER: Duration = Duration::from_secs(1);
const FILE_LINGER: Duration = Duration::from_secs(10);
/// How long a batch is tried once it has left. What does not pass ends the command before.
const DELIVERY: Duration = Duration::from_secs(120);
/// Longest pause before a batch is sent again: a link that loses an answer here says so at once.
const RETRY: Duration = Duration::from_millis(2);
/// What a batch may hold where the topic allows more: larger ones gain nothing.
const BATCH_BYTES: usize = 1 << 20;
/// Longest line with a codec: what a reader agrees to decompress.
const LINE_BYTES: usize = 64 << 20;
/// What the producer holds of lines without an answer.
const BUFFER_BYTES: usize = 32 << 20;
/// A key and a business id are parts of the line again; the rest is what a batch adds.
const LINE_TIMES: usize = 3;
const BATCH_OVERHEAD_BYTES: usize = 1 << 10;

/// The columns that the options name.
#[derive(Default)]
pub(super) struct Columns {
    key: Option<Column>,
    biz_id: Option<BizId>,
}

impl Columns {
    /// `header` is the line that names them, if there is one.
    pub(super) fn find(args: &Produce, header: Option<&[u8]>) -> Result<Columns, Stop> {
        let key = args.key_column.as_deref();
        let key = key.map(|column| Column::find("--key-column", column, header, &args.delimiter));
        let biz_id = args.biz_id_column.as_deref();
        let biz_id = biz_id.map(|columns| BizId::find(columns, header, &args.delimiter));
        Ok(Columns {
            key: key.transpose()?,
            biz_id: biz_id.transpose()?,
        })
    }
}

pub(super) struct Feed<'a> {
    args: &'a Produce,
    topic: &'a Topic,
    columns: Columns,
    link: Link,
    producer: Producer,
    line_bytes: usize,
}

impl<'a> Feed<'a> {
    pub(super) fn open(
        args: &'a Produce,
        engine: &Engine,
        topic: &'a Topic,
        columns: Columns,
        (seed, is_stdin): (u64, bool),
    ) -> anyhow::Result<Feed<'a>> {
        let record_bytes = topic.config().batch_bytes_max();
        let line_bytes = match args.compression {
            Codec::None => record_bytes,
            _ => record_bytes.max(LINE_BYTES),
        };
        let largest = line_bytes
            .saturating_mul(LINE_TIMES)
            .saturating_add(BATCH_OVERHEAD_BYTES);
        let linger = match args.linger_ms {
            Some(ms) => Duration::from_millis(ms),
            None if is_stdin => STDIN_LINGER,
            None => FILE_LINGER,
        };
        let whose = Whose {
            seed,
            producer: 0,
            session: 0,
        };
        let link = Link::new(whose, args.lost_ack);
        let mut producer = engine
            .producer()
            .transport(link.clone())
            .compression(args.compression.into())
            .linger(linger)
            .delivery_timeout(linger + DELIVERY)
            .retry_backoff_max(RETRY)
            .batch_records(usize::try_from(args.batch_records)?)
            // Below the limit, because what cannot be compressed grows a little.
            .batch_bytes((record_bytes - record_bytes / 8).min(BATCH_BYTES))
            .max_record_bytes(largest)
            .buffer_bytes(BUFFER_BYTES.max(largest))
            .max_in_flight(usize::try_from(args.max_in_flight)?)
            .max_block(LOOK);
        if let Some(ack) = args.ack {
            producer = producer.ack(Ack::from(ack));
        }
        if let Some(name) = &args.name {
            producer = producer.name(name);
        }
        Ok(Feed {
            args,
            topic,
            columns,
            link,
            producer: producer.open()?,
            line_bytes,
        })
    }

    pub(super) fn topic(&self) -> &Topic {
        self.topic
    }

    pub(super) fn acknowledged(&self) -> Acknowledged {
        self.link.acknowledged()
    }

    pub(super) fn counts(&self) -> ProducerCounts {
        self.producer.counts()
    }

    pub(super) fn identity(&self) -> (i64, i16) {
        self.producer.identity()
    }

    pub(super) fn duplicates_answered(&self) -> u64 {
        self.link.duplicates_answered()
    }

    /// Whether there is nothing to tell.
    pub(super) fn did_nothing(&self) -> bool {
        self.acknowledged().batches == 0 && self.counts().skipped == 0
    }

    /// Sends everything. When a line is wrong, the input fails, or somebody asks to end, the lines
    /// read before are sent all the same.
    pub(super) fn run(
        &mut self,
        input: &Input,
        interrupt: &Interrupt,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let read = self.read(input, interrupt, progress);
        if self.link.trouble().is_some() {
            return read.and(self.check());
        }
        let sent = self.flush();
        // Why the producer stopped says more than that it did.
        match (&read, sent) {
            (Err(error), Err(why)) if is_stopped(error) => Err(why),
            (_, sent) => read.and(sent),
        }
    }

    fn read(
        &mut self,
        input: &Input,
        interrupt: &Interrupt,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let mut lines = Lines::new(self.line_bytes);
        loop {
            if interrupt.asked() {
                return Err(Stop::Interrupted.into());
            }
            self.check()?;
            match input.next(LOOK)? {
                Next::Chunk(chunk) => {
                    lines.feed(&chunk, |number, line| self.line(number, line, interrupt))?;
                    progress.add(u64::try_from(chunk.len())?);
                }
                Next::Idle => {}
                Next::End => break,
            }
        }
        lines.finish(|number, line| self.line(number, line, interrupt))
    }

    /// A line's number, from 1, is its position.
    fn line(&mut self, number: u64, line: &[u8], interrupt: &Interrupt) -> anyhow::Result<()> {
        if number == 1 && self.args.header_line {
            self.columns = Columns::find(self.args, Some(line))?;
            return Ok(());
        }
        let mut record = Record::to(&self.args.topic).value(line);
        if let Some(key) = &self.columns.key {
            record = record.key(key.of(number, line)?);
        }
        if let Some(biz_id) = &mut self.columns.biz_id {
            record = record.biz_id(biz_id.of(number, line)?);
        }
        if self.args.name.is_some() {
            record = record.position(number);
        }
        loop {
            match self.producer.blocking_send(record.clone()) {
                // What fails is seen by the link, and by the flush.
                Ok(ticket) => drop(ticket),
                Err(SendError::Full { .. }) => {
                    check(&self.link)?;
                    if interrupt.asked() {
                        return Err(Stop::Interrupted.into());
                    }
                    continue;
                }
                Err(error @ SendError::Repartitioned { .. }) => {
                    let text = format!(
                        "line {number}: {error}; here: send to another topic, or under another \
                         --name, which begins at the first line"
                    );
                    return Err(Stop::Failed(text).into());
                }
                Err(error) => return Err(error).with_context(|| format!("line {number}")),
            }
            return check(&self.link);
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        check(&self.link)
    }

    /// Sends what is buffered and waits for its answers. The producer is not closed: what the log
    /// knows of it stays, for `producers` and `why`.
    fn flush(&self) -> anyhow::Result<()> {
        let flushed = wait_unless(self.producer.flush(), || self.link.trouble().is_some());
        self.check()?;
        Ok(flushed.unwrap_or(Ok(()))?)
    }
}

fn check(link: &Link) -> anyhow::Result<()> {
    match link.trouble() {
        Some(error @ AppendError::TooLarge { .. }) => {
            Err(error).context("a batch of lines stays too large when it is compressed")
        }
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

fn is_stopped(error: &anyhow::Error) -> bool {
    let stopped = |cause: &SendError| matches!(cause, SendError::Stopped(_));
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref())
        .any(stopped)
}
