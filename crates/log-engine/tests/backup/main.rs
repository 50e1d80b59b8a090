//! Copies of a directory in use: what is in them, what they share with the original, and what they
//! must not share.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, helpers included"
)]

mod watched;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::{fs, io};

use log_engine::inspect::{Depth, verify_disk, verify_to};
use log_engine::storage::{Disk, MemoryDisk};
use log_engine::{
    Ack, BackupError, Create, Engine, Env, ManualClock, OpenError, Record, TopicConfig,
};
use parking_lot::Mutex;

use crate::watched::Watched;

fn small() -> TopicConfig {
    let mut config = TopicConfig::default();
    config.set("segment.bytes", "262144").unwrap();
    config
}

/// Appends records `from` to `to` of a kilobyte each, ten a batch.
fn fill(engine: &Engine, partition: u32, from: u64, to: u64) {
    let session = engine.session().unwrap();
    let mut appender = session.appender("t", partition).unwrap();
    let numbers: Vec<u64> = (from..to).collect();
    for numbers in numbers.chunks(10) {
        let values: Vec<String> = numbers.iter().map(|n| format!("{n:01000}")).collect();
        let records: Vec<Record<'_>> = values.iter().map(|v| Record::new().value(v)).collect();
        appender.blocking_append(&records).unwrap();
    }
}

/// The numbers of the records of a partition.
fn numbers(engine: &Engine, partition: u32) -> Vec<u64> {
    let mut reader = engine.reader("t").partition(partition).open().unwrap();
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

fn verified(path: &Path) {
    let report = verify_to(path, Depth::Records).unwrap();
    assert!(report.ok, "{report:?}");
}

fn footers(log: &Path) -> usize {
    let entries = std::fs::read_dir(log).unwrap();
    let is_footer = |path: &Path| path.extension().is_some_and(|kind| kind == "footer");
    entries
        .filter(|e| is_footer(&e.as_ref().unwrap().path()))
        .count()
}

fn memory(disk: &MemoryDisk) -> Env {
    Env {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::at(1_700_000_000_000)),
        seed: 5,
    }
}

#[test]
fn a_copy_holds_all_that_was_acknowledged_at_any_level_and_goes_on_by_itself() {
    let place = tempfile::tempdir().unwrap();
    let (data, copy) = (place.path().join("data"), place.path().join("copy"));
    let engine = Engine::open(&data).unwrap();
    engine
        .create_topic("t", 2, small().with_ack(Ack::Memory))
        .unwrap();
    fill(&engine, 0, 0, 1_000);
    fill(&engine, 1, 0, 3);
    let yields = std::iter::repeat_with(std::thread::yield_now);
    yields
        .take_while(|()| footers(&data.join("t-0")) < 3)
        .for_each(drop);
    let report = engine.snapshot_to(&copy).unwrap();
    assert_eq!(report.end_offsets["t-0"], 1_000);
    assert_eq!(report.end_offsets["t-1"], 3);
    assert!(
        report.linked > 2 && report.files > report.linked,
        "{report:?}"
    );
    assert!(report.bytes > 1_000_000, "{report:?}");
    fill(&engine, 0, 1_000, 1_100);
    verified(&copy);

    let restored = Engine::builder(&copy).create(Create::Never).open().unwrap();
    assert_eq!(numbers(&restored, 0), (0..1_000).collect::<Vec<_>>());
    fill(&restored, 0, 5_000, 5_500);
    fill(&engine, 0, 1_100, 1_500);
    assert_eq!(numbers(&engine, 0), (0..1_500).collect::<Vec<_>>());
    let expected: Vec<u64> = (0..1_000).chain(5_000..5_500).collect();
    assert_eq!(numbers(&restored, 0), expected);
    assert_eq!(numbers(&restored, 1), [0, 1, 2]);
    restored.close().unwrap();
    engine.close().unwrap();
    verified(&copy);
    verified(&data);
}

#[test]
fn what_was_acknowledged_and_cannot_be_synced_is_no_copy_without_it() {
    let disk = MemoryDisk::new();
    let engine = Engine::with_env(memory(&disk)).open().unwrap();
    engine
        .create_topic("t", 1, small().with_ack(Ack::Memory))
        .unwrap();
    fill(&engine, 0, 0, 1);
    disk.fail_syncs(100);
    let copy: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let error = engine.snapshot_to_disk(&copy).unwrap_err();
    assert!(
        matches!(&error, BackupError::Fenced { log } if log == "t-0"),
        "{error}"
    );
}

