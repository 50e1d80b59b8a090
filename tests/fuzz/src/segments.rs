//! Any image of a segment, under any stable mark.

use std::sync::Arc;

use partition_log::{Now, OpenContext, PartitionConfig, PartitionLog};
use record_batch::{Batch, BatchBuilder, Compression, ProducerIdentity, Stamp, stamped_header};
use segment_storage::{Cursor, Disk, LogStart, Marks, MemoryDisk, Place, StableMark};

use crate::batches::mend;
use crate::input::Input;

const LOG_ID: u128 = 9;
const PIECES_MAX: usize = 40;

/// Where batches end, and which offset follows.
type Ends = Vec<(u64, u64)>;

/// Pieces of a segment: good batches, good ones with a wound and a right CRC, raw bytes.
pub fn segment_recovery(data: &[u8]) {
    let mut input = Input(data);
    let mark_at = input.below(256);
    let (is_clean, later) = (input.u8() % 8 == 0, input.u8());
    let mut image = Vec::new();
    let mut good: Ends = vec![(0, 0)];
    let mut is_good = true;
    for _ in 0..PIECES_MAX {
        if input.is_empty() {
            break;
        }
        let (position, offset) = *good.last().unwrap();
        let mut batch = next_batch(&mut input, offset);
        match input.u8() % 6 {
            0 => {
                let at = usize::from(input.u8()) % batch.len();
                batch[at] ^= input.u8();
                mend(&mut batch);
                is_good &= false;
            }
            1 => {
                batch = input.piece().to_vec();
                is_good &= batch.is_empty();
            }
            2 => {
                batch.truncate(usize::from(input.u8()));
                is_good = false;
            }
            _ => {}
        }
        image.extend_from_slice(&batch);
        if is_good && !batch.is_empty() {
            let next = Batch::parse(&batch).unwrap().header().next_offset();
            let position = position + batch.len() as u64;
            good.push((position, u64::try_from(next).unwrap()));
        }
    }
    let durable = good.len();
    let (position, next_offset) = good[mark_at % durable];
    if later.is_multiple_of(2) {
        image.resize(image.len() + usize::from(later) * 16, 0);
    }
    let disk = Arc::new(MemoryDisk::new());
    disk.create_directory("log-0").unwrap();
    let shared: Arc<dyn Disk> = disk.clone();
    let mark = StableMark {
        log_id: LOG_ID,
        segment_base: 0,
        position,
        next_offset,
        previous_end: 0,
        jump_to: 0,
        generation: 3,
        clean: is_clean,
        last_append_ms: 1,
    };
    let start = LogStart {
        log_id: LOG_ID,
        offset: 0,
        history_from: 0,
        strict_below: 0,
        forgotten_below: -1,
    };
    Marks::create_with(&shared, "log-0", &mark, 0, &start).unwrap();
    let name = "log-0/00000000000000000000.log";
    disk.write_file(name, &image).unwrap();
    disk.sync_names("log-0").unwrap();
    disk.sync_names("").unwrap();
    let first = open(&shared, 4);
    // What is below the mark is there, and what follows is a row of the batches that were there.
    assert!(first.starts_with(&image[..first.len().min(image.len())]));
    assert!(
        first.len() as u64 >= position,
        "I24: the log lost {position}"
    );
    let second = open(&shared, 5);
    assert!(first == second, "I23");
    let third = open(&(Arc::new(disk.after_power_cut()) as Arc<dyn Disk>), 6);
    assert!(first == third, "I23 after a power cut");
}

fn next_batch(input: &mut Input<'_>, offset: u64) -> Vec<u8> {
    let shape = input.u8();
    let codec = Compression::from_id(shape % 5).unwrap();
    let mut builder = BatchBuilder::new().compression(codec);
    for _ in 0..=shape / 64 {
        let value = input.bytes(usize::from(shape % 7));
        builder.push(5, None, Some(value), &[]).unwrap();
    }
    let identity = ProducerIdentity {
        producer_id: i64::from(input.u8() % 4),
        producer_epoch: i16::from(shape % 2),
        base_sequence: i32::from(input.u8()),
    };
    let batch = builder.build(Some(identity)).unwrap().to_vec();
    let batch = Batch::parse(&batch).unwrap();
    let stamp = Stamp {
        base_offset: i64::try_from(offset).unwrap(),
        leader_epoch: 1 + i32::from(offset > 20),
        log_append_time: None,
    };
    [&stamped_header(&batch, stamp)[..], batch.payload()].concat()
}

// Opens the log and returns every batch that it has, as it is stored.
fn open(disk: &Arc<dyn Disk>, generation: i32) -> Vec<u8> {
    let place = Place {
        disk: disk.clone(),
        directory: "log-0".into(),
        log_id: LOG_ID,
    };
    let context = OpenContext {
        generation,
        now: Now {
            elapsed_ms: 10,
            wall_ms: 10,
        },
        producer_id_bound: 10,
    };
    let config = PartitionConfig {
        segment_bytes: 4_096,
        ..PartitionConfig::default()
    };
    let (log, _) = PartitionLog::open(place, config, context).unwrap();
    let reader = log.reader();
    let (view, end) = (reader.view().clone(), reader.high_watermark());
    let mut bytes = Vec::new();
    let mut cursor = Cursor::at(view.start());
    while let Ok(Some(run)) = view.read(&mut cursor, end, 1_000) {
        bytes.extend_from_slice(&run.bytes);
    }
    bytes
}
