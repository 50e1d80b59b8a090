//! What does reading cost, from the beginning to the end of a log that is in the page cache?
//!
//! `batches` hands out whole batches over the map, each checked by its CRC; `records` also takes
//! them apart. Records of 100 B and 1 KiB, 100 in a batch.
//!
//! Ceilings, on two Zen 4 cores: 22 to 25 GB/s for reading every byte of a map once (the CRC alone
//! is above 50 GB/s); cold, the disk: 1.6 to 2.2 GB/s. Each slice of the map costs an allocation of
//! about 19 ns, each record that is taken out some reference counts.

#![allow(
    clippy::unwrap_used,
    reason = "a bench that fails has nothing to report"
)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use oncelog::Engine;
use oncelog_benches::{Log, TOPIC, criterion, scratch, sized};

fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("read");
    for size in [100, 1_024] {
        let directory = scratch().unwrap();
        let bytes = sized(64 << 20, 1 << 20);
        let log = Log::filled(&directory.path().join("data"), bytes, size).unwrap();
        let (engine, records) = (&log.engine, log.records());
        group.throughput(Throughput::ElementsAndBytes {
            elements: records,
            bytes: records * u64::try_from(size).unwrap(),
        });
        let name = format!("{size}B");
        group.bench_function(BenchmarkId::new("batches", &name), |b| {
            b.iter(|| assert_eq!(batches(engine), records));
        });
        group.bench_function(BenchmarkId::new("records", &name), |b| {
            b.iter(|| assert_eq!(self::records(engine), records));
        });
    }
    group.finish();
}

/// The offset after the last record.
fn batches(engine: &Engine) -> u64 {
    let mut reader = engine.reader(TOPIC).partition(0).open().unwrap();
    let mut next = 0;
    while let Some(batches) = reader.blocking_next_batches() {
        next = batches.unwrap().next_offset;
    }
    next
}

/// How many records there are.
fn records(engine: &Engine) -> u64 {
    let mut reader = engine.reader(TOPIC).partition(0).open().unwrap();
    let mut count = 0;
    for record in reader.blocking_iter() {
        assert!(record.unwrap().value().is_some());
        count += 1;
    }
    count
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = read
}
criterion_main!(benches);
