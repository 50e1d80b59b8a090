//! Random operations and crashes against a list.

use proptest::prelude::*;
use segment_storage::{Disk, LogConfig, MemoryDisk, Visibility};

use crate::harness::{DIRECTORY, Entry, Random, TestLog, config, create, path, place};

#[derive(Debug, Clone)]
enum Op {
    /// Records in the batch, bytes in each.
    Append(u8, u16),
    Commit,
    /// Syncs the oldest file only.
    SyncOldest,
    Roll,
    Feed,
    DropFront(u8),
    CloseAndOpen,
    Kill,
    PowerCut,
    /// Any sector that was not synced may have reached the disk, and any name or none.
    LoosePowerCut(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (1..4u8, 0..900u16).prop_map(|(count, bytes)| Op::Append(count, bytes)),
        4 => Just(Op::Commit),
        1 => Just(Op::SyncOldest),
        1 => Just(Op::Roll),
        1 => Just(Op::Feed),
        1 => any::<u8>().prop_map(Op::DropFront),
        1 => Just(Op::CloseAndOpen),
        1 => Just(Op::Kill),
        1 => Just(Op::PowerCut),
        2 => any::<u64>().prop_map(Op::LoosePowerCut),
    ]
}

struct World {
    disk: MemoryDisk,
    config: LogConfig,
    log: TestLog,
    generation: i32,
    /// What the log holds, deleted front included.
    entries: Vec<Entry>,
    shown: u64,
    deleted: u64,
}

impl World {
    fn new(visibility: Visibility) -> World {
        let disk = MemoryDisk::new();
        create(&place(disk.clone()));
        let config = config(4096, visibility);
        World {
            log: TestLog::open(place(disk.clone()), config.clone(), 1),
            disk,
            config,
            generation: 1,
            entries: Vec::new(),
            shown: 0,
            deleted: 0,
        }
    }

    fn expected(&self, end: u64) -> Vec<Entry> {
        let shown = |e: &&Entry| e.0 >= self.deleted && e.0 < end;
        self.entries.iter().filter(shown).cloned().collect()
    }

    fn check(&mut self) {
        let published = self.log.view().published();
        assert!(published >= self.shown, "I28");
        self.shown = published;
        assert_eq!(self.log.entries(), self.expected(published));
    }

    fn reopen(&mut self, disk: MemoryDisk, kept: u64) {
        self.generation += 1;
        self.disk = disk;
        let place = place(self.disk.clone());
        self.log = TestLog::open(place, self.config.clone(), self.generation);
        assert_eq!(self.log.found.corruption, None);
        let next = self.log.log.next_offset();
        assert!(next >= self.shown, "I9: {next} of {}", self.shown);
        // I22: a prefix, with all that was promised (I1).
        let found = self.log.entries();
        let end = found.last().map_or(self.deleted, |e| e.0 + 1);
        assert_eq!(found, self.expected(end), "I22");
        let promised = self.entries.iter().rfind(|e| e.0 < kept);
        let needed = promised.map_or(0, |e| e.0 + 1);
        assert!(end >= needed, "I1: ends at {end}, {needed} was promised");
        self.entries.retain(|e| e.0 < end);
    }

    fn run(&mut self, op: &Op) {
        let next = self.log.log.next_offset();
        let synced = self.log.log.synced_offset();
        match op {
            Op::Append(count, bytes) => {
                // The generation tells a batch from another one at the same offset.
                let value = |n: u64| {
                    let mut value = format!("{}:{n} ", self.generation).into_bytes();
                    value.resize(value.len() + usize::from(*bytes), b'.');
                    value
                };
                let entries: Vec<Entry> = (next..next + u64::from(*count))
                    .map(|n| (n, value(n)))
                    .collect();
                let values: Vec<&[u8]> = entries.iter().map(|e| &e.1[..]).collect();
                assert_eq!(self.log.append(&values), next);
                self.entries.extend(entries);
            }
            Op::Commit => {
                self.log.commit().unwrap();
                assert_eq!(self.log.log.synced_offset(), next);
            }
            Op::SyncOldest => {
                if let Some(item) = self.log.log.begin_sync(true).first() {
                    item.sync().unwrap();
                    self.log.log.synced(item);
                    if let Some(mark) = self.log.log.mark_after(item) {
                        self.log.log.marks().write_mark(&mark).unwrap();
                    }
                }
            }
            Op::Roll => self.log.log.roll(),
            Op::Feed => self.log.feed().unwrap(),
            Op::DropFront(part) => {
                let (start, end) = (self.log.view().start(), self.log.view().published());
                let offset = start + (end - start) * u64::from(*part) / 255;
                self.log.drop_front(offset).unwrap();
                self.deleted = self.deleted.max(offset);
            }
            Op::CloseAndOpen => {
                self.log.commit().unwrap();
                self.log.log.close().unwrap();
                let disk = match next % 2 {
                    0 => self.disk.after_kill(),
                    _ => self.disk.after_power_cut(),
                };
                self.reopen(disk, next);
                assert!(self.log.found.clean);
                assert_eq!(self.log.log.next_offset(), next);
            }
            Op::Kill => self.reopen(self.disk.after_kill(), next),
            Op::PowerCut => self.reopen(self.disk.after_power_cut(), synced),
            Op::LoosePowerCut(seed) => {
                let disk = loose_power_cut(&self.disk, &mut Random(*seed));
                self.reopen(disk, synced);
            }
        }
        self.check();
    }
}

/// A power cut that took some of what was not synced, sector by sector.
fn loose_power_cut(disk: &MemoryDisk, random: &mut Random) -> MemoryDisk {
    let live = disk.after_kill();
    let names_kept = random.below(2) == 0;
    let cut = if names_kept {
        let synced = disk.after_kill();
        synced.sync_names(DIRECTORY).unwrap();
        synced.after_power_cut()
    } else {
        disk.after_power_cut()
    };
    for entry in cut.list(DIRECTORY).unwrap() {
        let name = path(&entry.name);
        let (Ok(mut bytes), Ok(newer)) = (cut.read_file(&name), live.read_file(&name)) else {
            continue;
        };
        // A name that means another file by now.
        if entry.name.ends_with(".log") && !names_kept && random.below(2) == 0 {
            continue;
        }
        if newer.len() > bytes.len() && random.below(2) == 0 {
            bytes.resize(newer.len(), 0);
        }
        for (old, new) in bytes.chunks_mut(512).zip(newer.chunks(512)) {
            if random.below(2) == 0 {
                let common = old.len().min(new.len());
                old[..common].copy_from_slice(&new[..common]);
            }
        }
        cut.write_file(&name, &bytes).unwrap();
    }
    cut
}

fn run(visibility: Visibility, ops: &[Op]) {
    let mut world = World::new(visibility);
    for op in ops {
        world.run(op);
    }
    world.log.commit().unwrap();
    world.check();
    let next = world.log.log.next_offset();
    world.reopen(world.disk.after_power_cut(), next);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn log_keeps_its_promises_at_synced(ops in prop::collection::vec(op(), 1..80)) {
        run(Visibility::Synced, &ops);
    }

    #[test]
    fn log_keeps_its_promises_at_weaker_levels(ops in prop::collection::vec(op(), 1..80)) {
        run(Visibility::Written, &ops);
    }
}
