//! Finding offsets and times. Indexes are caches: without them, with damaged and with lying ones
//! every answer is the same (I25).

use bytes::Bytes;
use record_batch::Records;
use segment_storage::{Disk, IndexEntry, LogView, MemoryDisk, names, state_file};
use serde::Serialize;

use crate::harness::{
    DIRECTORY, Entry, LOG_ID, Random, TestLog, path, place, read_all, synced, value,
};

/// Batches of one to three records in several segments, with times that go back now and then.
fn timed(seed: u64) -> (MemoryDisk, Vec<Vec<i64>>) {
    let mut random = Random(seed);
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(16 << 10));
    let mut batches = Vec::new();
    let mut now = 1_000;
    for _ in 0..150 {
        now += 10;
        let count = 1 + random.below(3);
        let times: Vec<i64> = (0..count)
            .map(|_| now - i64::try_from(random.below(200)).unwrap())
            .collect();
        let offset = log.log.next_offset();
        let values: Vec<_> = (0..count).map(|n| value(offset + n, 150)).collect();
        let records: Vec<(i64, &[u8])> = times
            .iter()
            .zip(&values)
            .map(|(t, v)| (*t, &v[..]))
            .collect();
        log.append_at(&records);
        batches.push(times);
    }
    log.close().unwrap();
    (disk.after_kill(), batches)
}

/// The first offset of the first batch, from `start` on, that has a time at or after this one.
fn naive(batches: &[Vec<i64>], start: u64, timestamp: i64) -> Option<u64> {
    let mut base = 0;
    for times in batches {
        let next = base + times.len() as u64;
        if next > start && times.iter().any(|t| *t >= timestamp) {
            return Some(base);
        }
        base = next;
    }
    None
}

fn base_offset(batch: &Bytes) -> u64 {
    let first = Records::of(batch).unwrap().next().unwrap().unwrap();
    u64::try_from(first.offset).unwrap()
}

fn found(view: &LogView, timestamp: i64) -> Option<u64> {
    let batch = view
        .batch_for_timestamp(timestamp, view.published())
        .unwrap();
    batch.map(|batch| base_offset(&batch))
}

#[test]
fn time_is_found_as_by_a_search_through_everything() {
    for seed in 0..10 {
        let (disk, batches) = timed(seed);
        let mut log = TestLog::open(place(disk), synced(16 << 10), 2);
        assert!(log.view().segments().len() > 2);
        for start in [0, 1, 57, 120, log.log.next_offset() - 1] {
            log.drop_front(start).unwrap();
            for timestamp in (700..2_700).step_by(7) {
                assert_eq!(
                    found(log.view(), timestamp),
                    naive(&batches, start, timestamp),
                    "seed {seed}, start {start}, time {timestamp}"
                );
            }
        }
    }
}

#[test]
fn time_is_found_below_the_limit_only_and_behind_an_offset() {
    let (disk, batches) = timed(3);
    let log = TestLog::open(place(disk), synced(16 << 10), 2);
    let newest = batches.concat().into_iter().max().unwrap();
    let at = naive(&batches, 0, newest).unwrap();
    let view = log.view();
    assert!(view.batch_for_timestamp(newest, at).unwrap().is_none());
    assert!(view.batch_for_timestamp(newest, at + 1).unwrap().is_some());
    for from in (0..log.log.next_offset()).step_by(9) {
        let batch = view
            .batch_for_timestamp_from(1_500, from, view.published())
            .unwrap();
        let expected = naive(&batches, from, 1_500);
        assert_eq!(batch.map(|b| base_offset(&b)), expected, "from {from}");
    }
}

#[test]
fn appended_times_are_found_while_the_log_runs() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    for n in 0..50 {
        log.append_at(&[(n * 10, &value(n.unsigned_abs(), 500))]);
        log.commit().unwrap();
        for asked in 0..=n {
            assert_eq!(found(log.view(), asked * 10), Some(asked.unsigned_abs()));
            assert_eq!(
                found(log.view(), asked * 10 - 9),
                Some(asked.unsigned_abs())
            );
        }
        assert_eq!(found(log.view(), n * 10 + 1), None);
    }
}

/// As the storage stores it.
#[derive(Serialize)]
struct IndexFile {
    log_id: u128,
    base_offset: u64,
    bytes: u64,
    max_timestamp: i64,
    entries: Vec<IndexEntry>,
}

fn answers(disk: &MemoryDisk) -> (Vec<Entry>, Vec<Option<u64>>, Vec<Entry>, u64) {
    let log = TestLog::open(place(disk.clone()), synced(16 << 10), 2);
    assert!(log.found.clean);
    let view = log.view();
    // By offset, from the back, so that each needs the index.
    let mut first = Vec::new();
    for offset in (0..log.log.next_offset()).rev() {
        let mut cursor = segment_storage::Cursor::at(offset);
        let run = view
            .read(&mut cursor, view.published(), 1)
            .unwrap()
            .unwrap();
        first.push(crate::harness::entries_of(&run.bytes).remove(0));
    }
    let times = (700..2_700).step_by(31).map(|t| found(view, t)).collect();
    (
        first,
        times,
        read_all(view, 0).unwrap(),
        view.index_rebuilds(),
    )
}

