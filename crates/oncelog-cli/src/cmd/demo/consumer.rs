//! `demo --consumer`: the second half in one go. Orders are published, some again under other producer ids; a consumer whose
//! acknowledgements get lost, and which dies between any two steps, works on them with an inbox; effects are read back and
//! counted. Beside it, on the same seed, a consumer that does not ask whether it did something before.

mod careful;
mod drive;
mod naive;
mod publish;
mod report;
mod stores;

use std::time::Instant;

use oncelog::{Create, Engine, TopicConfig};

use self::careful::Careful;
use self::drive::{Counts, Drive};
use self::naive::Naive;
use self::report::Report;
use self::stores::Stored;
use super::Place;
use crate::args::{Common, Demo};
use crate::batches;
use crate::cmd::open_to_write;
use crate::dice::random_seed;
use crate::exit::Stop;
use crate::interrupt::Interrupt;
use crate::progress::{Progress, Unit};

const ORDERS: &str = "orders";
const EFFECTS: &str = "effects";
const PARTITIONS: u32 = 4;
/// Orders unless given: each transaction waits for the disk.
const RECORDS: u64 = 100_000;

/// How often each order had its effect: by its number.
#[derive(Debug)]
struct Effects(Vec<u32>);

/// What the effects come to.
#[derive(Debug, Clone, Copy)]
struct Sum {
    effects: u64,
    lost: u64,
    duplicated: u64,
}

impl Effects {
    fn none(orders: u64) -> anyhow::Result<Effects> {
        Ok(Effects(vec![0; usize::try_from(orders)?]))
    }

    /// Counts the effect of an order.
    ///
    /// # Errors
    /// Nobody published it.
    fn add(&mut self, value: &[u8]) -> anyhow::Result<()> {
        let order = publish::order(value).and_then(|order| usize::try_from(order).ok());
        match order.and_then(|order| self.0.get_mut(order)) {
            Some(count) => *count += 1,
            None => {
                return Err(Stop::Failed("an effect of an order that nobody sent".into()).into());
            }
        }
        Ok(())
    }

    fn sum(&self) -> Sum {
        let effects = self.0.iter().map(|count| u64::from(*count)).sum();
        let lost = self.0.iter().filter(|count| **count == 0).count() as u64;
        Sum {
            effects,
            lost,
            duplicated: effects + lost - self.0.len() as u64,
        }
    }
}

/// What all parts of a run know.
struct Run<'a> {
    args: &'a Demo,
    seed: u64,
    orders: u64,
    engine: Engine,
    interrupt: &'a Interrupt,
    is_shown: bool,
}

pub(super) fn run(args: &Demo, common: &Common, interrupt: &Interrupt) -> anyhow::Result<()> {
    let begun = Instant::now();
    let url = stores::url(args)?;
    let place = Place::new(common.data.clone())?;
    let run = Run {
        args,
        seed: args.seed.unwrap_or_else(random_seed),
        orders: args.records.unwrap_or(RECORDS),
        engine: open_to_write(&place.path, Create::Missing)?,
        interrupt,
        is_shown: !common.quiet,
    };
    let engine = &run.engine;
    engine.create_topic(ORDERS, PARTITIONS, TopicConfig::default())?;
    engine.create_topic(EFFECTS, 1, TopicConfig::default())?;
    let progress = run.progress("publish", run.orders);
    let republished = publish::publish(&run, &progress)?;
    drop(progress);
    let records = run.orders + republished;
    let (counts, effects) = stores::consume(&run, &place.path, url, records)?;
    let sum = effects.sum();
    let progress = run.progress("naive run, consume", records);
    let mut naive = Naive::new(Effects::none(run.orders)?);
    let naive_counts = Drive::new(&run, "naive", &progress)?.through(&mut naive)?;
    drop(progress);
    engine.close()?;
    let report = Report {
        store: args.store.store,
        seed: run.seed,
        orders: run.orders,
        republished,
        main: (counts, sum),
        naive: (naive_counts, naive.effects().sum()),
        elapsed: begun.elapsed(),
    };
    report.print(common)?;
    report.judge()
}

impl Run<'_> {
    fn progress(&self, what: &str, records: u64) -> Progress {
        Progress::start(what, Unit::Records, Some(records), self.is_shown)
    }

    fn careful<I: Stored>(&self, inbox: I, records: u64) -> anyhow::Result<(Counts, Effects)> {
        let progress = self.progress("consume", records);
        let mut careful = Careful::new(self, inbox)?;
        let counts = Drive::new(self, careful::GROUP, &progress)?.through(&mut careful)?;
        Ok((counts, careful.effects()?))
    }

    /// The effects that are in the log.
    fn read_back(&self) -> anyhow::Result<Effects> {
        let mut effects = Effects::none(self.orders)?;
        let mut reader = self.engine.reader(EFFECTS).open()?;
        while let Some(run) = reader.blocking_next_batches() {
            let run = run?;
            for batch in batches::of(&run) {
                for record in batch?.1 {
                    effects.add(record?.value.as_deref().unwrap_or_default())?;
                }
            }
        }
        Ok(effects)
    }

    /// Waits for a future on this thread, but not when it was interrupted.
    fn wait<T, E>(&self, future: impl Future<Output = Result<T, E>>) -> anyhow::Result<T>
    where
        anyhow::Error: From<E>,
    {
        match crate::wait::wait_unless(future, || self.interrupt.asked()) {
            Some(done) => Ok(done?),
            None => Err(Stop::Interrupted.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_are_counted_and_strangers_refused() {
        let mut effects = Effects::none(4).unwrap();
        for order in [0, 2, 2, 3, 2] {
            effects.add(publish::value(order).as_bytes()).unwrap();
        }
        let Sum {
            effects: all,
            lost,
            duplicated,
        } = effects.sum();
        assert_eq!((all, lost, duplicated), (5, 1, 2));
        assert!(effects.add(publish::value(4).as_bytes()).is_err());
        assert!(effects.add(b"order").is_err());
    }
}
