//! Random histories: what is known after a restart is what was known before it, with every cache
//! or without (I2, I3, I20, I25).

use std::collections::BTreeMap;

use partition_log::PartitionConfig;
use proptest::prelude::*;
use segment_storage::{Disk, MemoryDisk, Visibility};

use crate::harness::{Answer, DIRECTORY, Sent, World, p7, path, strict};

#[derive(Debug, Clone)]
enum Step {
    /// Producer, records.
    Append(u8, u8),
    /// Producer, how many batches back.
    Repeat(u8, u8),
    /// Producer, how far ahead.
    Gap(u8, u8),
    RaiseEpoch(u8),
    Commit,
    Roll,
    Delete(u8),
    Reload,
    Kill,
    PowerCut,
    /// Which caches go: bits for snapshots, indexes, footers.
    WithoutCaches(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let producer = 0..4u8;
    prop_oneof![
        10 => (producer.clone(), 1..4u8).prop_map(|(p, n)| Step::Append(p, n)),
        5 => (producer.clone(), 0..7u8).prop_map(|(p, n)| Step::Repeat(p, n)),
        1 => (producer.clone(), 1..9u8).prop_map(|(p, n)| Step::Gap(p, n)),
        1 => producer.prop_map(Step::RaiseEpoch),
        3 => Just(Step::Commit),
        1 => Just(Step::Roll),
        1 => any::<u8>().prop_map(Step::Delete),
        1 => Just(Step::Reload),
        1 => Just(Step::Kill),
        1 => Just(Step::PowerCut),
        1 => (1..8u8).prop_map(Step::WithoutCaches),
    ]
}

#[derive(Debug, Default)]
struct Producer {
    epoch: i16,
    /// Accepted batches of the epoch, oldest first, and where they are.
    accepted: Vec<(Sent, u64)>,
}

impl Producer {
    fn next(&self) -> i32 {
        self.accepted.last().map_or(0, |(sent, _)| sent.last + 1)
    }
}

struct History {
    world: World,
    producers: BTreeMap<i64, Producer>,
}

fn id(producer: u8) -> i64 {
    10 + i64::from(producer)
}

impl History {
    fn batch(&self, producer: u8, first: i32, count: u8) -> Sent {
        let epoch = self.producers.get(&id(producer)).map_or(0, |p| p.epoch);
        let last = first + i32::from(count) - 1;
        p7(first, last).of(id(producer)).epoch(epoch).bytes(300)
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Append(producer, count) => {
                let sent = self.batch_of(*producer, *count);
                let next = self.world.log.next_offset();
                let last = next + u64::from(*count) - 1;
                assert_eq!(self.world.send(sent), Answer::Ok(next, last), "I3");
                let known = self.producers.entry(id(*producer)).or_default();
                known.accepted.push((sent, next));
            }
            Step::Repeat(producer, back) => {
                let Some(known) = self.producers.get(&id(*producer)) else {
                    return;
                };
                let back = usize::from(*back) + 1;
                let Some(at) = known.accepted.len().checked_sub(back) else {
                    return;
                };
                let (sent, offset) = known.accepted[at];
                let end = self.world.log.next_offset();
                let expected = if back <= 5 {
                    let count = u64::try_from(sent.last - sent.first).unwrap();
                    Answer::Dup(offset, offset + count)
                } else {
                    Answer::Refused(45)
                };
                assert_eq!(self.world.send(sent), expected, "I2: {back} back");
                assert_eq!(self.world.log.next_offset(), end);
            }
            Step::Gap(producer, ahead) => {
                let next = self.producers.get(&id(*producer)).map_or(0, Producer::next);
                let sent = self.batch(*producer, next + i32::from(*ahead), 1);
                assert_eq!(self.world.send(sent), Answer::Refused(45), "I3");
            }
            Step::RaiseEpoch(producer) => {
                let known = self.producers.entry(id(*producer)).or_default();
                if !known.accepted.is_empty() {
                    known.epoch += 1;
                    known.accepted.clear();
                    // It counts from the first batch on.
                    self.run(&Step::Append(*producer, 1));
                }
            }
            Step::Commit => self.world.commit(),
            Step::Roll => self.world.roll(),
            Step::Delete(part) => {
                let reader = self.world.log.reader();
                let (start, end) = (reader.log_start_offset(), reader.high_watermark());
                let offset = start + (end - start) * u64::from(*part) / 255;
                self.world.delete_before(offset);
            }
            Step::Reload => {
                let before = self.world.producers();
                self.world.reload();
                assert_eq!(self.world.producers(), before, "I20: reload");
            }
            Step::Kill => {
                let before = self.world.producers();
                self.world.kill();
                assert_eq!(self.world.producers(), before, "I20: kill");
            }
            Step::PowerCut => {
                let synced = self.world.log.segments().synced_offset();
                self.world.power_cut();
                self.forget_above(synced);
            }
            Step::WithoutCaches(which) => {
                let before = self.world.producers();
                self.world.commit();
                // Where data was deleted, snapshots are the only witnesses (I18).
                let reader = self.world.log.reader();
                let is_whole = reader.log_start_offset() == 0;
                // Without its footer, a log that begins with a jump cannot be told from one whose
                // first segment is missing.
                let segments = reader.view().segments();
                let jumped = |s: &&std::sync::Arc<segment_storage::Segment>| {
                    s.previous_end() < s.base_offset()
                };
                let which = if segments.first().filter(jumped).is_some() {
                    which & 3
                } else {
                    *which
                };
                let disk = self.world.disk.after_kill();
                remove_caches(&disk, which, is_whole);
                self.world.reopen(disk);
                assert!(!self.world.opened.history_lost);
                assert_eq!(self.world.producers(), before, "I20, I25: without {which}");
            }
        }
        self.check();
    }

