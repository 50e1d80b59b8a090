//! The table against a naive model: a list per producer, rules in the order of the specification.

use std::collections::BTreeMap;

use partition_log::{
    ProducerConfig, ProducerTable, ProducerView, SequenceReusePolicy, UnknownProducerPolicy,
    WindowEntry,
};
use proptest::prelude::*;

use crate::harness::{Answer, Batch, KAFKA, Log, MAX, STRICT};

const COUNT: i64 = 1 << 31;

#[derive(Clone)]
struct Known {
    epoch: i16,
    /// First and last sequence, offset, fingerprint.
    batches: Vec<(i64, i64, u64, u32)>,
    last_ms: u64,
    coordinator_epoch: i32,
    open: Option<u64>,
}

struct Model {
    config: ProducerConfig,
    known: BTreeMap<i64, Known>,
    forgotten_below: i64,
    end: u64,
}

fn range(batch: Batch) -> (i64, i64) {
    let first = i64::from(batch.first);
    (first, (first + i64::from(batch.count) - 1) % COUNT)
}

fn records(first: i64, last: i64) -> u64 {
    u64::try_from((last - first).rem_euclid(COUNT) + 1).unwrap()
}

impl Model {
    fn judge(&self, batch: Batch) -> Answer {
        let (first, last) = range(batch);
        let strict = self.config.unknown == UnknownProducerPolicy::Strict;
        let Some(known) = self.known.get(&batch.producer_id) else {
            if strict && (batch.producer_id <= self.forgotten_below || first != 0) {
                return Answer::Refused(45);
            }
            return Answer::Ok(self.end, self.end + records(first, last) - 1);
        };
        if batch.epoch == known.epoch {
            for &(f, l, offset, fingerprint) in &known.batches {
                if (f, l) == (first, last) {
                    let same = fingerprint == batch.fingerprint;
                    if !same && self.config.reuse == SequenceReusePolicy::Refuse {
                        return Answer::Refused(87);
                    }
                    return Answer::Dup(offset, offset + records(f, l) - 1);
                }
            }
        }
        if batch.epoch < known.epoch {
            return Answer::Refused(47);
        }
        let expected = match known.batches.last() {
            Some((_, last, ..)) if batch.epoch == known.epoch => (last + 1) % COUNT,
            _ => 0,
        };
        if first != expected {
            return Answer::Refused(45);
        }
        if known.open.is_some() && !batch.transactional {
            return Answer::Refused(48);
        }
        Answer::Ok(self.end, self.end + records(first, last) - 1)
    }

    fn take(&mut self, batch: Batch, now_ms: u64) {
        let (first, last) = range(batch);
        let offset = self.end;
        self.end += records(first, last);
        let known = self.entry(batch.producer_id, batch.epoch, now_ms);
        if known
            .batches
            .last()
            .is_some_and(|(_, l, ..)| (l + 1) % COUNT != first)
        {
            known.batches.clear();
        }
        known.batches.push((first, last, offset, batch.fingerprint));
        if batch.transactional {
            known.open = known.open.or(Some(offset));
        }
        let window = usize::try_from(self.config.window).unwrap();
        let known = self.known.get_mut(&batch.producer_id).unwrap();
        let too_many = known.batches.len().saturating_sub(window);
        known.batches.drain(..too_many);
    }

    /// The producer, in that epoch.
    fn entry(&mut self, producer_id: i64, epoch: i16, now_ms: u64) -> &mut Known {
        let known = self.known.entry(producer_id).or_insert(Known {
            epoch,
            batches: Vec::new(),
            last_ms: 0,
            coordinator_epoch: -1,
            open: None,
        });
        if known.epoch != epoch {
            known.epoch = epoch;
            known.batches.clear();
        }
        known.last_ms = now_ms;
        known
    }

    fn expire(&mut self, now_ms: u64, period_ms: u64) -> usize {
        let gone = |known: &Known| known.open.is_none() && now_ms - known.last_ms >= period_ms;
        let expired: Vec<i64> = self
            .known
            .iter()
            .filter(|(_, known)| gone(known))
            .map(|(id, _)| *id)
            .collect();
        for id in &expired {
            self.known.remove(id);
            self.forgotten_below = self.forgotten_below.max(*id);
        }
        expired.len()
    }

