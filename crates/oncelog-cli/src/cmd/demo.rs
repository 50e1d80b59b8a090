//! `demo`: the main job in one go. Producers send over links that lose acknowledgements, and
//! restart; the log is then read back and judged. Beside it the same without idempotence and names.

mod consumer;
mod judge;
mod record;
mod report;
mod sender;

use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use anyhow::{Context, anyhow};
use oncelog::{Ack, Create, Engine, TopicConfig};
use tempfile::TempDir;

use crate::args::{Common, Demo};
use crate::batches;
use crate::cmd::open_to_write;
use crate::dice::random_seed;
use crate::exit::Stop;
use crate::interrupt::Interrupt;
use crate::progress::{Progress, Unit};

use self::judge::{Judge, Verdict};
use self::report::Report;
use self::sender::{Plan, Sender, Sent};

const TOPIC: &str = "demo";
/// Records unless given.
const RECORDS: u64 = 1_000_000;
const PARTITIONS: u32 = 4;
/// Each drives its share of the producers. While one waits for the disk the others build batches.
const THREADS: u32 = 4;

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

/// What a run sent, and what was found.
#[derive(Debug, Clone)]
struct Outcome {
    sent: Sent,
    verdict: Verdict,
}

impl Outcome {
    fn duplicated(&self) -> u64 {
        self.verdict.stored - self.verdict.unique
    }

    fn lost(&self) -> u64 {
        self.sent.handed - self.verdict.unique
    }
}

pub(crate) fn run(args: &Demo, common: &Common, interrupt: &Interrupt) -> anyhow::Result<()> {
    if args.consumer {
        return consumer::run(args, common, interrupt);
    }
    let begun = Instant::now();
    let records = args.records.unwrap_or(RECORDS);
    let seed = args.seed.unwrap_or_else(random_seed);
    let place = Place::new(common.data.clone())?;
    let run = Run {
        args,
        shares: Shares {
            records,
            producers: args.producers,
        },
        interrupt,
        is_shown: !common.quiet,
    };
    let plan = Plan {
        seed,
        lost_ack: args.lost_ack,
        restart: args.restart,
        is_named: !args.no_idempotence,
    };
    let main = run.go(&place, plan, Ack::Synced)?;
    let naive = match args.no_idempotence || interrupt.asked() {
        true => None,
        false => Some(run.go_naive(plan)?).filter(|_| !interrupt.asked()),
    };
    let report = Report {
        args,
        records,
        seed,
        main,
        naive,
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
    fn new(path: Option<PathBuf>) -> anyhow::Result<Place> {
        if let Some(path) = path {
            return Ok(Place {
                path,
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

struct Run<'a> {
    args: &'a Demo,
    shares: Shares,
    interrupt: &'a Interrupt,
    is_shown: bool,
}

impl Run<'_> {
    /// The same without names and without the check for duplicates. What it stores is of no use, so
    /// it does not wait for the disk.
    fn go_naive(&self, plan: Plan) -> anyhow::Result<Outcome> {
        let plan = Plan {
            is_named: false,
            ..plan
        };
        self.go(&Place::new(None)?, plan, Ack::Memory)
    }

    fn go(&self, place: &Place, plan: Plan, ack: Ack) -> anyhow::Result<Outcome> {
        let engine = open_to_write(&place.path, Create::Missing)?;
        let config = TopicConfig::default()
            .with_idempotence(plan.is_named)
            .with_ack(ack);
        let topic = engine.create_topic(TOPIC, PARTITIONS, config)?;
        let what = |text: &str| match plan.is_named || self.args.no_idempotence {
            true => text.to_owned(),
            false => format!("naive run, {text}"),
        };
        let (unit, total) = (Unit::Records, Some(self.shares.records));
        let progress = Progress::start(&what("send"), unit, total, self.is_shown);
        let sent = self.send_all(plan, &engine, &progress)?;
        drop(progress);
        let stored = topic.describe().records;
        let progress = Progress::start(&what("read back"), unit, Some(stored), self.is_shown);
        let verdict = self.read_back(plan, &engine, &progress)?;
        drop(progress);
        engine.close()?;
        Ok(Outcome { sent, verdict })
    }

    fn send_all(&self, plan: Plan, engine: &Engine, progress: &Progress) -> anyhow::Result<Sent> {
        let threads = THREADS.min(self.args.producers);
        let mut groups: Vec<Vec<Sender>> = (0..threads).map(|_| Vec::new()).collect();
        for number in 0..self.args.producers {
            let sender = Sender::new(plan, engine, number, self.shares.of(number))?;
            groups[usize::try_from(number % threads)?].push(sender);
        }
        let mut sum = Sent::default();
        thread::scope(|scope| {
            let drive = |group| scope.spawn(move || drive(group, self.interrupt, progress));
            let running: Vec<_> = groups.into_iter().map(drive).collect();
            for thread in running {
                let sent = thread.join();
                sum += sent.map_err(|_| anyhow!("a sending thread panicked"))??;
            }
            anyhow::Ok(())
        })?;
        Ok(sum)
    }

    fn read_back(
        &self,
        plan: Plan,
        engine: &Engine,
        progress: &Progress,
    ) -> anyhow::Result<Verdict> {
        let mut judge = Judge::new(self.shares, PARTITIONS);
        let mut reader = engine.reader(TOPIC).open()?;
        let was_asked = self.interrupt.asked();
        while let Some(run) = reader.blocking_next_batches() {
            // Asked during the sending it still judges what was sent.
            if self.interrupt.asked() && !was_asked {
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
        Ok(judge.verdict(plan.is_named))
    }
}

/// Lets each producer of a group send in turn until all are through.
fn drive(
    mut group: Vec<Sender>,
    interrupt: &Interrupt,
    progress: &Progress,
) -> anyhow::Result<Sent> {
    let mut is_more = true;
    while is_more && !interrupt.asked() {
        is_more = false;
        for sender in &mut group {
            if let Some(new) = sender.step()? {
                is_more = true;
                progress.add(new);
            }
        }
    }
    let mut sum = Sent::default();
    for sender in group {
        sum += sender.finish()?;
    }
    Ok(sum)
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
