//! One caller at `synced`, against the bare system calls: a 170-byte write into a page that was
//! written before, and `fdatasync`. That is the least a durable append can take on this disk; what
//! is above it are the hand-overs to the committer and back.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use oncelog::{Ack, Engine, Record, TopicConfig};

use crate::scratch;
use crate::summary::Summary;

/// Appends of each side in each round.
const APPENDS: usize = 500;
/// Bytes of the batch that a 100-byte record makes.
const BATCH_BYTES: usize = 170;

/// Prints the latency of both.
pub(crate) fn compare(parent: &Path, rounds: usize) -> anyhow::Result<()> {
    let directory = scratch(parent)?;
    let engine = Engine::open(directory.path().join("oncelog"))?;
    engine.create_topic("bench", 1, TopicConfig::default().with_ack(Ack::Synced))?;
    let session = engine.session()?;
    let mut appender = session.appender("bench", 0)?;
    let value = [b'x'; 100];
    let record = [Record::new().value(&value)];
    let bare = File::create_new(directory.path().join("bare"))?;
    bare.write_all_at(&vec![0; APPENDS * BATCH_BYTES * rounds.max(1)], 0)?;
    bare.sync_all()?;

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut position = 0;
    for _ in 0..rounds.max(1) {
        for _ in 0..APPENDS {
            let begin = Instant::now();
            appender.blocking_append(&record)?;
            ours.push(begin.elapsed().as_secs_f64() * 1e6);
        }
        for _ in 0..APPENDS {
            let begin = Instant::now();
            bare.write_all_at(&[b'x'; BATCH_BYTES], position)?;
            bare.sync_data()?;
            theirs.push(begin.elapsed().as_secs_f64() * 1e6);
            position += BATCH_BYTES as u64;
        }
    }
    let (ours, theirs) = (Summary::of(ours), Summary::of(theirs));
    println!(
        "commit: {} appends of each side, one caller",
        rounds.max(1) * APPENDS
    );
    println!("  {:<34}{:>12}  (p10 - p99)", "", "p50 us");
    for (what, times) in [("oncelog, synced", &ours), ("pwrite + fdatasync", &theirs)] {
        let (p50, p10, p99) = (times.median(), times.at(10), times.at(99));
        println!("  {what:<34}{p50:>12.0}  ({p10:.0} - {p99:.0})");
    }
    println!("  oncelog / bare: {:.2}", ours.median() / theirs.median());
    println!();
    Ok(())
}
