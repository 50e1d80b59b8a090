//! Random sequences of calls of an inbox, of up to two transactions at a time, each answer compared with the model's.

mod transactions;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use super::inbox::Tx;
use super::inbox_model::{self as model, Model};
use super::interleavings::ms;
use super::model::Below;
use super::{InboxFixture, Interleavings, Ran, Random};
use crate::dedup_store::Horizon;
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::identity::{Part, Scope};
use crate::inbox::Inbox;

const TOPIC: &str = "orders";
const KEYS: usize = 4;

/// Runs them over an inbox, and says what was run.
///
/// # Panics
/// At the first answer that is not the model's; says the seed, and every call so far.
pub async fn inbox_interleavings<F: InboxFixture>(f: &F, of: Interleavings) -> Ran {
    for run in 0..of.runs {
        let seed = of.seed.wrapping_add(run);
        let mut driver = Driver::new(f, of, seed).await;
        for _ in 0..of.calls {
            driver.step().await;
        }
        driver.finish().await;
    }
    of.ran(f.backend(), "inbox")
}

struct Open<F: InboxFixture> {
    tx: Tx<F>,
    model: model::Tx,
    delivery: Option<Delivery>,
}

struct Driver<'f, F: InboxFixture> {
    f: &'f F,
    of: Interleavings,
    seed: u64,
    random: Random,
    scope: Scope,
    parts: [Part; 2],
    open: Vec<Open<F>>,
    model: Model,
    has_behind: bool,
    /// Whether it lost what it had and nobody assigned anything since.
    is_lost: bool,
    /// The offset of the record that carried a key last in a partition.
    carriers: BTreeMap<(usize, usize), u64>,
    records: u64,
    last_number: u64,
    trace: Vec<String>,
}