fn index_files(disk: &MemoryDisk) -> Vec<String> {
    let names = disk.list(DIRECTORY).unwrap().into_iter().map(|e| e.name);
    names.filter(|n| n.ends_with(".index")).collect()
}

type Change<'a> = &'a dyn Fn(&MemoryDisk, &str);

#[test]
fn no_answer_depends_on_an_index_file() {
    let (disk, _) = timed(1);
    let files = index_files(&disk);
    assert!(files.len() > 2, "{files:?}");
    let (by_offset, by_time, all, rebuilds) = answers(&disk.after_kill());
    assert_eq!(rebuilds, 0);
    let count = files.len() as u64;

    let original = disk.after_kill();
    let write = |change: Change| {
        let changed = disk.after_kill();
        for name in &files {
            change(&changed, name);
        }
        answers(&changed)
    };
    // Deleted: as after a crash, so not counted.
    let deleted = write(&|disk, name| disk.remove(&path(name)).unwrap());
    assert_eq!(
        deleted,
        (by_offset.clone(), by_time.clone(), all.clone(), 0)
    );
    let damage: [(&str, Change); 5] = [
        ("empty", &|disk, name| {
            disk.write_file(&path(name), b"").unwrap()
        }),
        ("garbage", &|disk, name| {
            disk.write_file(&path(name), &[7; 300]).unwrap()
        }),
        ("a flipped bit", &|disk, name| {
            disk.corrupt(&path(name), 60, 4).unwrap()
        }),
        ("cut", &|disk, name| {
            let mut bytes = disk.read_file(&path(name)).unwrap();
            bytes.truncate(bytes.len() - 5);
            disk.write_file(&path(name), &bytes).unwrap();
        }),
        ("another segment's", &|disk, name| {
            let other = if name.starts_with("00000000000000000000") {
                1
            } else {
                0
            };
            let bytes = original.read_file(&path(&files[other])).unwrap();
            disk.write_file(&path(name), &bytes).unwrap();
        }),
    ];
    for (what, change) in damage {
        let (offsets, times, entries, rebuilds) = write(change);
        assert!(
            offsets == by_offset && times == by_time && entries == all,
            "{what}"
        );
        assert_eq!(rebuilds, count, "{what}");
    }
}

/// Undamaged, right size, wrong content: as after a misdirected write.
#[test]
fn no_answer_depends_on_what_an_index_says() {
    let (disk, _) = timed(2);
    let (by_offset, by_time, all, _) = answers(&disk.after_kill());
    let place = place(disk.clone());
    let log = TestLog::open(place.clone(), synced(16 << 10), 2);
    let segments = log.view().segments();
    let entries = |position: &dyn Fn(u32) -> u32, offset: &dyn Fn(u32) -> u32| {
        let lying = disk.after_kill();
        for segment in segments.iter() {
            let right = segment.index().unwrap().entries();
            let lies = IndexFile {
                log_id: LOG_ID,
                base_offset: segment.base_offset(),
                bytes: segment.bytes().unwrap(),
                max_timestamp: segment.max_timestamp().unwrap(),
                entries: right
                    .iter()
                    .map(|e| IndexEntry {
                        position: position(e.position),
                        relative_offset: offset(e.relative_offset),
                        ..*e
                    })
                    .collect(),
            };
            let name = names::index(segment.base_offset());
            let disk: &dyn Disk = &lying;
            state_file::write(disk, DIRECTORY, &name, *b"OLIX", 1, &lies).unwrap();
        }
        answers(&lying)
    };
    let lies = [
        (
            "positions in the middle of batches",
            entries(&|p| p + 1, &|o| o),
        ),
        ("positions behind the end", entries(&|p| p + 20_000, &|o| o)),
        ("positions of the beginning", entries(&|_| 0, &|o| o)),
        ("offsets too high", entries(&|p| p, &|o| o + 1)),
        ("offsets too low", entries(&|p| p, &|o| o - 1)),
    ];
    for (what, (offsets, times, read, rebuilds)) in lies {
        assert!(offsets == by_offset, "{what}: by offset");
        assert!(times == by_time, "{what}: by time");
        assert!(read == all, "{what}: in order");
        assert!(rebuilds > 0, "{what}");
    }
}

#[test]
fn bytes_outlive_deletion_sealing_and_close() {
    let root = tempfile::tempdir().unwrap();
    let real = segment_storage::OsDisk::open(root.path().to_owned()).unwrap();
    let in_memory = MemoryDisk::new();
    for place in [place(real), place(in_memory)] {
        crate::harness::create(&place);
        let mut log = TestLog::open(place.clone(), synced(8192), 1);
        log.append_numbered(30, 500);
        log.commit().unwrap();
        let view = log.log.view().clone();
        let mut held = Vec::new();
        let mut cursor = segment_storage::Cursor::at(0);
        while let Some(run) = view.read(&mut cursor, 30, 1500).unwrap() {
            held.push(run.bytes);
        }
        log.append_numbered(20, 500);
        log.commit().unwrap();
        log.drop_front(45).unwrap();
        log.close().unwrap();
        segment_storage::truncate_fully(&place, 100).unwrap();
        let entries: Vec<_> = held.iter().flat_map(crate::harness::entries_of).collect();
        assert_eq!(entries, crate::harness::numbered(0, 30, 500));
    }
}
