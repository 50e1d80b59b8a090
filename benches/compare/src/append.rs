//! Single 100-byte records, page cache only: the same work on every side, in turns.
//!
//! Every measurement is a process of its own in a fresh directory, so that no side inherits
//! another's memory, threads or dirty pages. The time is that of the appends; opening and closing
//! are not in it. What limits it: the CRC and the copy of a 170-byte batch are about 30 ns, the
//! first store into each fresh page is 0.8 to 1.1 us for every 4 KiB.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use oncelog::{Ack, Engine, Record, TopicConfig};
use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

use crate::scratch;
use crate::summary::Summary;

/// Bytes of each record.
const RECORD_BYTES: usize = 100;

/// Who appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// Through a producer session: every record is checked to be new.
    Oncelog,
    /// The same with the check off.
    OncelogUnchecked,
    /// `walrus-rust`, mmap backend, no sync.
    Walrus,
}

impl Side {
    fn label(self) -> &'static str {
        match self {
            Side::Oncelog => "oncelog, memory, idempotent",
            Side::OncelogUnchecked => "oncelog, memory, check off",
            Side::Walrus => "walrus-rust 0.2, mmap, no fsync",
        }
    }
}

/// Runs all sides in turns, prints the table, and returns oncelog's records/s by walrus's.
pub(crate) fn compare(directory: &Path, records: u64, rounds: usize) -> anyhow::Result<f64> {
    let sides = Side::value_variants();
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); sides.len()];
    for round in 0..rounds.max(1) {
        // Each round begins with another side.
        for turn in 0..sides.len() {
            let at = (round + turn) % sides.len();
            rates[at].push(run(sides[at], directory, records)?);
        }
    }
    println!("append: {records} records of {RECORD_BYTES} bytes, one per call, {rounds} rounds");
    println!("  {:<34}{:>12}  (min - max)", "", "records/s");
    let mut medians = Vec::new();
    for (side, rates) in sides.iter().zip(rates) {
        let rates = Summary::of(rates);
        println!(
            "  {:<34}{:>12.0}  ({:.0} - {:.0})",
            side.label(),
            rates.median(),
            rates.min(),
            rates.max()
        );
        medians.push(rates.median());
    }
    let [checked, unchecked, walrus] = medians[..] else {
        bail!("there are three sides");
    };
    let check_ns = 1e9 / checked - 1e9 / unchecked;
    let ratio = checked / walrus;
    println!("  the check costs {check_ns:.0} ns a record");
    println!("  oncelog / walrus: {ratio:.2}");
    println!();
    Ok(ratio)
}

fn run(side: Side, parent: &Path, records: u64) -> anyhow::Result<f64> {
    let directory = scratch(parent)?;
    let name = side.to_possible_value().context("every side has a name")?;
    let output = Command::new(std::env::current_exe()?)
        .args(["--side", name.get_name()])
        .args(["--records", &records.to_string()])
        .arg("--directory")
        .arg(directory.path())
        // Walrus takes both from the environment alone.
        .env("WALRUS_DATA_DIR", directory.path())
        .env("WALRUS_QUIET", "1")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!(
            "{side:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let rate = text.lines().last().and_then(|line| line.parse().ok());
    rate.with_context(|| format!("{side:?} printed no number: {text}"))
}

/// One side, once: its records/s.
pub(crate) fn measure(side: Side, directory: &Path, records: u64) -> anyhow::Result<f64> {
    let value = [b'x'; RECORD_BYTES];
    let seconds = match side {
        Side::Oncelog => oncelog(directory, records, &value, true)?,
        Side::OncelogUnchecked => oncelog(directory, records, &value, false)?,
        Side::Walrus => walrus(records, &value)?,
    };
    #[expect(clippy::cast_precision_loss, reason = "a few million")]
    Ok(records as f64 / seconds)
}

fn oncelog(directory: &Path, records: u64, value: &[u8], check: bool) -> anyhow::Result<f64> {
    let engine = Engine::open(directory.join("oncelog"))?;
    let config = TopicConfig::default()
        .with_ack(Ack::Memory)
        .with_idempotence(check);
    engine.create_topic("bench", 1, config)?;
    let session = engine.session()?;
    let mut appender = session.appender("bench", 0)?;
    let record = [Record::new().value(value)];
    let begin = Instant::now();
    for _ in 0..records {
        appender.blocking_append(&record)?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let end = appender.partition().high_watermark();
    if end != records {
        bail!("{records} records were appended, {end} are there");
    }
    Ok(seconds)
}

fn walrus(records: u64, value: &[u8]) -> anyhow::Result<f64> {
    walrus_rust::disable_fd_backend();
    let consistency = ReadConsistency::AtLeastOnce {
        persist_every: 1_000_000,
    };
    let log = Walrus::with_consistency_and_schedule(consistency, FsyncSchedule::NoFsync)?;
    let begin = Instant::now();
    for _ in 0..records {
        log.append_for_topic("bench", value)?;
    }
    Ok(begin.elapsed().as_secs_f64())
}