#[test]
fn sealed_segments_are_links_and_the_tail_is_a_file_of_its_own() {
    let place = tempfile::tempdir().unwrap();
    let (data, copy) = (place.path().join("data"), place.path().join("copy"));
    let engine = Engine::open(&data).unwrap();
    engine.create_topic("t", 1, small()).unwrap();
    fill(&engine, 0, 0, 1_000);
    engine.snapshot_to(&copy).unwrap();
    let inode = |root: &Path, name: &str| {
        fs::metadata(root.join("t-0").join(name))
            .map(|found| found.ino())
            .ok()
    };
    let mut shared = Vec::new();
    for entry in fs::read_dir(copy.join("t-0")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".log") {
            shared.push(inode(&copy, &name) == inode(&data, &name));
        } else if name == "marks" {
            assert_ne!(inode(&copy, &name), inode(&data, &name));
        }
    }
    assert_eq!(
        shared.iter().filter(|shared| !**shared).count(),
        1,
        "{shared:?}"
    );
    assert!(shared.len() > 2);
}

#[test]
fn a_copy_is_another_lineage_with_ids_far_from_those_of_the_original() {
    let place = tempfile::tempdir().unwrap();
    let (data, one, other) = (
        place.path().join("data"),
        place.path().join("one"),
        place.path().join("other"),
    );
    let engine = Engine::open(&data).unwrap();
    engine.create_topic("t", 1, small()).unwrap();
    let old = engine.session().unwrap().producer_id();
    engine.snapshot_to(&one).unwrap();
    engine.snapshot_to(&other).unwrap();
    let id = |path: &Path| {
        let engine = Engine::open(path).unwrap();
        engine.session().unwrap().producer_id()
    };
    let mut ids = [old, id(&one), id(&other)];
    ids.sort_unstable();
    assert_eq!(ids[0], old);
    assert!(ids[1] - ids[0] >= 1 << 32, "{ids:?}");
    assert!(ids[2] - ids[1] >= 1_000_000, "{ids:?}");
    let format = |path: &Path| fs::read(path.join("format")).unwrap();
    assert_ne!(format(&data), format(&one));
    assert_ne!(format(&one), format(&other));
    // The original goes on with its own row.
    assert!(engine.session().unwrap().producer_id() < 10_000);
}

#[test]
fn names_come_along_and_go_on_where_the_copy_ends() {
    let place = tempfile::tempdir().unwrap();
    let copy = place.path().join("copy");
    let engine = Engine::in_memory();
    engine.create_topic("t", 2, small()).unwrap();
    let send = |engine: &Engine, positions: std::ops::Range<u64>| {
        let producer = engine.producer().name("importer").open().unwrap();
        for position in positions {
            let value = format!("{position:020}");
            let record = Record::to("t").value(&value).position(position);
            let _ = producer.blocking_send(record).unwrap();
        }
        producer.blocking_flush().unwrap();
        let stored = producer.counts().records;
        producer.blocking_close().unwrap();
        stored
    };
    assert_eq!(send(&engine, 0..20), 20);
    engine.snapshot_to(&copy).unwrap();
    assert_eq!(send(&engine, 20..30), 10);
    let restored = Engine::open(&copy).unwrap();
    assert_eq!(restored.named_producers(), engine.named_producers());
    // What the copy has is skipped, and what came after it is stored there once more.
    assert_eq!(send(&restored, 0..30), 10);
    let mut all = numbers(&restored, 0);
    all.extend(numbers(&restored, 1));
    all.sort_unstable();
    assert_eq!(all, (0..30).collect::<Vec<_>>());
    restored.close().unwrap();
    verified(&copy);
}

