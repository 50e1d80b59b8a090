//! Caches with a right CRC and wrong contents: what a bug, not a disk, would leave.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log_engine::{Engine, ProducerView, TopicConfig, WindowEntry};
use partition_log::{ProducerConfig, ProducerTable, snapshot};
use record_batch::SourcePosition;
use segment_storage::{Disk, IndexFile, Marks, OsDisk, Place, codec, names};

use crate::directory::{about, check, closed, send_named};

const LOG: &str = "orders-0";

/// A name, and what is changed.
type Change<T> = (&'static str, fn(&mut T));

const INDEX: [u8; 4] = *b"OLIX";

/// A snapshot, to be written back changed.
struct Snapshot {
    place: Place,
    offset: u64,
    /// By producer id.
    views: Vec<ProducerView>,
    sources: Vec<(i64, u64)>,
}

impl Snapshot {
    /// The newest of `orders-0`.
    fn newest(root: &Path) -> Snapshot {
        let disk: Arc<dyn Disk> = Arc::new(OsDisk::open(root.to_owned()).unwrap());
        let place = Place {
            log_id: Marks::open(&disk, LOG).unwrap().log_id(),
            directory: LOG.into(),
            disk,
        };
        let offset = *snapshot::list(&place).unwrap().last().unwrap();
        let table = snapshot::read(&place, offset, ProducerConfig::default(), |_| None).unwrap();
        let mut views: Vec<_> = table.iter().collect();
        views.sort_by_key(|view| view.producer_id);
        Snapshot {
            place,
            offset,
            views,
            sources: Vec::new(),
        }
    }

    fn write(&self) -> PathBuf {
        let mut table = ProducerTable::new(ProducerConfig::default());
        for view in &self.views {
            table.insert(view.clone());
        }
        for &(id, last) in &self.sources {
            let position = SourcePosition { last, floor: 0 };
            table.sources_mut().apply(id, position);
        }
        snapshot::write(&self.place, self.offset, &table).unwrap();
        PathBuf::from(self.place.display(&names::snapshot(self.offset)))
    }
}

#[test]
fn snapshot_that_contradicts_the_log_is_found() {
    let changes: [Change<Snapshot>; 8] = [
        ("a batch's offset", |s| {
            s.views[0].window[4].base_offset += 1
        }),
        ("a forgotten batch", |s| {
            s.views[0].window.remove(0);
        }),
        ("a batch that is not in the log", |s| {
            let last = *s.views[0].window.last().unwrap();
            s.views[0].window.push(WindowEntry {
                first_sequence: last.first_sequence + 3,
                last_sequence: last.last_sequence + 3,
                base_offset: last.base_offset + 6,
                ..last
            });
        }),
        ("an epoch", |s| s.views[0].epoch = 3),
        ("another content", |s| s.views[1].window[0].fingerprint ^= 1),
        ("a transaction", |s| {
            s.views[0].open_transaction_offset = Some(0);
        }),
        ("a producer that the log never saw", |s| {
            let producer_id = 900;
            let view = s.views[0].clone();
            s.views.push(ProducerView {
                producer_id,
                ..view
            });
        }),
        ("a source that the log never saw", |s| {
            s.sources.push((s.views[0].producer_id, 5));
        }),
    ];
    for (name, change) in changes {
        let directory = closed();
        let mut snapshot = Snapshot::newest(directory.path());
        assert_eq!(snapshot.views.len(), 2);
        assert_eq!(snapshot.views[0].window.len(), 5);
        snapshot.write();
        assert_eq!(check(directory.path()).problems, []);
        change(&mut snapshot);
        let path = snapshot.write();
        let report = check(directory.path());
        let problems = about(&report, &path);
        assert_eq!(problems.len(), 1, "{name}: {report:?}");
        assert_eq!(problems[0].invariant, "I20", "{name}");
        assert_eq!(report.problems.len(), 1, "{name}: {report:?}");
    }
}

#[test]
fn source_of_a_named_producer_is_where_the_log_says() {
    let directory = tempfile::TempDir::new().unwrap();
    for positions in [0..6, 4..9] {
        let engine = Engine::open(directory.path()).unwrap();
        engine.ensure_topic("orders", 1).unwrap();
        send_named(&engine, "orders", positions);
        engine.close().unwrap();
    }
    let report = check(directory.path());
    assert_eq!((report.problems, report.notes), (vec![], vec![]));
    assert_eq!(report.records, 9);
    let mut snapshot = Snapshot::newest(directory.path());
    let id = snapshot.views[0].producer_id;
    for (last, expected) in [(8, 0), (9, 1)] {
        snapshot.sources = vec![(id, last)];
        let path = snapshot.write();
        let report = check(directory.path());
        assert_eq!(about(&report, &path).len(), expected, "{last}: {report:?}");
        assert_eq!(report.problems.len(), expected, "{last}: {report:?}");
    }
}

#[test]
fn producer_that_a_snapshot_has_forgotten_is_no_contradiction() {
    let directory = closed();
    let mut snapshot = Snapshot::newest(directory.path());
    snapshot.views.remove(0);
    snapshot.write();
    assert_eq!(check(directory.path()).problems, []);
}

#[test]
fn under_kafka_a_window_may_be_shorter_but_not_another() {
    let mut kafka = TopicConfig::default();
    kafka.set("producer.unknown", "kafka").unwrap();
    let directory = one_log(kafka);
    let mut snapshot = Snapshot::newest(directory.path());
    let forgotten = snapshot.views[0].window.remove(0);
    snapshot.write();
    assert_eq!(check(directory.path()).problems, []);
    snapshot.views[0].window.insert(0, forgotten);
    snapshot.views[0].window.pop();
    let path = snapshot.write();
    let report = check(directory.path());
    assert_eq!(about(&report, &path)[0].invariant, "I20", "{report:?}");
}

#[test]
fn snapshot_above_the_log_is_noted_and_not_compared() {
    let directory = closed();
    let mut snapshot = Snapshot::newest(directory.path());
    snapshot.offset += 5;
    snapshot.views[0].window.clear();
    let above = snapshot.write();
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
    let changes: [Change<IndexFile>; 6] = [
        ("behind the end", |i| {
            let mut last = *i.entries.last().unwrap();
            last.position = u32::try_from(i.bytes).unwrap() + 1;
            i.entries.push(last);
        }),
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
        let directory = one_log(TopicConfig::default());
        let place = Place {
            disk: Arc::new(OsDisk::read_only(directory.path().to_owned()).unwrap()),
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

#[test]
fn index_that_a_power_cut_left_empty_is_noted() {
    let directory = one_log(TopicConfig::default());
    let path = directory.path().join("orders-0/00000000000000000000.index");
    let whole = fs::read(&path).unwrap();
    for left in [Vec::new(), vec![0; whole.len()]] {
        fs::write(&path, &left).unwrap();
        let report = check(directory.path());
        assert_eq!(report.problems, [], "{} bytes", left.len());
        let name = path.to_str().unwrap();
        assert!(report.notes[0].contains(name), "{:?}", report.notes);
    }
    // With anything in it, it was written, and is damaged.
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(about(&check(directory.path()), &path).len(), 1);
}

/// A log with segments that are long enough for index entries.
fn one_log(config: TopicConfig) -> tempfile::TempDir {
    let directory = tempfile::TempDir::new().unwrap();
    let engine = Engine::open(directory.path()).unwrap();
    let topic = engine.create_topic("orders", 1, config).unwrap();
    crate::directory::fill(&engine, &topic.partition(0).unwrap(), 60);
    engine.close().unwrap();
    assert_eq!(check(directory.path()).problems, []);
    directory
}
