//! A log with a small budget against one without: every answer is the same, whatever happens.

use partition_log::{
    PartitionConfig, ProducerConfig, ProducerView, SequenceReusePolicy, UnknownProducerPolicy,
};
use record_batch::{ControlKind, ControlRecord, control_batch};

use crate::batches::Sent;
use crate::driver::{Driver, budget};
use crate::random::Random;

const IDS: u64 = 60;
const EXPIRY_MS: u64 = 10_000;

/// What is done to the file of producers on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    None,
    /// Bits flip and the file is cut, now and then.
    Damage,
}

/// What a producer did so far.
#[derive(Debug, Clone, Default)]
struct Producer {
    epoch: i16,
    next: i32,
    accepted: Vec<Sent>,
    transaction: bool,
}

struct Pair {
    small: Driver,
    free: Driver,
    producers: Vec<Producer>,
    random: Random,
    answers: u64,
}

impl Pair {
    fn new(seed: u64, config: &PartitionConfig) -> Pair {
        let free = PartitionConfig {
            producers_max: usize::MAX,
            ..config.clone()
        };
        Pair {
            small: Driver::new(config.clone()),
            free: Driver::new(free),
            producers: vec![Producer::default(); usize::try_from(IDS).unwrap()],
            random: Random::new(seed),
            answers: 0,
        }
    }

    // Mostly what comes next; else all that can be wrong with a batch.
    fn batch(&mut self) -> Sent {
        // A few producers are busy.
        let ids = if self.random.chance(50) { IDS } else { 5 };
        let id = self.random.id(ids);
        let producer = &self.producers[usize::try_from(id).unwrap()];
        let count = 1 + i32::try_from(self.random.below(3)).unwrap();
        let next = Sent {
            producer_id: id,
            epoch: producer.epoch,
            first: producer.next,
            count,
            content: 0,
            transactional: producer.transaction,
        };
        let accepted = &producer.accepted;
        let recent = u64::try_from(accepted.len().min(8)).unwrap();
        let earlier = (recent > 0).then(|| {
            let back = usize::try_from(self.random.below(recent)).unwrap();
            accepted[accepted.len() - 1 - back]
        });
        match (self.random.below(20), earlier) {
            (0..=3, Some(earlier)) => earlier,
            (4, Some(earlier)) => Sent {
                content: 1,
                ..earlier
            },
            (5, Some(earlier)) => Sent {
                count: earlier.count + 1,
                ..earlier
            },
            (6, _) => Sent {
                first: next.first.saturating_add(2),
                ..next
            },
            (7, _) => Sent {
                epoch: (next.epoch - 1).max(0),
                ..next
            },
            (8, _) => Sent {
                epoch: next.epoch + 1,
                first: 0,
                ..next
            },
            (9, _) => Sent {
                epoch: next.epoch + 1,
                first: 3,
                ..next
            },
            (10, _) => Sent {
                transactional: true,
                ..next
            },
            _ => next,
        }
    }

    fn send(&mut self) -> Result<(), String> {
        let sent = self.batch();
        let small = self.small.append(sent).map_err(|e| e.to_string());
        let free = self.free.append(sent).map_err(|e| e.to_string());
        self.answers += 1;
        if small != free {
            return Err(format!(
                "{sent:?}: {small:?}, and without a budget {free:?}"
            ));
        }
        if small.is_ok_and(|appended| !appended.duplicate) {
            let producer = &mut self.producers[usize::try_from(sent.producer_id).unwrap()];
            producer.epoch = sent.epoch;
            producer.next = sent.first + sent.count;
            producer.transaction |= sent.transactional;
            producer.accepted.push(sent);
        }
        Ok(())
    }

    fn both(&mut self, f: impl Fn(&mut Driver)) {
        f(&mut self.small);
        f(&mut self.free);
    }

    fn reopened(self, how: impl Fn(Driver) -> Driver) -> Pair {
        Pair {
            small: how(self.small),
            free: how(self.free),
            ..self
        }
    }

    fn end_transaction(&mut self) {
        let id = self.random.id(IDS);
        let producer = &mut self.producers[usize::try_from(id).unwrap()];
        if !producer.transaction {
            return;
        }
        producer.transaction = false;
        let marker = ControlRecord {
            kind: ControlKind::Commit,
            coordinator_epoch: 2,
        };
        let marker = control_batch(id, producer.epoch, marker, 0);
        self.both(|driver| driver.replicate(&marker));
    }

    fn harm(&mut self) {
        let (disk, file) = (self.small.disk.clone(), Driver::file());
        let Ok(bytes) = disk.read_file(&file) else {
            return;
        };
        let len = u64::try_from(bytes.len()).unwrap();
        if self.random.chance(50) {
            let bit = 1 << self.random.below(8);
            disk.corrupt(&file, self.random.below(len), bit).unwrap();
        } else {
            for position in self.random.below(len)..len {
                disk.corrupt(&file, position, 0xA5).unwrap();
            }
        }
    }