impl<'f, F: InboxFixture> Driver<'f, F> {
    async fn new(f: &'f F, of: Interleavings, seed: u64) -> Driver<'f, F> {
        let scope = f.scope();
        let parts = [0, 1].map(|number| Part::new(scope.group.clone(), TOPIC, number));
        let mut driver = Driver {
            f,
            of,
            seed,
            random: Random::new(seed),
            scope,
            parts,
            open: Vec::new(),
            model: Model::default(),
            has_behind: false,
            is_lost: false,
            carriers: BTreeMap::new(),
            records: 0,
            last_number: 0,
            trace: Vec::new(),
        };
        driver.assign(0, 1).await;
        driver.assign(1, 1).await;
        driver.has_behind = f.write_behind(1).await.is_some();
        driver
    }

    async fn step(&mut self) {
        let idle = self.open.is_empty();
        match self.random.below(100) {
            0..12 => self.begin().await,
            12..52 => self.work().await,
            52..66 => self.commit().await,
            66..70 => self.forget_one(),
            70..74 if idle || self.f.side_by_side() => self.reassign().await,
            74..80 => self.count().await,
            80..83 if idle => self.pass().await,
            83..86 if idle && !self.is_lost => self.sweep().await,
            86..88 if idle && !self.is_lost => self.forward().await,
            88..90 if self.f.is_durable() => self.crash().await,
            90..96 if self.has_behind && !self.is_lost => self.write_behind().await,
            96.. if self.has_behind => self.lose().await,
            _ => self.work().await,
        }
    }

    fn said(&mut self, call: impl Debug, answer: impl Debug) {
        self.trace.push(format!("{call:?} -> {answer:?}"));
    }

    fn check<T: Debug + PartialEq>(&mut self, call: impl Debug, is: &T, expected: &T) {
        self.said(&call, is);
        if is != expected {
            self.fail(call, is, expected);
        }
    }

    fn fail(&self, call: impl Debug, is: impl Debug, expected: impl Debug) -> ! {
        panic!(
            "{}: {call:?}\n  answered {is:?}\n  expected {expected:?}\nagain: ONCELOG_SEED={:#x} ONCELOG_RUNS=1\n{:#?}",
            self.f.backend(),
            self.seed,
            self.trace,
        );
    }

    async fn assign(&mut self, part: usize, epoch: u64) {
        let answer = self.f.inbox().assign(&self.parts[part], epoch).await;
        let call = ("assign", part, epoch);
        if epoch < self.model.epochs[part] {
            let current = self.model.epochs[part];
            return self.fenced(call, answer.map(drop), (epoch, current));
        }
        let expected = self.model.assign(part, epoch);
        self.check(call, &answer.unwrap(), &expected);
        self.is_lost = false;
    }

    fn fenced(&mut self, call: impl Debug, answer: Result<(), StoreError>, epochs: (u64, u64)) {
        let is = match answer {
            Err(StoreError::Fenced { held, current }) => Ok((held, current)),
            other => Err(format!("{other:?}")),
        };
        self.check(call, &is, &Ok(epochs));
    }

    async fn reassign(&mut self) {
        let part = usize::from(self.random.below(2) == 0);
        let current = self.model.epochs[part];
        let epoch = match self.random.below(3) {
            0 if current > 1 && !self.is_lost => current - 1,
            1 => current,
            _ => current + 1,
        };
        self.assign(part, epoch).await;
    }

    async fn count(&mut self) {
        let key = usize::try_from(self.random.below(KEYS as u64)).unwrap();
        self.count_of(key).await;
    }

    async fn count_of(&mut self, key: usize) {
        let is = self.f.count(&self.effect(key)).await;
        let expected = self.model.stored.effects.get(&key).copied().unwrap_or(0);
        self.check(("count", key), &is, &expected);
    }

    async fn pass(&mut self) {
        let time = 1 + self.random.below(2 * ms(self.of.short));
        self.trace.push(format!("{time} ms pass"));
        self.f.pass(Duration::from_millis(time)).await;
        self.model.now += time;
    }

    async fn sweep(&mut self) {
        let short = ms(self.of.short);
        let random = &mut self.random;
        let starts = [random.below(14), random.below(14)];
        let below = Below {
            log_start: 0,
            window: short,
            origin: 1_000 + random.below(80),
            parked: random.one_of(&[None, Some(short)]),
        };
        let mut gone = self.model.below(below, starts);
        let mut max = 1_000;
        // Of several equally old ones it is open which goes first.
        if let [(Some(first), _), (second, _), ..] = &*gone
            && *second > Some(*first)
        {
            max = 1;
            gone.truncate(1);
        }
        let starts = starts.into_iter().zip(0..);
        let horizon = Horizon {
            scope: self.scope.clone(),
            log_starts: BTreeMap::from_iter(starts.map(|(at, n)| ((TOPIC.into(), n), at))),
            republish_window: Duration::from_millis(below.window),
            origin_before_ms: below.origin,
            parked_longer_than: below.parked.map(Duration::from_millis),
        };
        let is = self.f.inbox().sweep(&horizon, max).await.unwrap();
        self.check((&horizon, max), &is, &gone.len());
        self.model.forget(&gone);
    }

    // Those of one transaction are in order; which of two transactions comes first is open.
    async fn forward(&mut self) {
        let all = self.f.inbox().outgoing(1_000).await.unwrap();
        self.model.write_behind(usize::MAX);
        let numbers: Vec<u64> = all.iter().map(|(number, _)| *number).collect();
        let rise = numbers.iter().all(|number| *number > self.last_number)
            && numbers.is_sorted_by(|a, b| a < b);
        self.check(("numbers rise", &numbers), &rise, &true);
        let values = all.iter().map(|(_, record)| record.value.clone().unwrap());
        let values = values.map(|value| std::str::from_utf8(&value).unwrap().parse().unwrap());
        let mut records: Vec<u64> = values.collect();
        records.sort_unstable();
        let mut expected = self.model.stored.outgoing.clone();
        expected.sort_unstable();
        self.check("outgoing", &records, &expected);
        if let Some(last) = numbers.last() {
            self.f.inbox().forwarded(*last).await.unwrap();
            self.last_number = *last;
            self.model.forwarded(&records);
        }
    }

    async fn write_behind(&mut self) {
        let max = usize::try_from(1 + self.random.below(4)).unwrap();
        let is = self.f.write_behind(max).await;
        let expected = self.model.write_behind(max);
        self.check(("write behind", max), &is, &Some(expected));
    }

    async fn crash(&mut self) {
        self.trace.push("crash".into());
        self.open.clear();
        self.f.reopen().await;
    }

    async fn lose(&mut self) {
        self.trace
            .push("everything but what was written behind is lost".into());
        self.f.lose().await;
        self.model.lose();
        self.is_lost = true;
    }

    // Whatever became of it, every effect is there as often as it was committed, and every record is sent.
    async fn finish(&mut self) {
        self.open.clear();
        for part in 0..2 {
            self.assign(part, self.model.epochs[part] + 1).await;
        }
        for key in 0..KEYS {
            self.count_of(key).await;
        }
        self.forward().await;
    }
}