    fn batch_of(&self, producer: u8, count: u8) -> Sent {
        let next = self.producers.get(&id(producer)).map_or(0, Producer::next);
        self.batch(producer, next, count)
    }

    // Everything that was not synced is gone, and producers are where they were before it.
    fn forget_above(&mut self, synced: u64) {
        let views = self.world.producers();
        for (id, producer) in &mut self.producers {
            producer.accepted.retain(|(_, offset)| *offset < synced);
            let view = views.iter().find(|v| v.producer_id == *id);
            let (epoch, window) = view.map_or((producer.epoch, 0), |v| (v.epoch, v.window.len()));
            if epoch != producer.epoch {
                // The epoch itself was lost; its batches of before are known to the log alone.
                producer.epoch = epoch;
                producer.accepted = view.map_or_else(Vec::new, |v| {
                    let sent = |e: &partition_log::WindowEntry| {
                        let sent = p7(e.first_sequence, e.last_sequence).of(*id).epoch(epoch);
                        (sent.bytes(300), e.base_offset)
                    };
                    v.window.iter().map(sent).collect()
                });
            }
            assert_eq!(window, producer.accepted.len().min(5), "I20: producer {id}");
        }
    }

    fn check(&self) {
        for (id, producer) in &self.producers {
            let window = self.world.window(*id);
            let newest = producer.accepted.iter().rev().take(window.len()).rev();
            let expected: Vec<_> = newest.map(|(sent, _)| (sent.first, sent.last)).collect();
            assert_eq!(window, expected, "producer {id}");
            assert!(
                window.len() == producer.accepted.len().min(5),
                "producer {id}"
            );
        }
        assert_eq!(
            self.world.log.map_end_offset(),
            self.world.log.next_offset()
        );
    }
}

fn remove_caches(disk: &MemoryDisk, which: u8, snapshots_too: bool) {
    for entry in disk.list(DIRECTORY).unwrap() {
        let bit = match entry.name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("snapshot") if snapshots_too => 1,
            Some("index") => 2,
            Some("footer") => 4,
            _ => 0,
        };
        if bit & which != 0 {
            disk.remove(&path(&entry.name)).unwrap();
        }
    }
}

fn run(visibility: Visibility, log_append_time: bool, steps: &[Step]) {
    let config = PartitionConfig {
        visibility,
        log_append_time,
        segment_bytes: 4096,
        ..strict()
    };
    let mut history = History {
        world: World::new(config),
        producers: BTreeMap::new(),
    };
    for step in steps {
        history.run(step);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn producers_are_known_as_before_at_synced(
        steps in prop::collection::vec(step(), 1..80),
        own_time: bool,
    ) {
        run(Visibility::Synced, own_time, &steps);
    }

    #[test]
    fn producers_are_known_as_before_at_weaker_levels(
        steps in prop::collection::vec(step(), 1..80),
        own_time: bool,
    ) {
        run(Visibility::Written, own_time, &steps);
    }
}
