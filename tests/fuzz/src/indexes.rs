//! An index in place of a good one: no answer changes (I25).

use std::sync::{Arc, LazyLock};

use oncelog::testing::SimulatedDisk;
use segment_storage::{Cursor, Disk, LogFollower, Marks, Place};

use crate::canonical::CLOSED;
use crate::input::{Input, framed};

const LOG: &str = "synced-0";
const MAGIC: [u8; 4] = *b"OLIX";

struct Known {
    log_id: u128,
    segment: String,
    bytes: u64,
    /// First offset of the batches at each offset, and of those at each of some times.
    answers: Vec<Option<Vec<u8>>>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let disk = CLOSED.disk();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let log_id = Marks::open(&shared, LOG).unwrap().log_id();
    let mut segments = CLOSED.files.iter();
    let (name, bytes) = segments
        .find(|(name, _)| name.starts_with(LOG) && name.ends_with(".log"))
        .unwrap();
    Known {
        log_id,
        segment: name.clone(),
        bytes: bytes.len() as u64,
        answers: ask(&disk, log_id),
    }
});

// Everything that an index may have a part in.
fn ask(disk: &SimulatedDisk, log_id: u128) -> Vec<Option<Vec<u8>>> {
    let place = Place {
        disk: Arc::new(disk.clone()),
        directory: LOG.into(),
        log_id,
    };
    let follower = LogFollower::open(place).unwrap();
    let view = follower.view();
    let end = view.published();
    let mut answers = Vec::new();
    for offset in 0..end {
        let run = view.read(&mut Cursor::at(offset), end, 0).unwrap();
        answers.push(run.map(|run| run.bytes.to_vec()));
    }
    for time in 0..20 {
        let found = view.batch_for_timestamp(1_700_000_000_000 + time, end);
        answers.push(found.unwrap().map(|bytes| bytes.to_vec()));
    }
    answers
}

/// The body of an index file, or the whole file; the fields that say whose it is may be right.
pub fn index(data: &[u8]) {
    let known = &*KNOWN;
    let mut input = Input(data);
    let is_ours = !input.u8().is_multiple_of(4);
    let bytes = if is_ours {
        let mut body = known.log_id.to_be_bytes().to_vec();
        body.extend(0_u64.to_be_bytes());
        body.extend(known.bytes.to_be_bytes());
        let timestamp = if input.u8().is_multiple_of(2) {
            1_700_000_000_000_i64.to_be_bytes()
        } else {
            input.array()
        };
        body.extend(timestamp);
        let mut entries = Vec::new();
        let mut count = 0_u64;
        while !input.is_empty() && count < 64 {
            let relative = u32::try_from(input.number() & 0xffff_ffff).unwrap();
            let position = u32::try_from(input.number() & 0xffff_ffff).unwrap();
            entries.extend(relative.to_be_bytes());
            entries.extend(position.to_be_bytes());
            let base = 1_700_000_000_000_i64;
            let time = base.wrapping_add_unsigned(input.number()).wrapping_sub(10);
            entries.extend(time.to_be_bytes());
            count += 1;
        }
        body.extend(count.to_be_bytes());
        body.extend(entries);
        crate::input::frame(MAGIC, 1, &body)
    } else {
        framed(&mut input, MAGIC)
    };
    let disk = CLOSED.disk();
    let name = known.segment.replace(".log", ".index");
    disk.write_file(&name, &bytes).unwrap();
    assert!(ask(&disk, known.log_id) == known.answers, "I25");
}
