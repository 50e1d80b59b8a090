//! Deleting from the front: producers stay known, in memory and over a restart (I18).

use partition_log::{PartitionConfig, snapshot};
use segment_storage::Disk;

use crate::driver::{Driver, kafka, of, p7};

fn bases(log: &Driver) -> Vec<u64> {
    let segments = log.log.reader().view().segments();
    segments.iter().map(|s| s.base_offset()).collect()
}

#[test]
fn case_113_a_producer_whose_data_was_deleted_is_known() {
    let mut log = Driver::new(PartitionConfig::default());
    log.send(&p7(0, 1));
    log.roll();
    log.send(&of(8, 0, 0));
    log.log.delete_before(2, log.now()).unwrap();
    assert_eq!(bases(&log), [2]);
    assert!(log.disk.read_file("t-0/00000000000000000000.log").is_err());
    assert_eq!(log.send(&p7(0, 1)), (0, true));
    assert_eq!(log.send(&p7(2, 2)), (3, false));
}

// P7 in a deleted segment, P8 alive.
fn deleted(config: PartitionConfig) -> Driver {
    let mut log = Driver::new(config);
    log.send(&p7(0, 0));
    log.roll();
    log.send(&of(8, 0, 0));
    log.log.delete_before(1, log.now()).unwrap();
    assert_eq!(bases(&log), [1]);
    log
}

#[test]
fn case_114_a_producer_whose_data_was_deleted_is_known_after_a_crash() {
    // Kafka forgets it and takes its next batch with any sequence. Here deleting writes a snapshot
    // first, so that nobody is forgotten by retention (I18).
    for config in [kafka(), PartitionConfig::default()] {
        let mut log = deleted(config).crash();
        assert!(log.knows(7) && log.knows(8));
        assert_eq!(log.send(&p7(0, 0)), (0, true));
        assert_eq!(log.send(&p7(1, 1)), (2, false));
    }
    // With every snapshot lost the log says so, and refuses whoever may be known (I18).
    let log = deleted(PartitionConfig::default());
    snapshot::remove_where(log.place(), |_| true).unwrap();
    let mut log = log.crash();
    assert!(log.opened.history_lost && log.log.is_history_lost());
    assert!(!log.knows(7) && log.knows(8));
    assert_eq!(log.refusal(&p7(0, 0)), 45);
    assert_eq!(log.refusal(&p7(1, 1)), 45);
    assert_eq!(log.send(&of(8, 0, 0)), (1, true));
}

#[test]
fn case_115_a_start_inside_of_a_segment_forgets_nobody() {
    let mut log = Driver::new(PartitionConfig::default());
    log.send(&p7(0, 0));
    log.send(&of(8, 0, 0));
    log.log.delete_before(1, log.now()).unwrap();
    assert_eq!(bases(&log), [0], "the only segment stays");
    let log = log.crash();
    assert_eq!(log.log.reader().log_start_offset(), 1);
    assert!(log.knows(7) && log.knows(8));
    let mut log = log.reload();
    assert_eq!(log.send(&p7(0, 0)), (0, true));
    assert_eq!(log.send(&of(8, 0, 0)), (1, true));
}

#[test]
fn case_116_deleting_removes_the_snapshots_of_what_is_gone() {
    let mut log = Driver::new(PartitionConfig::default());
    log.send(&p7(0, 0));
    log.roll();
    log.send(&p7(1, 2));
    log.roll();
    log.send(&p7(3, 3));
    assert_eq!(bases(&log), [0, 1, 3]);
    assert_eq!(log.snapshots(), [1]);
    log.log.delete_before(3, log.now()).unwrap();
    assert_eq!(bases(&log), [3]);
    assert_eq!(log.log.reader().log_start_offset(), 3);
    assert_eq!(log.snapshots(), [3]);
    let files = log.disk.list("t-0").unwrap();
    let of_segments = files.iter().filter(|e| e.name.ends_with(".log"));
    assert_eq!(of_segments.count(), 1);
    let mut log = log.crash();
    assert_eq!(log.send(&p7(1, 2)), (1, true));
}
