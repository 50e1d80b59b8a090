//! The canonical directories with any number of changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use oncelog::storage::Disk;
use oncelog::testing::SimulatedDisk;
use oncelog::{BatchBuilder, Engine, ProducerIdentity};

use crate::canonical::{CLOSED, Canonical, KILLED};
use crate::input::Input;
use crate::machine::{Machine, open_reader};

/// Most changes of one directory.
const CHANGES_MAX: usize = 24;

/// Changes files that no CRC is made for, removes them, puts one in place of another; then opens,
/// reads, writes and closes twice.
pub fn directory_recovery(data: &[u8]) {
    let mut input = Input(data);
    let canonical: &Canonical = if input.u8().is_multiple_of(2) {
        &CLOSED
    } else {
        &KILLED
    };
    let disk = canonical.disk();
    let names: Vec<&String> = canonical.files.keys().collect();
    let mut is_mixed = false;
    for _ in 0..CHANGES_MAX {
        if input.is_empty() {
            break;
        }
        let name = names[input.below(names.len())].as_str();
        is_mixed |= change(&disk, &mut input, name, &names);
    }
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let _ = oncelog::inspect::verify_disk(&disk, oncelog::inspect::Depth::Records);
    if let Ok(engine) = open_reader(&disk) {
        if !is_mixed {
            check_records(&engine);
        }
        drop(engine.close());
    }
    let mut before: Option<BTreeMap<(String, u32), Vec<u64>>> = None;
    for start in 60..62 {
        let machine = match Machine::start(&disk, start) {
            Ok(machine) => machine,
            Err(error) => {
                assert!(
                    before.is_none(),
                    "it opened before, and does not now: {error}"
                );
                return;
            }
        };
        if !is_mixed {
            check_records(&machine.engine);
        }
        let found = offsets(&machine.engine);
        if let Some(before) = &before {
            for (log, offsets) in before {
                let now = &found[log];
                let lost = offsets.iter().find(|o| now.binary_search(o).is_err());
                assert_eq!(lost, None, "{log:?} lost it between two opens (I23)");
            }
        }
        use_it(&machine);
        let _ = machine.engine.close();
        before = Some(found);
    }
}

// Whether other batches than before may now be where a reader believes them.
fn change(disk: &SimulatedDisk, input: &mut Input<'_>, name: &str, names: &[&String]) -> bool {
    let Ok(mut bytes) = disk.read_file(name) else {
        return false;
    };
    let mut is_mixed = false;
    match input.u8() % 8 {
        0 | 1 if !bytes.is_empty() => {
            let at = usize::from(input.u16()) % bytes.len();
            bytes[at] ^= 1 << (input.u8() % 8);
        }
        2 => bytes.truncate(usize::from(input.u16())),
        3 => bytes.resize(bytes.len() + usize::from(input.u16()), input.u8()),
        4 => {
            drop(disk.remove(name));
            return false;
        }
        5 => {
            let other = names[input.below(names.len())];
            if let Ok(contents) = disk.read_file(other) {
                is_mixed = true;
                bytes = contents;
            }
        }
        6 => {
            let at = usize::from(input.u16()).min(bytes.len());
            let end = (at + usize::from(input.u16() % 600)).min(bytes.len());
            bytes[at..end].fill(input.u8());
        }
        _ => {
            let from = usize::from(input.u8()) * 512;
            let to = usize::from(input.u8()) * 512;
            if from.max(to) + 512 <= bytes.len() {
                bytes.copy_within(from..from + 512, to);
            }
        }
    }
    disk.write_file(name, &bytes).unwrap();
    is_mixed
}

fn offsets(engine: &Engine) -> BTreeMap<(String, u32), Vec<u64>> {
    let mut all = BTreeMap::new();
    for topic in engine.topics() {
        for partition in 0..topic.partitions().min(4) {
            let mut found = Vec::new();
            for_each(engine, topic.name(), partition, |record| {
                found.push(record.offset());
            });
            all.insert((topic.name().to_owned(), partition), found);
        }
    }
    all
}

/// Every record that can be read is one that was stored there.
pub(crate) fn check_records(engine: &Engine) {
    for topic in engine.topics() {
        for partition in 0..topic.partitions().min(4) {
            let key = (topic.name().to_owned(), partition);
            let known = [&CLOSED.facts, &KILLED.facts].map(|facts| facts.logs.get(&key));
            let [Some(closed), Some(killed)] = known else {
                continue;
            };
            for_each(engine, topic.name(), partition, |record| {
                let value = record.value().map(|v| v.to_vec()).unwrap_or_default();
                if value == b"new" {
                    return;
                }
                // Deleted ones may be there still where the start was damaged.
                let mut expected = [closed, killed].into_iter().map(|log| {
                    let at = log.records.get(&record.offset());
                    at.map_or(record.offset() < log.start, |stored| stored.value == value)
                });
                assert!(
                    expected.any(|is_it| is_it),
                    "{key:?}: {record:?} was never stored"
                );
            });
        }
    }
}

fn for_each(
    engine: &Engine,
    topic: &str,
    partition: u32,
    mut see: impl FnMut(&oncelog::ConsumedRecord),
) {
    let Ok(mut reader) = engine.reader(topic).partition(partition).open() else {
        return;
    };
    let mut last = None;
    for _ in 0..2_000 {
        let found = reader.blocking_iter().next();
        match found {
            None => return,
            Some(Ok(record)) => {
                assert!(
                    last.is_none_or(|last| last < record.offset()),
                    "offsets rise"
                );
                last = Some(record.offset());
                see(&record);
            }
            Some(Err(_)) => {
                let next = reader.next_readable(partition);
                let at = reader.position(partition);
                match next.filter(|next| Some(*next) > at) {
                    Some(next) => reader.seek(partition, next),
                    None => return,
                }
            }
        }
    }
    panic!("reading {topic}-{partition} never ends");
}

/// Appends a new batch to each log, and twice: it is stored once.
pub(crate) fn use_it(machine: &Machine) {
    let Ok(session) = machine.engine.session() else {
        return;
    };
    let identity = ProducerIdentity {
        producer_id: session.producer_id(),
        producer_epoch: 0,
        base_sequence: 0,
    };
    let mut batch = BatchBuilder::new();
    batch.push(0, None, Some(b"new"), &[]).unwrap();
    let batch = batch.build(Some(identity)).unwrap().to_vec();
    for topic in machine.engine.topics() {
        for index in 0..topic.partitions().min(4) {
            let Ok(partition) = topic.partition(index) else {
                continue;
            };
            let first = machine.drive(partition.append(&batch)).unwrap();
            let second = machine.drive(partition.append(&batch)).unwrap();
            if let Ok(first) = first {
                let second = second.expect("a repeat of what is stored");
                assert_eq!(second.offset, first.offset);
                assert!(second.duplicate, "I2");
            }
        }
    }
    machine.settle();
}
