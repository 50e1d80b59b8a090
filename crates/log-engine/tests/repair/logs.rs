//! Damage in logs.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use log_engine::inspect::{Depth, repair, repair_env, verify_disk};
use log_engine::storage::{Disk, MemoryDisk};
use log_engine::{Ack, Engine, Env, ManualClock, Record};

use crate::place::{
    APPLY, DRY, LOG, batch, closed, files, fill, flip, goes_on, numbers, repaired, segments, small,
    without,
};

#[test]
fn a_whole_directory_needs_nothing() {
    let place = closed(Ack::Synced);
    let before = files(place.path());
    let report = repair(place.path(), &DRY).unwrap();
    assert!(report.is_whole() && !report.applied, "{report:?}");
    assert_eq!(report.records, 1_001);
    assert!(report.batches > 100 && report.bytes > 1_000_000);
    assert_eq!(files(place.path()), before);
    assert!(repair(place.path(), &APPLY).unwrap().is_whole());
}

#[test]
fn only_the_damaged_batch_is_given_up_wherever_it_is() {
    for (segment, at, byte) in [
        (0, 0, 70),   // in the records of the first batch of all
        (0, 3, 70),   // in the middle of a sealed segment
        (1, -1, 70),  // the last of one
        (1, 2, 20),   // its own checksum
        (1, 4, 9),    // its length
        (2, 2, 3),    // its base offset
        (2, 3, 13),   // its generation, which no checksum covers
        (-1, 1, 70),  // in the last segment, below the mark
        (-1, -1, 70), // right below the mark
    ] {
        let place = closed(Ack::Synced);
        let all = segments(place.path());
        let segment: isize = segment;
        let path = if segment < 0 {
            all.last().unwrap().clone()
        } else {
            all[segment.unsigned_abs()].clone()
        };
        let (position, size, first, end) = batch(&path, at);
        flip(&path, position + byte);
        let damaged = fs::read(&path).unwrap();
        let report = goes_on(place.path(), &without(&[(first, end)]));
        assert_eq!(report.given_up.len(), 1, "{report:?}");
        let given_up = &report.given_up[0];
        assert_eq!(Path::new(&given_up.file), path);
        assert_eq!(
            (given_up.from, given_up.to),
            (position as u64, (position + size) as u64),
            "segment {segment}, batch {at}, byte {byte}"
        );
        assert_eq!(given_up.offsets, Some((first, end)));
        // The damaged bytes are kept.
        assert_eq!(report.set_aside.len(), 1);
        let aside = Path::new(&report.set_aside[0]).join(path.file_name().unwrap());
        assert_eq!(fs::read(aside).unwrap(), damaged);
    }
}

#[test]
fn several_damaged_batches_in_one_segment_and_a_zeroed_range() {
    let place = closed(Ack::Synced);
    let path = &segments(place.path())[1];
    let mut lost = Vec::new();
    for at in [1, 4] {
        let (position, _, first, end) = batch(path, at);
        lost.push((first, end, position));
    }
    for (.., position) in &lost {
        flip(path, position + 70);
    }
    let path = &segments(place.path())[2];
    let (position, _, first, _) = batch(path, 3);
    let (_, _, _, end) = batch(path, 4);
    let mut bytes = fs::read(path).unwrap();
    // Over the border of two batches, headers included.
    let (next, ..) = batch(path, 4);
    bytes[position..next + 100].fill(0);
    fs::write(path, bytes).unwrap();
    let lost: Vec<_> = lost
        .iter()
        .map(|l| (l.0, l.1))
        .chain([(first, end)])
        .collect();
    let report = goes_on(place.path(), &without(&lost));
    let offsets: Vec<_> = report.given_up.iter().map(|g| g.offsets.unwrap()).collect();
    assert_eq!(offsets, lost);
}

#[test]
fn missing_and_cut_segments_are_given_up_and_the_rest_is_kept() {
    let count = segments(closed(Ack::Synced).path()).len();
    for at in 0..count {
        for cut in [false, true] {
            let place = closed(Ack::Synced);
            let path = segments(place.path())[at].clone();
            let (_, _, first, _) = batch(&path, 0);
            let (position, _, last, end) = batch(&path, -1);
            let lost = if cut {
                let bytes = fs::read(&path).unwrap();
                fs::write(&path, &bytes[..position + 10]).unwrap();
                (last, end)
            } else {
                fs::remove_file(&path).unwrap();
                let _ = fs::remove_file(path.with_extension("footer"));
                let _ = fs::remove_file(path.with_extension("index"));
                (first, end)
            };
            let report = goes_on(place.path(), &without(&[lost]));
            let offsets: Vec<_> = report.given_up.iter().filter_map(|g| g.offsets).collect();
            assert_eq!(offsets, [lost], "segment {at}, cut {cut}: {report:?}");
        }
    }
}

