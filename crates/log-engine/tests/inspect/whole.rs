//! Nothing is wrong: closed cleanly, killed, written just now, deleted from the front.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use log_engine::inspect::{Depth, InspectError, verify, verify_disk, verify_to};
use log_engine::{Ack, Engine, Env, TopicConfig};
use tempfile::TempDir;

use crate::directory::{
    BATCHES, RECORDS, batch, check, closed, copy, files, fill, small, with_extension,
};

#[test]
fn clean_directory_is_counted_whole() {
    let directory = closed();
    let report = check(directory.path());
    assert_eq!(report.problems, []);
    assert_eq!(report.notes, Vec::<String>::new());
    assert_eq!(
        (report.batches, report.records),
        (2 * BATCHES, 2 * BATCHES * RECORDS)
    );
    let segments = with_extension(directory.path(), "log");
    assert!(segments.len() > 4, "{segments:?}");
    assert!(with_extension(directory.path(), "footer").len() > 2);
    assert!(!with_extension(directory.path(), "index").is_empty());
    assert!(!with_extension(directory.path(), "snapshot").is_empty());
    let bytes: u64 = segments
        .iter()
        .map(|s| fs::metadata(s).unwrap().len())
        .sum();
    assert_eq!(report.bytes, bytes);
    assert_eq!(verify_to(directory.path(), Depth::Records).unwrap(), report);
}

#[test]
fn checking_changes_nothing() {
    let directory = closed();
    let state = || -> Vec<_> {
        let read = |file| (fs::read(&file).unwrap(), file);
        files(directory.path()).into_iter().map(read).collect()
    };
    let before = state();
    check(directory.path());
    assert_eq!(state(), before);
}

#[test]
fn reopened_and_rolled_logs_pass() {
    let directory = closed();
    for round in 1..4 {
        let engine = Engine::open(directory.path()).unwrap();
        let partition = engine.topic("orders").unwrap().partition(0).unwrap();
        fill(&engine, &partition, 7);
        engine.close().unwrap();
        let report = check(directory.path());
        assert_eq!(report.problems, []);
        assert_eq!(report.batches, 2 * BATCHES + 7 * round);
    }
}

#[test]
fn killed_directory_passes_with_a_note_of_what_lies_above_the_mark() {
    let directory = TempDir::new().unwrap();
    let engine = Engine::open(directory.path()).unwrap();
    let synced = engine.create_topic("synced", 1, small()).unwrap();
    fill(&engine, &synced.partition(0).unwrap(), 10);
    let memory = TopicConfig::default().with_ack(Ack::Memory);
    let memory = engine.create_topic("memory", 1, memory).unwrap();
    fill(&engine, &memory.partition(0).unwrap(), 5);
    let killed = copy(directory.path());
    let report = check(killed.path());
    assert_eq!(report.problems, []);
    // The mark follows the answer of the last append.
    let mark = crate::directory::mark(killed.path(), "synced-0");
    assert_eq!(report.records, mark.next_offset);
    assert!(report.batches >= 9, "{report:?}");
    let above = report.notes.iter().find(|note| note.contains("memory-0"));
    let above = above.unwrap_or_else(|| panic!("{:?}", report.notes));
    assert!(above.contains("above the stable mark"), "{above}");
    engine.close().unwrap();
    // The open recovers it, and then it counts.
    Engine::open(killed.path()).unwrap().close().unwrap();
    let report = check(killed.path());
    assert_eq!(report.problems, []);
    assert_eq!(report.batches, 15);
}

#[test]
fn torn_tail_above_the_mark_is_a_note() {
    let directory = TempDir::new().unwrap();
    let engine = Engine::open(directory.path()).unwrap();
    let topic = engine.create_topic("orders", 1, small()).unwrap();
    fill(&engine, &topic.partition(0).unwrap(), 3);
    let killed = copy(directory.path());
    engine.close().unwrap();
    let mark = crate::directory::mark(killed.path(), "orders-0");
    let path = killed.path().join("orders-0/00000000000000000000.log");
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(mark.position)).unwrap();
    file.write_all(&batch(0, 0, 0, 1)[..80]).unwrap();
    let report = check(killed.path());
    assert_eq!(report.problems, []);
    assert_eq!(report.records, mark.next_offset);
    assert!(
        report.notes.iter().any(|n| n.contains("torn by a crash")),
        "{:?}",
        report.notes
    );
}

