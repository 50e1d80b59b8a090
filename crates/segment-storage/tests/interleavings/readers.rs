//! The published end against the bytes, the index and the row of segments.

use segment_storage::{Cursor, LogView, ReadError};
use sync::thread;

use crate::explore;
use crate::harness::{
    Entry, TestLog, create, entries_of, numbered, place, read_all, synced, value, written,
};
use crate::watched::Watched;

/// A value that makes a batch larger than what lies between two entries of the index.
const LARGE: usize = 4200;

/// A log that shows what is written, with one batch in it and room for `batches` more before it
/// rolls; the next segment is ready, too.
fn started(segment_batches: u64, bytes: usize) -> TestLog {
    let place = place(Watched::default());
    create(&place);
    let batch = u64::try_from(bytes).unwrap() + 100;
    let mut log = TestLog::open(place, written(segment_batches * batch), 1);
    append(&mut log, bytes);
    log.feed().unwrap();
    log
}

fn append(log: &mut TestLog, bytes: usize) {
    let at = log.log.next_offset();
    let timestamp = i64::try_from(at).unwrap() * 10 + 10;
    log.append_at(&[(timestamp, &value(at, bytes))]);
}

/// Reads up to the end, and then up to where that is by then; finds every batch, once.
fn read_twice(view: &LogView) {
    let first = view.published();
    let mut entries = read_up_to(view, 0, first).unwrap();
    let second = view.published();
    assert!(second >= first, "the published end went back to {second}");
    entries.extend(read_up_to(view, first, second).unwrap());
    assert_eq!(entries, numbered(0, second, 20));
}

fn read_up_to(view: &LogView, from: u64, end: u64) -> Result<Vec<Entry>, ReadError> {
    let mut cursor = Cursor::at(from);
    let mut entries = Vec::new();
    while let Some(run) = view.read(&mut cursor, end, 1 << 20)? {
        entries.extend(entries_of(&run.bytes));
    }
    assert_eq!(cursor.offset, end, "what is below the end can be read");
    Ok(entries)
}

#[test]
fn reader_finds_every_byte_below_the_published_end() {
    explore("append, append | read, read", || {
        let mut log = started(8, 20);
        let view = log.log.view().clone();
        let reader = thread::spawn(move || read_twice(&view));
        append(&mut log, 20);
        append(&mut log, 20);
        reader.join().unwrap();
    });
}

#[test]
fn roll_hides_nothing_from_a_reader() {
    explore("roll, append, append | read, read", || {
        // The second batch begins the second segment.
        let mut log = started(1, 20);
        let view = log.log.view().clone();
        let reader = thread::spawn(move || read_twice(&view));
        append(&mut log, 20);
        log.feed().unwrap();
        append(&mut log, 20);
        assert_eq!(log.view().segments().len(), 3);
        reader.join().unwrap();
    });
}

#[test]
fn index_never_leads_past_a_batch() {
    explore("append, append | by timestamp, by offset", || {
        let mut log = started(8, LARGE);
        let view = log.log.view().clone();
        let reader = thread::spawn(move || {
            let limit = view.published();
            let found = view.batch_for_timestamp(10, limit).unwrap();
            let entries = entries_of(&found.unwrap());
            assert_eq!(entries, numbered(0, 1, LARGE));
            let last = limit - 1;
            let entries = read_up_to(&view, last, limit).unwrap();
            assert_eq!(entries, numbered(last, limit, LARGE));
        });
        append(&mut log, LARGE);
        append(&mut log, LARGE);
        reader.join().unwrap();
    });
}

/// Three sealed segments of one batch each, and what removes the first two.
fn three_segments(reopened: bool) -> TestLog {
    let disk = Watched::default();
    create(&place(disk.clone()));
    let mut log = TestLog::open(place(disk.clone()), synced(120), 1);
    log.append_numbered(3, 20);
    log.commit().unwrap();
    if !reopened {
        return log;
    }
    log.close().unwrap();
    // Its segments are opened when they are first read.
    TestLog::open(place(disk), synced(120), 2)
}

fn deletion_against_reader(name: &str, reopened: bool) {
    explore(name, move || {
        let mut log = three_segments(reopened);
        let view = log.log.view().clone();
        let reader = thread::spawn(move || {
            match read_all(&view, 0) {
                Ok(entries) => assert_eq!(entries, numbered(0, 3, 20)),
                Err(ReadError::Deleted { first: 2, .. }) => {}
                Err(error) => panic!("a reader was told: {error}"),
            }
            assert_eq!(read_all(&view, 2).unwrap(), numbered(2, 3, 20));
        });
        log.drop_front(2).unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn deletion_is_never_taken_for_damage() {
    deletion_against_reader("delete the front | read", false);
}

#[test]
fn deletion_of_files_that_were_not_open_is_never_taken_for_damage() {
    deletion_against_reader("delete the front | open and read", true);
}

#[test]
fn lookup_by_time_goes_on_where_a_deletion_ended() {
    explore("delete the front | open and look up", || {
        let mut log = three_segments(true);
        let view = log.log.view().clone();
        let reader = thread::spawn(move || {
            let found = view.batch_for_timestamp(0, 3).unwrap().unwrap();
            let entries = entries_of(&found);
            assert!([numbered(0, 1, 20), numbered(2, 3, 20)].contains(&entries));
        });
        log.drop_front(2).unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn latch_gives_everybody_the_first_reason() {
    explore("fail | fail | look", || {
        let latch = segment_storage::Latch::default();
        let close = |errno| {
            let latch = latch.clone();
            move || latch.close("t-0", "sync", &std::io::Error::from_raw_os_error(errno))
        };
        let threads = [5, 28].map(|errno| thread::spawn(close(errno)));
        let seen = latch.reason().cloned();
        let [one, other] = threads.map(|thread| thread.join().unwrap());
        assert_eq!(one, other);
        assert!(seen.is_none_or(|seen| seen == one));
        assert_eq!(latch.check(), Err(one));
    });
}
