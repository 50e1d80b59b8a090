//! A crash before, and in the middle of, every change that a log makes: killed, or without what was
//! not synced.

use std::sync::atomic::Ordering;

use segment_storage::{LogConfig, MemoryDisk, Visibility};

use crate::harness::{Entry, TestLog, config, contents, create, place, value};
use crate::recorder::{Image, Recorder};

const VALUE_BYTES: usize = 200;
const SEGMENT_BYTES: u64 = 2048;

/// One run of a log, with images at every step.
struct Run {
    recorder: Recorder,
    config: LogConfig,
    log: Option<TestLog>,
    generation: i32,
}

impl Run {
    fn new(visibility: Visibility) -> Run {
        let recorder = Recorder::default();
        create(&place(recorder.clone()));
        recorder.take_images();
        let mut run = Run {
            recorder,
            config: config(SEGMENT_BYTES, visibility),
            log: None,
            generation: 0,
        };
        run.open();
        run
    }

    fn open(&mut self) {
        self.generation += 1;
        let generation = u64::try_from(self.generation).unwrap();
        let promises = self.recorder.promises.clone();
        promises.generation.store(generation, Ordering::Relaxed);
        let place = place(self.recorder.clone());
        let log = TestLog::open(place, self.config.clone(), self.generation);
        assert_eq!(log.found.corruption, None);
        self.log = Some(log);
        self.note();
    }

    fn log(&mut self) -> &mut TestLog {
        self.log.as_mut().unwrap()
    }

    fn note(&mut self) {
        let promises = self.recorder.promises.clone();
        let log = &self.log().log;
        let (appended, synced) = (log.next_offset(), log.synced_offset());
        promises.appended.store(appended, Ordering::Relaxed);
        promises.synced.store(synced, Ordering::Relaxed);
        promises
            .shown
            .store(log.view().published(), Ordering::Relaxed);
    }

    fn append(&mut self, batches: u64) {
        for _ in 0..batches {
            let next = self.log().log.next_offset();
            let values = [value(next, VALUE_BYTES), value(next + 1, VALUE_BYTES)];
            self.log().append(&[&values[0], &values[1]]);
            self.note();
        }
    }

    fn commit(&mut self) {
        self.log().sync().unwrap();
        self.note();
        self.log().seal().unwrap();
        self.log().raise_ceiling().unwrap();
        self.note();
    }

    fn close(&mut self) {
        self.commit();
        self.log.take().unwrap().close().unwrap();
    }

    fn delete_before(&mut self, offset: u64) {
        let deleted = &self.recorder.promises.deleted;
        deleted.store(offset, Ordering::Relaxed);
        self.log().drop_front(offset).unwrap();
    }

    fn check(self) {
        let images = self.recorder.take_images();
        assert!(images.len() > 50, "{} images", images.len());
        for image in images {
            check(&image, &self.config);
        }
    }
}

fn assert_numbered(entries: &[Entry], what: &str) {
    for pair in entries.windows(2) {
        assert!(pair[0].0 < pair[1].0, "{what}: offsets rise");
    }
    for (offset, found) in entries {
        assert_eq!(
            found,
            &value(*offset, VALUE_BYTES),
            "{what}: offset {offset}"
        );
    }
}

// What must not change by itself: no marks, caches, nor what was prepared and not used.
fn lasting(disk: &MemoryDisk) -> Vec<(String, usize, u32)> {
    let mut files = contents(disk);
    files.retain(|(name, _)| name.ends_with(".log") || name.ends_with(".footer"));
    let files = files.into_iter();
    files
        .map(|(name, bytes)| (name, bytes.len(), record_batch::crc32c(&bytes)))
        .collect()
}