#[test]
fn deleted_front_passes_and_counts_what_is_left() {
    let directory = TempDir::new().unwrap();
    let engine = Engine::open(directory.path()).unwrap();
    let topic = engine.create_topic("orders", 1, small()).unwrap();
    let partition = topic.partition(0).unwrap();
    fill(&engine, &partition, BATCHES);
    for start in [40, 100] {
        partition.delete_before(start).unwrap();
        let report = check(directory.path());
        assert_eq!(report.problems, []);
        assert!(report.batches < BATCHES, "{report:?}");
    }
    fill(&engine, &partition, 8);
    engine.close().unwrap();
    drop((engine, topic, partition));
    assert_eq!(check(directory.path()).problems, []);
    let engine = Engine::open(directory.path()).unwrap();
    assert_eq!(check(directory.path()).problems, []);
    engine.close().unwrap();
    assert_eq!(check(directory.path()).problems, []);
}

#[test]
fn running_engine_passes_at_every_moment() {
    let directory = TempDir::new().unwrap();
    let engine = Engine::open(directory.path()).unwrap();
    let fast = small().with_ack(Ack::Memory);
    let synced = engine.create_topic("synced", 1, small()).unwrap();
    let memory = engine.create_topic("memory", 1, fast).unwrap();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for topic in [&synced, &memory] {
            let (engine, is_done) = (&engine, &is_done);
            let partition = topic.partition(0).unwrap();
            let deletes = topic.name() == "synced";
            scope.spawn(move || {
                while !is_done.load(Ordering::Relaxed) {
                    fill(engine, &partition, 40);
                    let start = partition.high_watermark().saturating_sub(200);
                    if deletes {
                        partition.delete_before(start).unwrap();
                    }
                }
            });
        }
        let (engine, is_done) = (&engine, &is_done);
        scope.spawn(move || {
            while !is_done.load(Ordering::Relaxed) {
                let topic = engine.create_topic("short-lived", 2, small()).unwrap();
                fill(engine, &topic.partition(1).unwrap(), 5);
                engine.delete_topic("short-lived").unwrap();
            }
        });
        let (mut seen, mut checks) = (0, 0);
        let mut problems = Vec::new();
        let started = Instant::now();
        while (checks < 60 || seen < 500) && started.elapsed() < Duration::from_secs(60) {
            checks += 1;
            let report = check(directory.path());
            seen += report.records;
            problems.extend(report.problems);
            assert!(
                report
                    .notes
                    .iter()
                    .any(|n| n.contains("open for writing: process"))
            );
        }
        is_done.store(true, Ordering::Relaxed);
        assert_eq!(problems, []);
        assert!(
            checks >= 60 && seen >= 500,
            "{checks} checks, {seen} records"
        );
    });
    engine.close().unwrap();
    assert_eq!(check(directory.path()).problems, []);
}

#[test]
fn disk_in_memory_is_checked_alike() {
    let env = Env::memory();
    let engine = Engine::with_env(env.clone()).open().unwrap();
    let topic = engine.create_topic("orders", 1, small()).unwrap();
    fill(&engine, &topic.partition(0).unwrap(), 30);
    engine.close().unwrap();
    let report = verify_disk(&env.disk, Depth::Records).unwrap();
    assert_eq!(report.problems, []);
    assert_eq!(report.batches, 30);
}

#[test]
fn what_is_no_data_directory_is_refused() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("letter.txt"), "dear").unwrap();
    let error = verify(directory.path()).unwrap_err();
    assert!(
        matches!(error, InspectError::NotADataDirectory { .. }),
        "{error}"
    );
    let error = verify(&directory.path().join("nothing")).unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
    assert!(matches!(error, InspectError::Io { .. }), "{error}");
}
