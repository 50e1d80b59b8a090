//! What is known of producers after a close, a crash, damage and a truncation.

use partition_log::{PartitionConfig, snapshot};
use segment_storage::{Cursor, Disk, truncate, truncate_fully};

use crate::driver::{Driver, kafka, of, p7, plain};

fn ten(config: PartitionConfig) -> Driver {
    let mut log = Driver::new(config);
    for n in 0..10 {
        assert_eq!(log.send(&p7(n, n)), (n as u64, false));
    }
    log
}

#[test]
fn case_014_a_batch_over_the_limit_is_refused_and_replicated_it_is_taken() {
    let batch = p7(0, 3);
    let config = PartitionConfig {
        batch_bytes_max: batch.len() - 1,
        ..PartitionConfig::default()
    };
    let mut log = Driver::new(config);
    assert_eq!(log.refusal(&batch), 10);
    assert!(log.log.producers().is_empty());
    log.replicate(&batch).unwrap();
    assert_eq!(log.log.next_offset(), 4);
    let mut log = Driver::new(PartitionConfig {
        batch_bytes_max: batch.len(),
        ..PartitionConfig::default()
    });
    assert_eq!(log.send(&batch), (0, false), "exactly the limit is allowed");
}

#[test]
fn case_093_the_newest_batch_is_a_repeat_after_a_clean_close() {
    let mut log = ten(PartitionConfig::default()).reload();
    assert!(log.opened.files.clean);
    assert_eq!(
        (log.opened.producers.snapshot, log.opened.producers.replayed),
        (Some(10), 0)
    );
    assert_eq!(log.send(&p7(9, 9)), (9, true));
    assert_eq!(log.send(&p7(10, 10)), (10, false));
}

#[test]
fn case_094_the_whole_window_is_known_after_a_clean_close() {
    let mut log = ten(PartitionConfig::default()).reload();
    for n in (5..10).rev() {
        assert_eq!(log.send(&p7(n, n)), (n as u64, true));
    }
    assert_eq!(log.refusal(&p7(4, 4)), 45);
}

#[test]
fn case_095_without_snapshots_a_crash_is_followed_by_a_scan() {
    let log = ten(PartitionConfig::default());
    snapshot::remove_where(log.place(), |_| true).unwrap();
    let mut log = log.crash();
    assert_eq!(
        (log.opened.producers.snapshot, log.opened.producers.replayed),
        (None, 10)
    );
    for n in 5..10 {
        assert_eq!(log.send(&p7(n, n)), (n as u64, true));
    }
    assert_eq!(log.refusal(&p7(4, 4)), 45);
    assert_eq!(log.send(&p7(10, 10)), (10, false));
}

#[test]
fn case_096_a_torn_batch_is_cut_and_can_be_sent_again() {
    let mut log = ten(PartitionConfig::default());
    let torn = p7(10, 12);
    assert!(!log.append(&torn).unwrap().duplicate);
    // Its last byte did not reach the disk.
    let position = (0..10).map(|n| p7(n, n).len()).sum::<usize>() + torn.len() - 1;
    let file = "t-0/next-1.segment";
    let file = match log.disk.read_file(file) {
        Ok(_) => file,
        Err(_) => "t-0/00000000000000000000.log",
    };
    log.disk.corrupt(file, position as u64, 0xff).unwrap();
    let mut log = log.kill();
    assert_eq!(log.opened.files.cut.len(), 1, "{:?}", log.opened.files);
    assert_eq!(log.log.next_offset(), 10);
    assert_eq!(log.send(&p7(9, 9)), (9, true));
    assert_eq!(log.send(&torn), (10, false));
}

fn four_segments() -> Driver {
    let mut log = Driver::new(PartitionConfig::default());
    for segment in 0..4 {
        for n in 0..3 {
            let sequence = segment * 3 + n;
            log.send(&p7(sequence, sequence));
        }
        if segment < 3 {
            log.roll();
        }
    }
    log
}

