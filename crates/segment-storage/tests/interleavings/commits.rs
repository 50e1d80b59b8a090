//! What a commit publishes, while others append.

use std::sync::Arc;

use segment_storage::SegmentedLog;
use sync::{Mutex, thread};

use crate::explore;
use crate::harness::{TestLog, create, numbered, place, read_all, synced};
use crate::watched::Watched;

// As the engine's committer: the lock is not held while the disk works.
fn commit(log: &Mutex<TestLog>) {
    let items = log.lock().log.begin_sync(true);
    for item in items {
        item.sync().unwrap();
        let mut log = log.lock();
        SegmentedLog::synced(&mut log.log, &item);
    }
}

#[test]
fn readers_see_only_what_a_sync_covered() {
    explore("append | commit | read", || {
        let disk = Watched::default();
        let place = place(disk.clone());
        create(&place);
        let mut log = TestLog::open(place, synced(1 << 20), 1);
        log.append_numbered(1, 20);
        let batch_bytes = log.log.active_bytes();
        let view = log.log.view().clone();
        let log = Arc::new(Mutex::new(log));
        let appended = log.clone();
        let appender = thread::spawn(move || appended.lock().append_numbered(1, 20));
        let reader = thread::spawn(move || {
            let end = view.published();
            assert!(end * batch_bytes <= disk.synced_bytes(), "{end} is visible");
            let entries = read_all(&view, 0).unwrap();
            assert!(entries.len() >= usize::try_from(end).unwrap());
        });
        commit(&log);
        appender.join().unwrap();
        reader.join().unwrap();
        commit(&log);
        assert_eq!(log.lock().entries(), numbered(0, 2, 20));
    });
}
