//! What does an append cost, through the public API?
//!
//! One caller, one partition, batches of 1 and 100 records of 100 B and 1 KiB, at every ack level.
//!
//! Ceilings, on two Zen 4 cores with ext4 on virtio:
//! * into pages that are there: 46 to 61 ns for one record of 100 B (CRC-32C 27, copy 8), 1.2 us
//!   for a batch of 100 of them; 8 to 10 GB/s of values for large batches;
//! * into fresh files: 2.0 to 2.6 GB/s, what the page cache takes (0.8 us for each 4 KiB page);
//! * in the long run: 1.8 to 2.2 GB/s, the disk;
//! * `synced`: a write and an `fdatasync` into a page that was written before, 106 to 236 us when
//!   nobody else writes; one append is in flight here, so it is one sync for each.

#![allow(
    clippy::unwrap_used,
    reason = "a bench that fails has nothing to report"
)]

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use oncelog::{Ack, Record};
use oncelog_benches::{Log, criterion, scratch};

/// Bytes of values after which old segments are deleted, so that the disk does not fill.
const KEEP_BYTES: u64 = 256 << 20;

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    for ack in [Ack::Memory, Ack::Interval, Ack::Synced] {
        for count in [1, 100] {
            for size in [100, 1_024] {
                let bytes = count * size;
                group.throughput(Throughput::ElementsAndBytes {
                    elements: count,
                    bytes,
                });
                let name = format!("{ack}/{count}x{size}B");
                let mut log = None;
                group.bench_function(name, |b| {
                    b.iter_custom(|iterations| {
                        let log = log.get_or_insert_with(|| Target::new(ack));
                        log.append(iterations, count, size)
                    });
                });
            }
        }
    }
    group.finish();
}

/// A log that is appended to for as long as one bench lasts.
struct Target {
    log: Log,
    bytes: u64,
    _directory: tempfile::TempDir,
}

impl Target {
    fn new(ack: Ack) -> Target {
        let directory = scratch().unwrap();
        let log = Log::create(&directory.path().join("data"), ack).unwrap();
        Target {
            log,
            bytes: 0,
            _directory: directory,
        }
    }

    /// Appends batches, and returns the time that took without the deletions in between.
    fn append(&mut self, batches: u64, count: u64, size: u64) -> Duration {
        let value = vec![b'x'; usize::try_from(size).unwrap()];
        let records = vec![Record::new().value(&value); usize::try_from(count).unwrap()];
        let mut elapsed = Duration::ZERO;
        let mut left = batches;
        while left > 0 {
            let room = KEEP_BYTES.saturating_sub(self.bytes) / (count * size) + 1;
            let now = left.min(room);
            let begin = Instant::now();
            for _ in 0..now {
                self.log.appender.blocking_append(&records).unwrap();
            }
            elapsed += begin.elapsed();
            left -= now;
            self.bytes += now * count * size;
            if self.bytes >= KEEP_BYTES {
                let partition = self.log.appender.partition();
                partition.delete_before(partition.high_watermark()).unwrap();
                self.bytes = 0;
            }
        }
        elapsed
    }
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = append
}
criterion_main!(benches);
