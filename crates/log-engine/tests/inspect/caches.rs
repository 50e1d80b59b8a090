//! Caches with a right CRC and wrong contents: what a bug, not a disk, would leave.

use std::fs;
use std::path::Path;

use segment_storage::codec;
use segment_storage::{IndexFile, OsDisk, Place};

use crate::directory::{about, check, closed, with_extension};

type Batch = (i32, u64, u32, u32);
type Producer = (i64, i16, u64, i32, Option<u64>, Vec<Batch>);
/// A snapshot, field by field as it is stored.
type Snapshot = (u128, u64, i64, i64, Vec<Producer>);

/// A name, and what is changed.
type Change<T> = (&'static str, fn(&mut T));

const SNAPSHOT: [u8; 4] = *b"OLPS";
const INDEX: [u8; 4] = *b"OLIX";

fn read_snapshot(path: &Path) -> Snapshot {
    codec::decode(SNAPSHOT, 1, &fs::read(path).unwrap()).unwrap()
}

#[test]
fn snapshot_that_contradicts_the_log_is_found() {
    let changes: [Change<Snapshot>; 6] = [
        ("a window's offset", |s| s.4[0].5[1].1 += 1),
        ("a forgotten batch", |s| {
            s.4[0].5.remove(0);
        }),
        ("a batch that is not in the log", |s| {
            let last = *s.4[0].5.last().unwrap();
            s.4[0].5.push((last.0 + 3, last.1 + 6, 3, 1));
        }),
        ("an epoch", |s| s.4[0].1 = 3),
        ("another content", |s| s.4[1].5[0].3 ^= 1),
        ("a producer that the log never saw", |s| {
            let mut stranger = s.4[0].clone();
            stranger.0 = 900;
            s.4.push(stranger);
        }),
    ];
    for (name, change) in changes {
        let directory = closed();
        let log = directory.path().join("orders-0");
        let path = with_extension(&log, "snapshot").pop().unwrap();
        let mut snapshot = read_snapshot(&path);
        assert_eq!(snapshot.4.len(), 2);
        assert_eq!(snapshot.4[0].5.len(), 5);
        change(&mut snapshot);
        fs::write(&path, codec::encode(SNAPSHOT, 1, &snapshot)).unwrap();
        let report = check(directory.path());
        let problems = about(&report, &path);
        assert_eq!(problems.len(), 1, "{name}: {report:?}");
        assert_eq!(problems[0].invariant, "I20", "{name}");
        assert_eq!(report.problems.len(), 1, "{name}: {report:?}");
    }
}

#[test]
fn producer_that_a_snapshot_has_forgotten_is_no_contradiction() {
    let directory = closed();
    let path = with_extension(&directory.path().join("orders-0"), "snapshot");
    let mut snapshot = read_snapshot(&path[0]);
    snapshot.4.remove(0);
    fs::write(&path[0], codec::encode(SNAPSHOT, 1, &snapshot)).unwrap();
    assert_eq!(check(directory.path()).problems, []);
}

#[test]
fn snapshot_above_the_log_is_noted_and_not_compared() {
    let directory = closed();
    let path = with_extension(&directory.path().join("orders-0"), "snapshot")
        .pop()
        .unwrap();
    let mut snapshot = read_snapshot(&path);
    snapshot.1 += 5;
    let above = path.with_file_name(format!("{:020}.snapshot", snapshot.1));
    fs::write(&above, codec::encode(SNAPSHOT, 1, &snapshot)).unwrap();
    let report = check(directory.path());
    assert_eq!(report.problems, []);
    assert!(
        report.notes[0].contains(above.to_str().unwrap()),
        "{:?}",
        report.notes
    );
}

#[test]
fn index_that_points_elsewhere_is_found() {
    let changes: [Change<IndexFile>; 5] = [
        ("position", |i| i.entries[0].position += 1),
        ("offset", |i| i.entries[0].relative_offset += 3),
        ("timestamp", |i| i.entries[0].timestamp_before -= 1),
        ("largest timestamp", |i| i.max_timestamp += 1),
        ("order", |i| {
            let first = i.entries[0];
            i.entries.push(first);
        }),
    ];
    for (name, change) in changes {
        let directory = big();
        let place = Place {
            disk: std::sync::Arc::new(OsDisk::read_only(directory.path().to_owned()).unwrap()),
            directory: "orders-0".into(),
            log_id: 0,
        };
        let mut index = IndexFile::read(&place, 0).unwrap().unwrap();
        assert!(!index.entries.is_empty());
        change(&mut index);
        let path = directory.path().join("orders-0/00000000000000000000.index");
        fs::write(&path, codec::encode(INDEX, 1, &index)).unwrap();
        let report = check(directory.path());
        let problems = about(&report, &path);
        assert_eq!(problems.len(), 1, "{name}: {report:?}");
        assert_eq!(problems[0].invariant, "I25", "{name}");
        assert!(
            problems[0].what.contains("delete it"),
            "{name}: {problems:?}"
        );
        assert_eq!(report.problems.len(), 1, "{name}: {report:?}");
    }
}

/// A log with segments that are long enough for index entries.
fn big() -> tempfile::TempDir {
    let directory = tempfile::TempDir::new().unwrap();
    let engine = log_engine::Engine::open(directory.path()).unwrap();
    let topic = engine
        .create_topic("orders", 1, log_engine::TopicConfig::default())
        .unwrap();
    crate::directory::fill(&engine, &topic.partition(0).unwrap(), 60);
    engine.close().unwrap();
    assert_eq!(check(directory.path()).problems, []);
    directory
}
