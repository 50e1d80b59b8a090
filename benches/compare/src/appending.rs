//! The appends of a turn, timed.
//!
//! Reading the clock takes as long as half of an append to memory. So there the calls are timed
//! together first and each one afterwards; a call that syncs is timed by itself from the start, but
//! for a few that find new files.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use hdrhistogram::Histogram;

use crate::peers::{Peer, Setup, Writer};
use crate::results::{Latency, Plan, Written};
use crate::turn::per_second;
use crate::workload::{Calls, Cell};

/// Calls that sync and are not timed.
const FIRST: u64 = 5;
/// Calls between two looks at the clock, when calls are timed together.
const STRETCH: u64 = 32;
/// Largest latency that is told from larger ones, in nanoseconds.
const SLOWEST: u64 = 60_000_000_000;

/// Opens, appends as the plan says, and closes.
pub(crate) fn append(peer: Peer, setup: &Setup, plan: &Plan) -> anyhow::Result<Written> {
    let cell = &setup.cell;
    let log = peer.open(setup)?;
    let written = if cell.callers > 1 {
        let start = Barrier::new(usize::try_from(cell.callers)?);
        let work = |caller| {
            let mut writer = log.writer(caller)?;
            let mut timed = Timed::new(cell)?;
            // Whoever fails must not keep the others waiting.
            let warm = timed.untimed(writer.as_mut(), 1);
            start.wait();
            warm?;
            let begin = Instant::now();
            timed.each(writer.as_mut(), plan.seconds, u64::MAX)?;
            Ok((timed, begin, Instant::now()))
        };
        together(cell, work)?
    } else {
        let mut writer = log.writer(0)?;
        let mut timed = Timed::new(cell)?;
        if cell.synced {
            timed.untimed(writer.as_mut(), FIRST)?;
        }
        let (begin, first) = (Instant::now(), timed.calls);
        if cell.synced {
            timed.each(writer.as_mut(), plan.seconds, plan.bytes)?;
        } else {
            timed.all(writer.as_mut(), plan.seconds, plan.bytes)?;
        }
        let (seconds, calls) = (begin.elapsed().as_secs_f64(), timed.calls - first);
        if !cell.synced {
            timed.each(writer.as_mut(), plan.seconds / 2.0, plan.bytes / 4)?;
        }
        drop(writer);
        Written {
            rate: per_second(calls * cell.records as u64, seconds),
            calls: vec![timed.calls],
            latency: latency(&timed.histogram),
        }
    };
    log.close()?;
    Ok(written)
}

type Worked<'a> = anyhow::Result<(Timed<'a>, Instant, Instant)>;

/// All callers at once, a thread for each.
fn together<'a>(cell: &Cell, work: impl Fn(u32) -> Worked<'a> + Sync) -> anyhow::Result<Written> {
    let work = &work;
    let done = std::thread::scope(|scope| {
        let callers = 0..cell.callers;
        let threads: Vec<_> = callers.map(|c| scope.spawn(move || work(c))).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.collect::<Vec<_>>()
    });
    let (mut calls, mut histogram) = (Vec::new(), histogram()?);
    let (mut first, mut last) = (None, None);
    for done in done {
        let (timed, begin, end) = done.map_err(|_| anyhow!("a caller panicked"))??;
        calls.push(timed.calls);
        histogram.add(&timed.histogram)?;
        first = Some(first.map_or(begin, |first: Instant| first.min(begin)));
        last = last.max(Some(end));
    }
    let seconds = last.zip(first).map_or(Duration::ZERO, |(l, f)| l - f);
    let records = histogram.len() * cell.records as u64;
    Ok(Written {
        calls,
        rate: per_second(records, seconds.as_secs_f64()),
        latency: latency(&histogram),
    })
}

/// What one caller has appended.
struct Timed<'a> {
    cell: &'a Cell,
    next: Calls,
    calls: u64,
    histogram: Histogram<u64>,
}

impl Timed<'_> {
    fn new(cell: &Cell) -> anyhow::Result<Timed<'_>> {
        Ok(Timed {
            cell,
            next: Calls::default(),
            calls: 0,
            histogram: histogram()?,
        })
    }

    fn bytes_per_call(&self) -> u64 {
        (self.cell.records * self.cell.size) as u64
    }

    fn all(&mut self, writer: &mut dyn Writer, seconds: f64, bytes: u64) -> anyhow::Result<()> {
        let (begin, limit) = (Instant::now(), Duration::from_secs_f64(seconds));
        let last = self.calls.saturating_add(bytes / self.bytes_per_call());
        while self.calls < last && begin.elapsed() < limit {
            self.untimed(writer, STRETCH)?;
        }
        Ok(())
    }

    fn untimed(&mut self, writer: &mut dyn Writer, calls: u64) -> anyhow::Result<()> {
        for _ in 0..calls {
            writer.append(self.next.next(self.cell.records))?;
        }
        self.calls += calls;
        Ok(())
    }

    fn each(&mut self, writer: &mut dyn Writer, seconds: f64, bytes: u64) -> anyhow::Result<()> {
        let (begin, limit) = (Instant::now(), Duration::from_secs_f64(seconds));
        let last = self.calls.saturating_add(bytes / self.bytes_per_call());
        while self.calls < last {
            let values = self.next.next(self.cell.records);
            let called = Instant::now();
            writer.append(values)?;
            let returned = Instant::now();
            let ns = u64::try_from((returned - called).as_nanos())?;
            self.histogram.saturating_record(ns.max(1));
            self.calls += 1;
            if returned - begin > limit {
                break;
            }
        }
        Ok(())
    }
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, SLOWEST, 3)?)
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    Latency {
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
        p999: histogram.value_at_quantile(0.999),
        max: histogram.max(),
    }
}