#[test]
fn lost_side_files_cost_nothing() {
    let all: Vec<u64> = (0..1_001).collect();
    for (extension, is_removed) in [
        ("footer", false),
        ("footer", true),
        ("index", false),
        ("snapshot", false),
    ] {
        let place = closed(Ack::Synced);
        let mut damaged = 0;
        for path in files(&place.path().join(LOG)).into_keys() {
            if path.extension().is_some_and(|e| e == extension) {
                damaged += 1;
                if is_removed {
                    fs::remove_file(&path).unwrap();
                } else {
                    flip(&path, 30);
                }
            }
        }
        assert!(damaged > 0, "{extension}");
        let report = goes_on(place.path(), &all);
        assert!(report.given_up.is_empty(), "{report:?}");
    }
}

#[test]
fn lost_marks_are_made_anew_and_skip_what_may_have_been_shown() {
    let all: Vec<u64> = (0..1_001).collect();
    for ack in [Ack::Synced, Ack::Memory] {
        for damage in 0..4 {
            let place = closed(ack);
            let marks = place.path().join(LOG).join("marks");
            match damage {
                0 => fs::remove_file(&marks).unwrap(),
                1 => fs::write(&marks, [7; 100]).unwrap(),
                // Both slots of the mark.
                2 => [30, 542].into_iter().for_each(|at| flip(&marks, at)),
                // One slot of the log's start.
                _ => flip(&marks, 2_048 + 30),
            }
            if damage < 3 {
                let engine = Engine::open(place.path()).unwrap();
                let session = engine.session().unwrap();
                let mut appender = session.appender("t", 0).unwrap();
                let refused = appender.blocking_append(&[Record::new().value("x")]);
                let error = refused.unwrap_err().to_string();
                assert!(error.contains("oncelog repair"), "{error}");
                engine.close().unwrap();
            }
            let report = goes_on(place.path(), &all);
            assert!(report.given_up.is_empty(), "{report:?}");
            let engine = Engine::open(place.path()).unwrap();
            let end = engine.topic("t").unwrap().partition(0).unwrap();
            let has_jumped = end.log_end_offset() > 1 << 32;
            assert_eq!(has_jumped, ack == Ack::Memory && damage < 3);
        }
    }
}

#[test]
fn repeats_are_still_recognised_after_a_repair() {
    let place = tempfile::tempdir().unwrap();
    let engine = Engine::open(place.path()).unwrap();
    engine.create_topic("t", 1, small()).unwrap();
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    let id = engine.session().unwrap().producer_id();
    let send = |partition: &log_engine::Partition, sequence: i32| {
        let mut batch = log_engine::BatchBuilder::new();
        let value = vec![b'v'; 10_000];
        batch.push(1, None, Some(&value), &[]).unwrap();
        let identity = log_engine::ProducerIdentity {
            producer_id: id,
            producer_epoch: 0,
            base_sequence: sequence,
        };
        partition.blocking_append(batch.build(Some(identity)).unwrap())
    };
    for sequence in 0..100 {
        send(&partition, sequence).unwrap();
    }
    engine.close().unwrap();
    let path = segments(place.path())[0].clone();
    let (position, ..) = batch(&path, 5);
    flip(&path, position + 70);
    repaired(place.path());
    let engine = Engine::open(place.path()).unwrap();
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    let again = send(&partition, 99).unwrap();
    assert_eq!((again.offset, again.duplicate), (99, true));
    send(&partition, 101).unwrap_err();
    let next = send(&partition, 100).unwrap();
    assert_eq!((next.offset, next.duplicate), (100, false));
}

#[test]
fn a_torn_tail_is_left_to_opening_and_damage_beside_it_keeps_what_is_whole() {
    let disk = MemoryDisk::new();
    let env = |disk: &MemoryDisk| Env {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::at(1_700_000_000_000)),
        seed: 3,
    };
    let engine = Engine::with_env(env(&disk)).open().unwrap();
    engine.create_topic("t", 1, small()).unwrap();
    fill(&engine, 0, 900);
    let killed = disk.after_kill();
    let report = repair_env(&env(&killed), &DRY).unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert!(repair_env(&env(&killed), &APPLY).unwrap().is_whole());
    let first = "t-0/00000000000000000000.log";
    killed.corrupt(first, 70, 1).unwrap();
    let report = repair_env(&env(&killed), &APPLY).unwrap();
    assert_eq!(report.given_up[0].offsets, Some((0, 10)), "{report:?}");
    let shared: Arc<dyn Disk> = Arc::new(killed.clone());
    assert!(verify_disk(&shared, Depth::Records).unwrap().ok);
    let engine = Engine::with_env(env(&killed)).open().unwrap();
    assert_eq!(numbers(&engine), (10..900).collect::<Vec<_>>());
}
