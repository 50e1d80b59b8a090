//! Random sequences of calls, each answer compared with the model's.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;

use super::model::{Answer, Below, Claim, Model};
use super::{Fixture, Interleavings, LONG, Ran, Random};
use crate::admission::{Admission, Held, Settlement};
use crate::dedup_store::{ClaimRequest, DedupStore, Horizon};
use crate::error::StoreError;
use crate::identity::{BizId, DedupKey, Fingerprint, Position};

const TOPIC: &str = "orders";

/// Runs them, and says what was run.
///
/// # Panics
/// At the first answer that is not the model's; says the seed, and every call so far.
pub async fn interleavings<F: Fixture>(f: &F, of: Interleavings) -> Ran {
    for run in 0..of.runs {
        let seed = of.seed.wrapping_add(run);
        let mut driver = Driver::new(f, of, seed);
        for _ in 0..of.calls {
            driver.step().await;
        }
    }
    of.ran(f.backend(), "store")
}

struct Driver<'f, F> {
    f: &'f F,
    of: Interleavings,
    seed: u64,
    random: Random,
    keys: Vec<DedupKey>,
    model: Model,
    helds: Vec<(usize, Held)>,
    // The greatest token of each key.
    tokens: BTreeMap<usize, u64>,
    // The offset and the origin time of the record that carried each key last.
    records: BTreeMap<usize, (u64, Option<u64>)>,
    trace: Vec<String>,
}

