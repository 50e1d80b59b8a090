//! One turn of one peer, as processes of its own: one appends, one reopens and reads, one compares.
//! So nobody inherits another's memory, threads or dirty pages, and a reopening is one.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use crate::appending;
use crate::peers::{Peer, Setup};
use crate::results::{Plan, Read, Written};
use crate::workload::{Cell, Check, Pool};

/// What a process has to do, as its argument.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) step: Step,
    pub(crate) peer: Peer,
    pub(crate) cell: Cell,
    pub(crate) directory: PathBuf,
    pub(crate) plan: Plan,
}

/// The steps of a turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Step {
    /// Append, and close.
    Write,
    /// Open what was closed, and read it.
    Read,
    /// Compare what is there with what these numbers of calls appended.
    Check(Vec<u64>),
}

/// What it answers, as a line on its standard output.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Done {
    Written(Written),
    Read(Read),
    Checked,
}

/// Does it, in this process.
pub(crate) fn perform(task: &Task) -> anyhow::Result<Done> {
    // The pool lives as long as the process, so that a log may keep what is made of it.
    let pool: &'static Pool = Box::leak(Box::new(Pool::new(task.cell.size)));
    let setup = Setup {
        directory: task.directory.clone(),
        cell: task.cell,
        pool,
    };
    match &task.step {
        Step::Write => appending::append(task.peer, &setup, &task.plan).map(Done::Written),
        Step::Read => read(task.peer, &setup).map(Done::Read),
        Step::Check(calls) => check(task.peer, &setup, calls),
    }
}

fn read(peer: Peer, setup: &Setup) -> anyhow::Result<Read> {
    let begin = Instant::now();
    let mut log = peer.open(setup)?;
    let open_ms = begin.elapsed().as_secs_f64() * 1e3;
    let (mut records, mut sum) = (0_u32, 0_u64);
    let begin = Instant::now();
    log.read(&mut |value| {
        records += 1;
        sum += value.len() as u64 + u64::from(value[0]);
        Ok(())
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    black_box(sum);
    ensure!(records > 0, "nothing was read");
    let raw = log.read_raw()?;
    log.close()?;
    let rate = |bytes, seconds| per_second(bytes, seconds);
    Ok(Read {
        open_ms,
        rate: f64::from(records) / seconds,
        raw: raw
            .as_ref()
            .map(|raw| rate(raw.bytes, raw.took.as_secs_f64())),
        crc: raw.map(|raw| rate(raw.crc_bytes, raw.crc_took.as_secs_f64())),
    })
}

fn check(peer: Peer, setup: &Setup, calls: &[u64]) -> anyhow::Result<Done> {
    let mut check = Check::new(setup.pool, calls, setup.cell.records);
    let mut log = peer.open(setup)?;
    log.read(&mut |value| check.see(value))?;
    check.finish()?;
    Ok(Done::Checked)
}

/// A number by seconds.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}