#[test]
fn a_place_that_is_taken_is_refused_and_stays_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    let engine = Engine::in_memory();
    let taken = place.path().join("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("x"), "mine").unwrap();
    for path in [taken.clone(), taken.join("x")] {
        let error = engine.snapshot_to(&path).unwrap_err();
        assert!(matches!(&error, BackupError::Exists { .. }), "{error}");
    }
    assert_eq!(fs::read(taken.join("x")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    let empty = place.path().join("empty");
    fs::create_dir(&empty).unwrap();
    engine.snapshot_to(&empty).unwrap();
    Engine::builder(&empty)
        .create(Create::Never)
        .open()
        .unwrap();
    engine.close().unwrap();
    let error = engine.snapshot_to(place.path().join("late")).unwrap_err();
    assert!(matches!(error, BackupError::Closed), "{error}");
}

#[test]
fn what_an_interrupted_copy_left_is_made_anew_and_one_under_way_is_named() {
    let place = tempfile::tempdir().unwrap();
    let copy = place.path().join("copy");
    let engine = Engine::in_memory();
    engine.create_topic("t", 1, small()).unwrap();
    fill(&engine, 0, 0, 5);
    let left = place.path().join("copy.unfinished");
    fs::create_dir_all(left.join("t-0")).unwrap();
    fs::write(left.join("t-0/00000000000000000000.log"), "torn").unwrap();
    fs::write(left.join("format"), "torn").unwrap();
    {
        let env = Env::os(&left).unwrap();
        let _lock = env.disk.lock("lock", "somebody").unwrap();
        let error = engine.snapshot_to(&copy).unwrap_err();
        assert!(
            matches!(&error, BackupError::InUse { holder, .. } if holder == "somebody"),
            "{error}"
        );
    }
    engine.snapshot_to(&copy).unwrap();
    assert!(!left.exists());
    assert_eq!(numbers(&Engine::open(&copy).unwrap(), 0), [0, 1, 2, 3, 4]);
}

#[test]
fn a_copy_that_fails_is_no_data_directory_and_the_next_one_succeeds() {
    let target = MemoryDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(target.clone());
    let engine = Engine::in_memory();
    engine.create_topic("t", 1, small()).unwrap();
    fill(&engine, 0, 0, 100);
    target.set_free_bytes(50_000);
    let error = engine.snapshot_to_disk(&shared).unwrap_err();
    assert!(
        matches!(&error, BackupError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull),
        "{error}"
    );
    let found = Engine::with_env(memory(&target))
        .create(Create::Never)
        .open();
    assert!(matches!(found, Err(OpenError::NotADataDirectory { .. })));

    let target = MemoryDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(target.clone());
    engine.snapshot_to_disk(&shared).unwrap();
    let error = engine.snapshot_to_disk(&shared).unwrap_err();
    assert!(matches!(error, BackupError::Exists { .. }), "{error}");
    // All of it is durable.
    let cut = target.after_power_cut();
    let report = verify_disk(&(Arc::new(cut.clone()) as _), Depth::Records).unwrap();
    assert!(report.ok && report.records == 100, "{report:?}");
    let restored = Engine::with_env(memory(&cut)).open().unwrap();
    assert_eq!(numbers(&restored, 0), (0..100).collect::<Vec<_>>());
}

#[test]
fn every_cut_of_the_power_leaves_the_whole_copy_or_no_data_directory() {
    let engine = Engine::in_memory();
    engine.create_topic("t", 2, small()).unwrap();
    fill(&engine, 0, 0, 400);
    fill(&engine, 1, 0, 10);
    let target = MemoryDisk::new();
    let cuts = Arc::new(Mutex::new(Vec::new()));
    let watched = {
        let (target, cuts) = (target.clone(), cuts.clone());
        Watched::new(target.clone(), move |_| {
            cuts.lock().push(target.after_power_cut());
        })
    };
    engine.snapshot_to_disk(&(Arc::new(watched) as _)).unwrap();
    cuts.lock().push(target.after_power_cut());
    let mut whole = 0;
    for cut in cuts.lock().iter() {
        match Engine::with_env(memory(cut)).create(Create::Never).open() {
            Ok(restored) => {
                assert_eq!(numbers(&restored, 0).len(), 400);
                assert_eq!(numbers(&restored, 1).len(), 10);
                whole += 1;
            }
            Err(error) => assert!(
                matches!(
                    error,
                    OpenError::Missing { .. } | OpenError::NotADataDirectory { .. }
                ),
                "{error}"
            ),
        }
    }
    assert!(whole >= 1 && cuts.lock().len() > 10);
}

#[test]
fn what_retention_removes_meanwhile_is_copied_all_the_same() {
    let engine = Engine::in_memory();
    let topic = engine.create_topic("t", 1, small()).unwrap();
    fill(&engine, 0, 0, 1_000);
    let target = MemoryDisk::new();
    let deleted = Arc::new(AtomicBool::new(false));
    let watched = {
        let (deleted, partition) = (deleted.clone(), topic.partition(0).unwrap());
        let engine = engine.clone();
        Watched::new(target.clone(), move |name| {
            // The first byte is about to be copied.
            if name.ends_with(".log") && !deleted.swap(true, Ordering::SeqCst) {
                partition.delete_before(900).unwrap();
                assert_eq!(partition.log_start_offset(), 900);
                fill(&engine, 0, 1_000, 1_010);
            }
        })
    };
    engine.snapshot_to_disk(&(Arc::new(watched) as _)).unwrap();
    assert!(deleted.load(Ordering::SeqCst));
    let restored = Engine::with_env(memory(&target)).open().unwrap();
    assert_eq!(numbers(&restored, 0), (0..1_000).collect::<Vec<_>>());
    assert_eq!(numbers(&engine, 0), (900..1_010).collect::<Vec<_>>());
}

#[test]
fn a_topic_that_is_removed_meanwhile_is_whole_in_the_copy_or_not_in_it() {
    for at in [0, 1, 5, 9, 14] {
        let engine = Engine::in_memory();
        engine.create_topic("t", 1, small()).unwrap();
        engine.create_topic("u", 2, small()).unwrap();
        fill(&engine, 0, 0, 50);
        let target = MemoryDisk::new();
        let calls = AtomicU64::new(0);
        let watched = {
            let engine = engine.clone();
            Watched::new(target.clone(), move |_| {
                if calls.fetch_add(1, Ordering::SeqCst) == at {
                    engine.delete_topic("u").unwrap();
                }
            })
        };
        engine.snapshot_to_disk(&(Arc::new(watched) as _)).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(target.clone());
        let report = verify_disk(&disk, Depth::Records).unwrap();
        assert!(report.ok, "{report:?}");
        let restored = Engine::with_env(memory(&target)).open().unwrap();
        assert_eq!(numbers(&restored, 0), (0..50).collect::<Vec<_>>());
    }
}

#[test]
fn copies_taken_while_several_append_hold_what_was_acknowledged_before_each() {
    let place = tempfile::tempdir().unwrap();
    let engine = Engine::open(place.path().join("data")).unwrap();
    engine.create_topic("t", 3, small()).unwrap();
    let (is_done, acked) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 3]);
    std::thread::scope(|scope| {
        for partition in 0..3_u32 {
            let (engine, is_done, acked) = (&engine, &is_done, &acked[partition as usize]);
            scope.spawn(move || {
                let session = engine.session().unwrap();
                let mut appender = session.appender("t", partition).unwrap();
                for n in 0.. {
                    if is_done.load(Ordering::SeqCst) {
                        break;
                    }
                    let value = format!("{n:05000}");
                    appender
                        .blocking_append(&[Record::new().value(&value)])
                        .unwrap();
                    acked.store(n + 1, Ordering::SeqCst);
                }
            });
        }
        for copy in 0..8 {
            // So that segments are rolled meanwhile.
            while acked[0].load(Ordering::SeqCst) < copy * 60 {
                std::thread::yield_now();
            }
            let before = acked.each_ref().map(|acked| acked.load(Ordering::SeqCst));
            let path = place.path().join(format!("copy-{copy}"));
            engine.snapshot_to(&path).unwrap();
            verified(&path);
            let restored = Engine::open(&path).unwrap();
            for (partition, before) in (0..).zip(before) {
                let found = numbers(&restored, partition);
                let whole: Vec<u64> = (0..found.len() as u64).collect();
                assert_eq!(found, whole);
                assert!(found.len() as u64 >= before, "{} < {before}", found.len());
            }
        }
        is_done.store(true, Ordering::SeqCst);
    });
}