    // Everything else that happens to a log.
    fn event(mut self, harm: Harm) -> Pair {
        match self.random.below(26) {
            0..=7 => self.small.settle(),
            8..=9 => {
                self.small.step();
            }
            10..=13 => self.both(Driver::commit),
            14 => self.both(Driver::roll),
            // A log that is read again knows the retired ones again, as after a kill.
            15 if harm == Harm::None => {
                let id = self.random.id(IDS);
                self.both(|driver| driver.log.borrow_mut().retire_producer(id));
            }
            16 => {
                let id = self.random.id(IDS);
                self.both(|driver| driver.log.borrow_mut().producers_mut().keep(id));
            }
            17..=18 if harm == Harm::None => {
                let ms = self.random.below(EXPIRY_MS / 2);
                self.both(|driver| {
                    driver.pass(ms);
                });
            }
            17..=18 => self.harm(),
            19..=20 => self.end_transaction(),
            21 => {
                self.both(Driver::commit);
                let end = self.free.log.borrow().next_offset();
                let to = end - self.random.below(end.min(30) + 1);
                self.both(|driver| driver.delete_before(to));
            }
            22 => {
                self.both(Driver::commit);
                return self.reopened(Driver::reload);
            }
            23 => {
                self.both(Driver::commit);
                return self.reopened(Driver::kill);
            }
            24 => {
                self.both(Driver::commit);
                return self.reopened(Driver::crash);
            }
            _ => {
                let id = self.random.id(IDS);
                let is_known = |driver: &Driver| driver.log.borrow().is_known(id);
                assert_eq!(is_known(&self.small), is_known(&self.free));
            }
        }
        self
    }

    // After damage the last appends' times are those of the rebuild.
    fn compare(&mut self, harm: Harm) {
        let timeless = |views: Vec<ProducerView>| match harm {
            Harm::None => views,
            Harm::Damage => views
                .into_iter()
                .map(|view| ProducerView {
                    last_append_ms: 0,
                    ..view
                })
                .collect(),
        };
        let (small, free) = (timeless(self.small.views()), timeless(self.free.views()));
        for (small, free) in small.iter().zip(&free) {
            assert_eq!(small, free);
        }
        assert_eq!(small.len(), free.len());
    }
}

/// Counts of all that a run did: answers, evictions, loads, rebuilds.
fn run(seed: u64, config: &PartitionConfig, harm: Harm) -> [u64; 4] {
    let mut pair = Pair::new(seed, config);
    let mut counts = [0; 4];
    for step in 0..600 {
        if pair.random.chance(80) {
            if let Err(difference) = pair.send() {
                panic!("seed {seed}, {harm:?}, step {step}: {difference}");
            }
        } else {
            let used = pair.small.budget();
            let generation = pair.small.generation();
            pair = pair.event(harm);
            if pair.small.generation() != generation {
                counts[1] += used.evictions;
                counts[2] += used.loads;
                counts[3] += used.rebuilds;
            }
        }
        if step % 50 == 0 {
            pair.compare(harm);
        }
        let found = pair.small.budget();
        let kept = 60;
        assert!(found.in_memory <= 20 + kept, "seed {seed}: {found:?}");
    }
    pair.compare(harm);
    let used = pair.small.budget();
    counts[0] = pair.answers;
    counts[1] += used.evictions;
    counts[2] += used.loads;
    counts[3] += used.rebuilds;
    counts
}

fn configs() -> [PartitionConfig; 3] {
    let strict = PartitionConfig {
        producer_expiry_ms: EXPIRY_MS,
        ..budget(16)
    };
    let kafka = PartitionConfig {
        producers: ProducerConfig {
            window: 5,
            unknown: UnknownProducerPolicy::Kafka,
            reuse: SequenceReusePolicy::Duplicate,
        },
        ..strict.clone()
    };
    let wide = PartitionConfig {
        producers: ProducerConfig {
            window: 40,
            ..strict.producers
        },
        log_append_time: true,
        ..strict.clone()
    };
    [strict, kafka, wide]
}

fn runs(harm: Harm, seeds: std::ops::Range<u64>) -> [u64; 4] {
    let mut all = [0; 4];
    for seed in seeds {
        let config = &configs()[usize::try_from(seed % 3).unwrap()];
        for (all, one) in all.iter_mut().zip(run(seed, config, harm)) {
            *all += one;
        }
    }
    all
}

#[test]
fn no_answer_depends_on_the_budget() {
    let [answers, evictions, loads, rebuilds] = runs(Harm::None, 0..300);
    assert!(answers > 100_000 && evictions > 20_000 && loads > 10_000);
    assert_eq!(rebuilds, 0);
}

#[test]
fn no_answer_depends_on_a_file_that_is_damaged() {
    let [answers, evictions, loads, rebuilds] = runs(Harm::Damage, 1_000..1_200);
    assert!(answers > 80_000 && evictions > 10_000 && loads > 5_000);
    assert!(rebuilds > 500, "{rebuilds} rebuilds");
}
