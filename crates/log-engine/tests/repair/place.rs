//! Directories to damage, and what holds after each repair.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use log_engine::inspect::{Depth, RepairOptions, RepairReport, dump_batches, repair, verify_to};
use log_engine::{Ack, Create, Engine, Record, TopicConfig};
use tempfile::TempDir;

pub(crate) const LOG: &str = "t-0";

pub(crate) fn small() -> TopicConfig {
    let mut config = TopicConfig::default();
    config.set("segment.bytes", "262144").unwrap();
    config
}

pub(crate) fn fill(engine: &Engine, from: u64, to: u64) {
    let session = engine.session().unwrap();
    let mut appender = session.appender("t", 0).unwrap();
    let numbers: Vec<u64> = (from..to).collect();
    for numbers in numbers.chunks(10) {
        let values: Vec<String> = numbers.iter().map(|n| format!("{n:01000}")).collect();
        let records: Vec<Record<'_>> = values.iter().map(|v| Record::new().value(v)).collect();
        appender.blocking_append(&records).unwrap();
    }
}

/// A directory with a log of 1,000 records in several segments and a named producer, closed.
pub(crate) fn closed(ack: Ack) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let engine = Engine::open(place.path()).unwrap();
    engine.create_topic("t", 1, small().with_ack(ack)).unwrap();
    fill(&engine, 0, 1_000);
    let producer = engine.producer().name("n").open().unwrap();
    let _ = producer.blocking_send(Record::to("t").value("1000").position(7));
    producer.blocking_close().unwrap();
    engine.close().unwrap();
    place
}

pub(crate) fn numbers(engine: &Engine) -> Vec<u64> {
    let mut reader = engine.reader("t").partition(0).open().unwrap();
    reader
        .blocking_iter()
        .map(|record| {
            let record = record.unwrap();
            std::str::from_utf8(record.value().unwrap())
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect()
}

pub(crate) const DRY: RepairOptions = RepairOptions {
    apply: false,
    new_lineage: false,
    producer_id_floor: None,
};
pub(crate) const APPLY: RepairOptions = RepairOptions { apply: true, ..DRY };

pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

pub(crate) fn files(root: &Path) -> Files {
    let mut found = Files::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// Says what would be done and writes nothing; does the same; then there is nothing left to do,
/// everything holds, and the directory opens.
#[track_caller]
pub(crate) fn repaired(root: &Path) -> RepairReport {
    let before = files(root);
    let dry = repair(root, &DRY).unwrap();
    assert_eq!(files(root), before, "a dry run wrote");
    assert!(!dry.is_whole() && dry.set_aside.is_empty(), "{dry:?}");
    let done = repair(root, &APPLY).unwrap();
    assert_eq!(done.given_up, dry.given_up);
    assert_eq!(done.steps, dry.steps);
    assert!(done.refused.is_empty(), "{done:?}");
    let report = verify_to(root, Depth::Records).unwrap();
    assert!(report.ok, "{report:?}\n{done:?}");
    let again = repair(root, &APPLY).unwrap();
    assert!(again.is_whole() && again.given_up.is_empty(), "{again:?}");
    done
}

/// As [`repaired`]; then more is appended, and everything still holds after a close.
#[track_caller]
pub(crate) fn goes_on(root: &Path, expected: &[u64]) -> RepairReport {
    let report = repaired(root);
    let engine = Engine::builder(root).create(Create::Never).open().unwrap();
    assert_eq!(numbers(&engine), expected);
    let end = engine.topic("t").unwrap().partition(0).unwrap();
    let before = end.log_end_offset();
    fill(&engine, 5_000, 5_020);
    let mut longer = expected.to_vec();
    longer.extend(5_000..5_020);
    assert_eq!(numbers(&engine), longer);
    assert!(before >= 1_001, "offsets are not given out again: {before}");
    engine.close().unwrap();
    let after = verify_to(root, Depth::Records).unwrap();
    assert!(after.ok, "{after:?}");
    let engine = Engine::open(root).unwrap();
    assert_eq!(numbers(&engine), longer);
    report
}

pub(crate) fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

pub(crate) fn segments(root: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = files(&root.join(LOG)).into_keys().collect();
    found.retain(|path| path.extension().is_some_and(|e| e == "log"));
    found
}

/// Position, size and offsets of the batch at `at` in a segment; from the end where negative.
pub(crate) fn batch(path: &Path, at: isize) -> (usize, usize, u64, u64) {
    let batches: Vec<_> = dump_batches(path)
        .unwrap()
        .map(|batch| {
            let batch = batch.unwrap();
            let first = u64::try_from(batch.header.base_offset).unwrap();
            let end = u64::try_from(batch.header.next_offset()).unwrap();
            (batch.position, batch.size, first, end)
        })
        .collect();
    let at = if at < 0 {
        batches.len() - at.unsigned_abs()
    } else {
        at.unsigned_abs()
    };
    let (position, size, first, end) = batches[at];
    (
        usize::try_from(position).unwrap(),
        usize::try_from(size).unwrap(),
        first,
        end,
    )
}

pub(crate) fn without(lost: &[(u64, u64)]) -> Vec<u64> {
    (0..1_001)
        .filter(|n| !lost.iter().any(|(from, to)| (*from..*to).contains(n)))
        .collect()
}