    fn view(&self, producer_id: i64) -> Option<ProducerView> {
        let known = self.known.get(&producer_id)?;
        let window = known
            .batches
            .iter()
            .map(|&(first, last, base_offset, fingerprint)| {
                let sequence = |s: i64| i32::try_from(s).unwrap();
                WindowEntry {
                    first_sequence: sequence(first),
                    last_sequence: sequence(last),
                    base_offset,
                    count: u32::try_from(records(first, last)).unwrap(),
                    fingerprint,
                }
            });
        Some(ProducerView {
            producer_id,
            epoch: known.epoch,
            window: window.collect(),
            last_append_ms: known.last_ms,
            coordinator_epoch: known.coordinator_epoch,
            open_transaction_offset: known.open,
        })
    }
}

/// The table and the model, asked the same.
struct Pair {
    log: Log,
    model: Model,
}

impl Pair {
    fn new(config: ProducerConfig) -> Pair {
        let model = Model {
            config,
            known: BTreeMap::new(),
            forgotten_below: -1,
            end: 0,
        };
        Pair {
            log: Log::new(config),
            model,
        }
    }

    fn send(&mut self, batch: Batch) -> (Answer, Answer) {
        let expected = self.model.judge(batch);
        if matches!(expected, Answer::Ok(..)) {
            self.model.take(batch, self.log.now_ms);
        }
        (self.log.send(batch), expected)
    }

    fn replay(&mut self, batch: Batch) {
        self.model.take(batch, self.log.now_ms);
        self.log.replay(batch);
    }

    /// The same producers in a fresh table, as after a snapshot.
    fn reload(&mut self) {
        let mut table = ProducerTable::new(self.log.table.config());
        table.raise_forgotten_below(self.log.table.forgotten_below());
        for view in self.log.table.iter() {
            table.insert(view);
        }
        self.log.table = table;
    }

    fn check(&self, ids: std::ops::Range<i64>) {
        assert_eq!(self.log.end, self.model.end);
        assert_eq!(self.log.table.len(), self.model.known.len());
        assert_eq!(self.log.table.forgotten_below(), self.model.forgotten_below);
        for id in ids {
            assert_eq!(self.log.view(id), self.model.view(id));
        }
    }
}

/// `steps` sequences after `base`.
fn after(base: i32, steps: i32) -> i32 {
    let sequence = (i64::from(base) + i64::from(steps)) % COUNT;
    i32::try_from(sequence).unwrap()
}

fn batch(epoch: i16, first: i32, count: i32) -> Batch {
    Batch {
        producer_id: 1,
        epoch,
        first,
        count,
        fingerprint: 0,
        transactional: false,
    }
}

/// Whatever was appended before (0 to 9 batches of one or two records in a row), any two batches
/// after it are answered as the model says: below, in, across and above the window, in this epoch
/// and those around it, near the wrap and far from it.
#[test]
fn any_two_batches_after_any_history() {
    let mut all = Vec::new();
    for epoch in 0..3 {
        for steps in 0..15 {
            for count in 1..4 {
                all.push((epoch, steps, count));
            }
        }
    }
    let mut answers = [0_u32; 6];
    for (base, config) in [(0, STRICT), (0, KAFKA), (MAX - 4, STRICT), (MAX - 4, KAFKA)] {
        for (window, histories) in [(5, [0, 1, 5, 6, 9]), (8, [0, 2, 7, 8, 9])] {
            let config = ProducerConfig { window, ..config };
            for history in histories {
                for &(epoch, steps, count) in &all {
                    // The first of the two is the same for all of the second.
                    let start = || {
                        let mut pair = Pair::new(config);
                        let mut first = base;
                        for n in 0..history {
                            let before = batch(1, first, 1 + n % 2);
                            if n == 0 {
                                pair.replay(before);
                            } else {
                                pair.send(before);
                            }
                            first = after(first, 1 + n % 2);
                        }
                        let (answer, expected) = pair.send(batch(epoch, after(base, steps), count));
                        assert_eq!(answer, expected);
                        (pair, answer)
                    };
                    let (mut pair, first_answer) = start();
                    for &(epoch, steps, count) in &all {
                        let second = batch(epoch, after(base, steps), count);
                        let (answer, expected) = pair.send(second);
                        assert_eq!(
                            answer, expected,
                            "window {window}, base {base}, {history} before, {first_answer:?}, \
                             then {second:?}"
                        );
                        let at = match answer {
                            Answer::Ok(..) => 0,
                            Answer::Dup(..) => 1,
                            Answer::Refused(45) => 2,
                            Answer::Refused(47) => 3,
                            Answer::Refused(_) => 4,
                        };
                        answers[at] += 1;
                        if at == 0 {
                            pair.check(1..2);
                            (pair, _) = start();
                        }
                    }
                }
            }
        }
    }
    // Each answer that can come here did, often.
    assert!(
        answers[..4].iter().all(|count| *count > 10_000),
        "{answers:?}"
    );
}