#[test]
fn an_engine_open_for_reading_copies_what_is_durable_beside_the_writer() {
    let place = tempfile::tempdir().unwrap();
    let (data, copy) = (place.path().join("data"), place.path().join("copy"));
    let engine = Engine::open(&data).unwrap();
    engine.create_topic("t", 1, small()).unwrap();
    fill(&engine, 0, 0, 600);
    let reader = Engine::open_read_only(&data).unwrap();
    // Topics that are made later are seen too.
    engine.create_topic("u", 1, small()).unwrap();
    fill(&engine, 0, 600, 700);
    reader.snapshot_to(&copy).unwrap();
    let restored = Engine::open(&copy).unwrap();
    let found = numbers(&restored, 0);
    assert!(found.len() >= 600, "{}", found.len());
    assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>());
    assert!(restored.topic("u").is_ok());
    assert!(restored.session().unwrap().producer_id() > 1 << 32);
    restored.close().unwrap();
    verified(&copy);
}

#[test]
fn producers_of_deleted_data_are_known_in_the_copy() {
    let place = tempfile::tempdir().unwrap();
    let copy = place.path().join("copy");
    let engine = Engine::in_memory();
    let topic = engine.create_topic("t", 1, small()).unwrap();
    let session = engine.session().unwrap();
    let id = session.producer_id();
    let mut appender = session.appender("t", 0).unwrap();
    appender
        .blocking_append(&[Record::new().value("0")])
        .unwrap();
    fill(&engine, 0, 1, 1_000);
    let partition = topic.partition(0).unwrap();
    partition.delete_before(900).unwrap();
    engine.snapshot_to(&copy).unwrap();
    let restored = Engine::open(&copy).unwrap();
    let known = restored.topic("t").unwrap().partition(0).unwrap();
    assert_eq!(known.log_start_offset(), 900);
    assert!(
        known
            .producers()
            .unwrap()
            .iter()
            .any(|view| view.producer_id == id)
    );
    assert!(
        restored
            .opened()
            .logs
            .iter()
            .all(|(_, log)| !log.history_lost)
    );
    restored.close().unwrap();
    verified(&copy);
}