#[test]
fn case_097_damage_below_the_mark_gives_nothing_up() {
    // Kafka cuts there and removes the segments behind. Here acknowledged data is never dropped
    // (I24, R13): the log opens for reading, and everything undamaged can be read.
    let log = four_segments();
    let file = "t-0/00000000000000000003.log";
    let second_batch = p7(3, 3).len() + 70;
    log.disk.corrupt(file, second_batch as u64, 1).unwrap();
    // Whoever opened it cleanly finds out when it reads; without footers the open itself does.
    for base in [0, 3, 6] {
        log.disk.remove(&format!("t-0/{base:020}.footer")).unwrap();
    }
    let before: Vec<_> = log.disk.list("t-0").unwrap();
    let mut log = log.kill();
    let corruption = log.log.corruption().unwrap().clone();
    assert!(
        corruption.file.ends_with("00000000000000000003.log"),
        "{corruption}"
    );
    assert_eq!(corruption.position, p7(3, 3).len() as u64);
    let logs = |entries: &[segment_storage::DirectoryEntry]| -> Vec<_> {
        let logs = entries.iter().filter(|e| e.name.ends_with(".log"));
        logs.map(|e| (e.name.clone(), e.len)).collect()
    };
    assert_eq!(
        logs(&log.disk.list("t-0").unwrap()),
        logs(&before),
        "nothing is cut"
    );
    let error = log.append(&p7(12, 12)).unwrap_err();
    assert_eq!(error.kafka_code(), 56);
    let reader = log.log.reader();
    let mut cursor = Cursor::at(0);
    let run = reader.read(&mut cursor, 1 << 20).unwrap().unwrap();
    assert_eq!(run.next_offset, 3);
}

#[test]
fn case_101_a_plain_append_moves_the_tables_end() {
    let mut log = Driver::new(PartitionConfig::default());
    for n in 1..4 {
        log.send(&plain());
        assert_eq!((log.log.map_end_offset(), log.log.next_offset()), (n, n));
    }
    assert_eq!(log.refusal(&p7(5, 5)), 45);
    assert_eq!(log.log.map_end_offset(), 3);
}

#[test]
fn case_102_a_truncation_takes_a_batch_out_of_the_window() {
    for with_snapshots in [true, false] {
        let mut log = Driver::new(PartitionConfig::default());
        log.send(&p7(0, 0));
        log.log.snapshot().unwrap();
        log.send(&p7(1, 1));
        let mut log = log.reload_after(|place, _| {
            if !with_snapshots {
                snapshot::remove_where(place, |_| true).unwrap();
            }
            assert_eq!(truncate(place, 1).unwrap(), 1);
        });
        assert_eq!(log.log.next_offset(), 1);
        assert_eq!(log.send(&p7(0, 0)), (0, true));
        assert_eq!(log.send(&p7(1, 1)), (1, false), "no repeat any more");
        assert_eq!(log.send(&p7(1, 1)), (1, true));
    }
}

#[test]
fn case_104_a_full_truncation_forgets_everything() {
    let empty = |config| ten(config).reload_after(|place, _| truncate_fully(place, 29).unwrap());
    let mut log = empty(kafka());
    assert!(log.log.producers().is_empty());
    assert_eq!(log.snapshots(), []);
    assert_eq!((log.log.map_end_offset(), log.log.next_offset()), (29, 29));
    assert_eq!(log.send(&p7(5, 5)), (29, false));
    // Strict takes an unknown producer at its beginning alone.
    let mut log = empty(PartitionConfig::default());
    assert_eq!(log.refusal(&p7(5, 5)), 45);
    assert_eq!(log.send(&p7(0, 0)), (29, false));
}

#[test]
fn case_111_a_producer_that_expired_in_a_snapshot_is_not_loaded() {
    let period = PartitionConfig::default().producer_expiry_ms;
    let close_and_wait = |config| {
        let mut log = Driver::new(config);
        log.send(&p7(0, 1));
        log.send(&of(8, 0, 0));
        log.close();
        log.now_ms += period;
        log.kill()
    };
    let mut log = close_and_wait(kafka());
    assert!(!log.knows(7) && !log.knows(8));
    assert_eq!(log.send(&p7(2, 2)), (3, false));
    // Strict takes nothing of one that it forgot, or a late retry would be stored twice (I18).
    let mut log = close_and_wait(PartitionConfig::default());
    assert_eq!(log.refusal(&p7(2, 2)), 45);
    assert_eq!(log.refusal(&p7(0, 1)), 45);
    assert_eq!(log.send(&of(9, 0, 0)), (3, false));
}
