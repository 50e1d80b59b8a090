//! Snapshots of producers, ours and Kafka's.

use std::sync::Arc;

use partition_log::{ProducerConfig, ProducerTable, snapshot as snapshots};
use segment_storage::{MemoryDisk, Place};

use crate::input::{Input, framed};

const MAGIC: [u8; 4] = *b"OLPS";
const OFFSET: u64 = 1_000;
const LOG_ID: u128 = 7;

/// The file as it is, or a frame around the rest; what is read is written and read again.
pub fn snapshot(data: &[u8]) {
    let mut input = Input(data);
    let is_ours = input.u8().is_multiple_of(2);
    let mut bytes = framed(&mut input, MAGIC);
    if is_ours && bytes.len() >= 30 && bytes[..4] == MAGIC {
        // Any log would refuse another one's.
        let body = [&LOG_ID.to_be_bytes()[..], &bytes[26..bytes.len() - 4]].concat();
        bytes = crate::input::frame(MAGIC, 1, &body);
    }
    let disk = Arc::new(MemoryDisk::new());
    let place = Place {
        disk: disk.clone(),
        directory: "log-0".into(),
        log_id: LOG_ID,
    };
    segment_storage::Disk::create_directory(&*disk, "log-0").unwrap();
    let name = format!("log-0/{OFFSET:020}.snapshot");
    disk.write_file(&name, &bytes).unwrap();
    let config = ProducerConfig::default();
    let read = |offset| snapshots::read(&place, offset, config, |_| Some(1));
    let Ok(table) = read(OFFSET) else { return };
    let known = views(&table);
    snapshots::write(&place, OFFSET + 1, &table).unwrap();
    let again = read(OFFSET + 1).expect("what was written is read");
    assert_eq!(views(&again), known);
    assert_eq!(again.forgotten_below(), table.forgotten_below());
    for view in &known {
        let window = &view.window;
        assert!(
            window
                .windows(2)
                .all(|w| w[0].base_offset < w[1].base_offset)
        );
        assert!(window.iter().all(|entry| entry.base_offset < OFFSET));
    }
}

fn views(table: &ProducerTable) -> Vec<partition_log::ProducerView> {
    let mut views: Vec<_> = table.iter().collect();
    views.sort_unstable_by_key(|view| view.producer_id);
    views
}