impl<'f, F: Fixture> Driver<'f, F> {
    fn new(f: &'f F, of: Interleavings, seed: u64) -> Driver<'f, F> {
        let scope = f.scope();
        let keys = ["x", "y", "z"].map(|id| DedupKey::new(scope.clone(), BizId::new(id).unwrap()));
        Driver {
            f,
            of,
            seed,
            random: Random::new(seed),
            keys: keys.to_vec(),
            model: Model::default(),
            helds: Vec::new(),
            tokens: BTreeMap::new(),
            records: BTreeMap::new(),
            trace: Vec::new(),
        }
    }

    async fn step(&mut self) {
        match self.random.below(100) {
            0..40 => self.claim().await,
            40..48 => self.renew().await,
            48..75 => self.settle().await,
            75..85 => self.pass().await,
            85..90 => self.peek().await,
            90..97 if self.f.sweeps() => self.sweep().await,
            97.. if self.f.is_durable() => self.crash().await,
            _ => self.claim().await,
        }
    }

    fn check(
        &mut self,
        call: impl Debug,
        is: &(impl Debug + PartialEq),
        expected: &(impl Debug + PartialEq),
        same: bool,
    ) {
        self.trace.push(format!("{call:?} -> {is:?}"));
        assert!(
            same,
            "{}: {call:?}\n  answered {is:?}\n  expected {expected:?}\nagain: ONCELOG_SEED={:#x} ONCELOG_RUNS=1\n{:#?}",
            self.f.backend(),
            self.seed,
            self.trace,
        );
    }

    fn lease(&mut self) -> Duration {
        let short = self.of.short;
        self.random.one_of(&[short, short, LONG])
    }

    // Time that does not stand still cannot be left to chance.
    async fn settle_time(&mut self, lease: Duration) {
        if !self.of.exact_time && lease < LONG {
            self.pass().await;
        }
    }

    async fn claim(&mut self) {
        let lease = self.lease();
        let random = &mut self.random;
        let key = usize::try_from(random.below(3)).unwrap();
        let offset = random.below(10);
        let origin = (random.below(6) > 0).then(|| 1_000 + 10 * (offset / 2));
        // As often the record that carried the id last.
        let (offset, origin) = match self.records.get(&key) {
            Some(same) if random.below(2) == 0 => *same,
            _ => (offset, origin),
        };
        self.records.insert(key, (offset, origin));
        let claim = Claim {
            key,
            owner: random.below(4),
            payload: u8::from(random.below(12) == 0),
            redrive: random.below(4) == 0,
            lease: ms(lease),
            origin,
            offset,
        };
        let position = Position {
            topic: TOPIC,
            partition: 0,
            offset,
        };
        let request = ClaimRequest {
            redrive: claim.redrive,
            origin_ms: claim.origin,
            position: Some(position),
            ..ClaimRequest::new(
                &self.keys[claim.key],
                owner(claim.owner),
                payload(claim.payload),
                lease,
            )
        };
        let answer = self.f.store().claim(request).await.unwrap();
        let expected = self.model.claim(claim);
        let last = self.tokens.get(&claim.key).copied().unwrap_or(0);
        let same = match (&answer, &expected) {
            (Admission::Run(held), Answer::Run(token, attempt, prior)) => {
                let number = held.token.get();
                let fits = token.map_or(number > last, |token| number == token);
                fits && (held.attempt, held.prior) == (*attempt, *prior)
            }
            (Admission::Done(receipt), Answer::Done(token, result)) => {
                (receipt.token.get(), &receipt.result) == (*token, result)
            }
            (Admission::Busy { retry_after }, Answer::Busy(left)) => {
                !retry_after.is_zero() && ms(*retry_after) <= *left
            }
            (Admission::Mismatch { stored }, Answer::Mismatch(first)) => *stored == payload(*first),
            (Admission::Parked, Answer::Parked) | (Admission::Expired, Answer::Expired) => true,
            _ => false,
        };
        self.check(claim, &answer, &expected, same);
        if let Admission::Run(held) = answer {
            self.model.granted(claim.key, held.token.get());
            self.tokens.insert(claim.key, held.token.get());
            self.helds.push((claim.key, held));
            self.settle_time(lease).await;
        }
    }

    // Mostly the latest, and any earlier one: a zombie.
    fn held(&mut self) -> Option<(usize, Held)> {
        let newest = self.helds.iter().rev().take(3).cloned();
        let newest: Vec<_> = newest.collect();
        match self.random.below(5) {
            _ if newest.is_empty() => None,
            0 => Some(self.random.one_of(&self.helds)),
            _ => Some(self.random.one_of(&newest)),
        }
    }

    async fn renew(&mut self) {
        let (Some((key, held)), lease) = (self.held(), self.lease()) else {
            return;
        };
        let answer = self.f.store().renew(&held, lease).await;
        let expected = self.model.renew(key, held.token.get(), ms(lease));
        let is = succeeded(answer);
        self.check(
            ("renew", key, held.token, lease),
            &is,
            &expected,
            is == expected,
        );
        if is {
            self.settle_time(lease).await;
        }
    }

    async fn settle(&mut self) {
        let Some((key, held)) = self.held() else {
            return;
        };
        let result = Bytes::from_static(b"result");
        let ends = [
            Settlement::Done(None),
            Settlement::Done(Some(result)),
            Settlement::Released,
            Settlement::Released,
            Settlement::Parked,
        ];
        let how = self.random.one_of(&ends);
        let answer = self.f.store().settle(&held, how.clone()).await;
        let expected = self.model.settle(key, held.token.get(), &how);
        let is = succeeded(answer);
        self.check(
            ("settle", key, held.token, how),
            &is,
            &expected,
            is == expected,
        );
    }

    async fn pass(&mut self) {
        let short = ms(self.of.short);
        let time = match self.of.exact_time {
            true => 1 + self.random.below(2 * short),
            false => 2 * short + 1,
        };
        self.trace.push(format!("{time} ms pass"));
        self.f.pass(Duration::from_millis(time)).await;
        self.model.now += time;
    }

    async fn peek(&mut self) {
        let key = usize::try_from(self.random.below(3)).unwrap();
        let answer = self.f.store().peek(&self.keys[key]).await.unwrap();
        let is = answer.map(|receipt| (receipt.token.get(), receipt.result));
        let expected = self.model.result(key);
        let same = is == expected;
        self.check(("peek", key), &is, &expected, same);
    }

    async fn sweep(&mut self) {
        if !self.of.exact_time {
            self.pass().await;
        }
        let short = ms(self.of.short);
        let random = &mut self.random;
        let below = Below {
            log_start: random.below(12),
            window: short,
            origin: 1_000 + random.below(60),
            parked: random.one_of(&[None, Some(short)]),
        };
        let mut gone = self.model.below(below);
        let mut max = 1_000;
        // Of several equally old ones it is open which goes first.
        if let [(Some(first), _), rest @ ..] = &*gone
            && rest
                .first()
                .is_some_and(|(second, _)| *second > Some(*first))
        {
            max = 1;
            gone.truncate(1);
        }
        let horizon = Horizon {
            scope: self.keys[0].scope.clone(),
            log_starts: BTreeMap::from([((TOPIC.into(), 0), below.log_start)]),
            republish_window: Duration::from_millis(below.window),
            origin_before_ms: below.origin,
            parked_longer_than: below.parked.map(Duration::from_millis),
        };
        let is = self.f.store().sweep(&horizon, max).await.unwrap();
        let expected = gone.len();
        self.check((below, max), &is, &expected, is == expected);
        self.model.forget(&gone);
    }

    async fn crash(&mut self) {
        self.trace.push("crash".into());
        self.f.reopen().await;
        if self.f.reopening_ends_leases() {
            self.model.end_leases();
        }
    }
}

pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

// Owners differ in their upper halves, too.
fn owner(number: u64) -> u128 {
    u128::from(number % 2) << 127 | u128::from(number / 2)
}

fn payload(number: u8) -> Fingerprint {
    Fingerprint::of(&[number])
}

fn succeeded(answer: Result<(), StoreError>) -> bool {
    match answer {
        Ok(()) => true,
        Err(StoreError::Lost(_)) => false,
        Err(error) => panic!("{error}"),
    }
}
