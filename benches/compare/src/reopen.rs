//! Opening a gibibyte after a clean close, against reading all of its records: an open that read
//! everything could not be faster than that. What a clean open does take is six flushes of the
//! disk for a directory with one log (their time depends on who else writes) and reading small files.

use std::path::Path;
use std::time::Instant;

use anyhow::bail;
use oncelog::{Ack, Create, Engine, Record, TopicConfig};

use crate::scratch;
use crate::summary::Summary;

/// Bytes of batches in the log, at least.
const LOG_BYTES: u64 = 1 << 30;
/// Bytes of each record; 100 of them in a batch.
const RECORD_BYTES: usize = 100;
/// The open may take this part of a read of all records.
const PART: f64 = 50.0;

/// Prints both times; an open that takes more than a fiftieth of the read is an error.
pub(crate) fn compare(parent: &Path, rounds: usize) -> anyhow::Result<()> {
    let directory = scratch(parent)?;
    let data = directory.path().join("oncelog");
    let engine = Engine::open(&data)?;
    let topic = engine.create_topic("bench", 1, TopicConfig::default().with_ack(Ack::Memory))?;
    let session = engine.session()?;
    let mut appender = session.appender("bench", 0)?;
    let value = [b'x'; RECORD_BYTES];
    let records = vec![Record::new().value(&value); 100];
    let mut appended = 0_u64;
    loop {
        for _ in 0..1_000 {
            appender.blocking_append(&records)?;
            appended += 100;
        }
        if topic.describe().partitions[0].size_bytes >= LOG_BYTES {
            break;
        }
    }
    let bytes = topic.describe().partitions[0].size_bytes;
    drop((appender, session, topic));
    engine.close()?;
    drop(engine);

    let (mut opens, mut reads) = (Vec::new(), Vec::new());
    for _ in 0..rounds.max(1) {
        let begin = Instant::now();
        let engine = Engine::builder(&data).create(Create::Never).open()?;
        opens.push(begin.elapsed().as_secs_f64() * 1e3);

        let begin = Instant::now();
        let mut reader = engine.reader("bench").partition(0).open()?;
        let mut seen = 0_u64;
        for record in reader.blocking_iter() {
            record?;
            seen += 1;
        }
        reads.push(begin.elapsed().as_secs_f64() * 1e3);
        if seen != appended {
            bail!("{appended} records were appended, {seen} were read");
        }
        drop(reader);
        engine.close()?;
    }
    let (opens, reads) = (Summary::of(opens), Summary::of(reads));
    let ratio = reads.median() / opens.median();
    println!("reopen: {bytes} bytes, {appended} records, closed cleanly, {rounds} rounds, warm");
    for (what, times) in [("open", &opens), ("read all records", &reads)] {
        let (median, min, max) = (times.median(), times.min(), times.max());
        println!("  {what:<34}{median:>12.2} ms  ({min:.2} - {max:.2})");
    }
    println!("  read / open: {ratio:.0} (at least {PART:.0})");
    println!();
    if ratio < PART {
        bail!("opening takes 1/{ratio:.0} of reading, at most 1/{PART:.0} is allowed");
    }
    Ok(())
}