fn check(image: &Image, config: &LogConfig) {
    let what = &image.step;
    let disk = &image.disk;
    let generation = image.generation;
    let log = TestLog::open(place(disk.clone()), config.clone(), generation + 1);
    assert_eq!(log.found.corruption, None, "{what}");
    let entries = log.entries();
    assert_numbered(&entries, what);
    // I1: nothing answered is lost; nothing but the deleted front is missing.
    let needed = if image.is_killed {
        image.appended
    } else {
        image.synced
    };
    let there: Vec<u64> = entries.iter().map(|e| e.0).collect();
    let start = log.view().start();
    assert!(start <= image.deleted, "{what}: start {start}");
    let end = there.last().map_or(start, |last| last + 1);
    assert!(end >= needed.max(start), "{what}: {end} of {needed}");
    assert_eq!(there, (start..end).collect::<Vec<_>>(), "{what}");
    // I4: batches of two are there whole.
    assert_eq!(end % 2, 0, "{what}");
    // I9: what was shown is there, or its offset is not given out again.
    let next = log.log.next_offset();
    assert!(next >= image.shown && next >= end, "{what}: next {next}");
    drop(log);

    // I23: another crash right away, and another open, change nothing.
    for again in [disk.after_kill(), disk.after_power_cut()] {
        let log = TestLog::open(place(again.clone()), config.clone(), generation + 2);
        assert_eq!(log.entries(), entries, "{what}, again");
        assert_eq!(log.found.cut, [], "{what}, again");
        let files = lasting(&again);
        let third = TestLog::open(place(again.clone()), config.clone(), generation + 3);
        assert_eq!(third.entries(), entries, "{what}, a third time");
        assert_eq!(lasting(&again), files, "{what}: files change");
    }

    // The log goes on, and what is behind its tail never comes back (R8).
    let mut log = TestLog::open(place(disk.clone()), config.clone(), generation + 4);
    let next = log.log.next_offset();
    let mut expected = entries;
    for n in 0..9 {
        let offset = log.append(&[&value(next + n, VALUE_BYTES)]);
        assert_eq!(offset, next + n, "{what}");
        expected.push((offset, value(offset, VALUE_BYTES)));
    }
    log.commit().unwrap();
    assert_eq!(log.entries(), expected, "{what}, going on");
    for after in [disk.after_power_cut(), disk.after_kill()] {
        let log = TestLog::open(place(after), config.clone(), generation + 5);
        assert_eq!(log.found.corruption, None, "{what}, after going on");
        assert_eq!(log.entries(), expected, "{what}, after going on");
    }
}

fn append_commit_and_roll(visibility: Visibility) {
    let mut run = Run::new(visibility);
    for n in 0..6 {
        run.append(n % 3 + 1);
        run.commit();
    }
    run.append(12);
    run.commit();
    run.log().log.roll();
    run.append(1);
    run.commit();
    run.check();
}

#[test]
fn crash_at_every_step_of_append_commit_and_roll() {
    append_commit_and_roll(Visibility::Synced);
    append_commit_and_roll(Visibility::Written);
}

fn close_and_reopen(visibility: Visibility) {
    let mut run = Run::new(visibility);
    run.append(1);
    run.close();
    // Resumed in the same file, then more than half full, then rolled at the close.
    for batches in [1, 2, 3] {
        run.open();
        run.append(batches);
        run.close();
    }
    run.open();
    run.append(2);
    run.commit();
    run.log().log.roll();
    run.close();
    run.open();
    run.append(1);
    run.close();
    run.check();
}

#[test]
fn crash_at_every_step_of_close_and_reopen() {
    close_and_reopen(Visibility::Synced);
    close_and_reopen(Visibility::Written);
}

fn unclean_reopen(visibility: Visibility) {
    let mut run = Run::new(visibility);
    run.append(5);
    run.commit();
    run.append(4);
    for _ in 0..3 {
        // The process dies; what it wrote is still in the page cache.
        run.log = None;
        run.open();
        run.append(1);
        run.commit();
        run.append(2);
    }
    run.close();
    run.check_gaps();
}

impl Run {
    // As `check`, in a log that jumped: only that nothing answered is missing.
    fn check_gaps(self) {
        for image in self.recorder.take_images() {
            let what = &image.step;
            let generation = image.generation;
            let disk = &image.disk;
            let log = TestLog::open(place(disk.clone()), self.config.clone(), generation + 1);
            assert_eq!(log.found.corruption, None, "{what}");
            let entries = log.entries();
            assert_numbered(&entries, what);
            let next = log.log.next_offset();
            assert!(next >= image.shown, "{what}: {next} of {}", image.shown);
            drop(log);
            let again = TestLog::open(
                place(disk.after_kill()),
                self.config.clone(),
                generation + 2,
            );
            assert_eq!(again.entries(), entries, "{what}, again");
            // Everything that a later image has below the same offset is here as well.
            let end = entries.last().map_or(0, |e| e.0 + 1);
            let needed = if image.is_killed {
                image.appended
            } else {
                image.synced
            };
            let whole = TestLog::open(
                place(self.recorder.disk.after_kill()),
                self.config.clone(),
                self.generation + 1,
            );
            let mut expected = whole.entries();
            expected.retain(|e| e.0 < end.max(needed));
            assert_eq!(entries, expected, "{what}");
        }
    }
}

#[test]
fn crash_at_every_step_of_recovery() {
    unclean_reopen(Visibility::Synced);
    unclean_reopen(Visibility::Written);
}

#[test]
fn crash_at_every_step_of_deleting_the_front() {
    for visibility in [Visibility::Synced, Visibility::Written] {
        let mut run = Run::new(visibility);
        run.append(20);
        run.commit();
        run.delete_before(3);
        run.delete_before(13);
        run.append(10);
        run.commit();
        run.delete_before(35);
        run.close();
        run.open();
        run.delete_before(52);
        run.append(1);
        run.close();
        run.check();
    }
}