#[derive(Debug, Clone)]
enum Step {
    Send(Batch),
    /// The next batch of the producer, whatever it is.
    Continue(Batch),
    Replay(Batch),
    Marker(i64, i16, i32),
    Pass(u64),
    Expire(u64),
    Retire(i64),
    Reload,
}

fn any_batch() -> impl Strategy<Value = Batch> {
    let base = prop_oneof![Just(0), Just(MAX - 4)];
    (
        0_i64..4,
        0_i16..3,
        base,
        0..12,
        1..4,
        0_u32..10,
        any::<bool>(),
    )
        .prop_map(
            |(producer_id, epoch, base, steps, count, content, transactional)| Batch {
                producer_id,
                epoch,
                first: after(base, steps),
                count,
                // Mostly the same content for the same sequences.
                fingerprint: u32::from(content == 0),
                transactional,
            },
        )
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => any_batch().prop_map(Step::Send),
        20 => any_batch().prop_map(Step::Continue),
        3 => any_batch().prop_map(Step::Replay),
        2 => (0_i64..4, 0_i16..3, 0..3).prop_map(|(id, epoch, by)| Step::Marker(id, epoch, by)),
        2 => (0_u64..50).prop_map(Step::Pass),
        1 => (20_u64..200).prop_map(Step::Expire),
        1 => (0_i64..4).prop_map(Step::Retire),
        2 => Just(Step::Reload),
    ]
}

fn any_config() -> impl Strategy<Value = ProducerConfig> {
    (
        prop_oneof![Just(5), Just(6), Just(8), Just(100)],
        prop_oneof![
            Just(UnknownProducerPolicy::Strict),
            Just(UnknownProducerPolicy::Kafka)
        ],
        prop_oneof![
            Just(SequenceReusePolicy::Refuse),
            Just(SequenceReusePolicy::Duplicate)
        ],
    )
        .prop_map(|(window, unknown, reuse)| ProducerConfig {
            window,
            unknown,
            reuse,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn any_calls(config in any_config(), steps in prop::collection::vec(any_step(), 1..120)) {
        let mut pair = Pair::new(config);
        for step in steps {
            match step {
                Step::Send(batch) => {
                    let (answer, expected) = pair.send(batch);
                    prop_assert_eq!(answer, expected);
                }
                Step::Continue(batch) => {
                    let known = pair.log.view(batch.producer_id);
                    let epoch = known.as_ref().map_or(batch.epoch, |known| known.epoch);
                    let last = known.and_then(|known| known.window.last().copied());
                    let first = last.map_or(batch.first, |last| after(last.last_sequence, 1));
                    let (answer, expected) = pair.send(Batch { epoch, first, ..batch });
                    prop_assert_eq!(answer, expected);
                }
                Step::Replay(batch) => pair.replay(batch),
                Step::Marker(id, epoch, coordinator_epoch) => {
                    pair.log.marker(id, epoch, coordinator_epoch);
                    pair.model.end += 1;
                    let known = pair.model.entry(id, epoch, pair.log.now_ms);
                    known.coordinator_epoch = coordinator_epoch;
                    known.open = None;
                }
                Step::Pass(ms) => pair.log.now_ms += ms,
                Step::Expire(period) => {
                    let now = pair.log.now_ms;
                    prop_assert_eq!(
                        pair.log.table.expire(now, period),
                        pair.model.expire(now, period)
                    );
                }
                Step::Retire(id) => {
                    let retires = pair.model.known.get(&id).is_some_and(|k| k.open.is_none());
                    prop_assert_eq!(pair.log.table.retire(id), retires);
                    if retires {
                        pair.model.known.remove(&id);
                    }
                }
                Step::Reload => pair.reload(),
            }
            pair.check(0..4);
        }
    }
}
