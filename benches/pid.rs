//! What does a fresh producer id cost?
//!
//! `allocate` is the allocator alone: a counter behind a lock, with the durable reservation of each
//! 1,000 ids on a disk in memory. `session` is what users call, on the real disk: the engine's
//! second thread reserves ahead, and whoever outruns it waits for the disk.
//!
//! Ceiling: an uncontended lock, 5 ns; and a synced 512-byte slot for each 1,000 ids, 106 to 236 us
//! on ext4 on virtio, so 0.1 to 0.2 us for each session.

#![allow(
    clippy::unwrap_used,
    reason = "a bench that fails has nothing to report"
)]

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use oncelog::Engine;
use oncelog_benches::{criterion, scratch};
use pid_allocator::PidAllocator;
use segment_storage::MemoryDisk;

fn pid(c: &mut Criterion) {
    let mut group = c.benchmark_group("pid");
    group.throughput(Throughput::Elements(1));
    group.bench_function("allocate", |b| {
        let ids = PidAllocator::create(Arc::new(MemoryDisk::new())).unwrap();
        b.iter(|| {
            if ids.needs_block() {
                ids.reserve(0).unwrap();
            }
            ids.allocate().unwrap()
        });
    });
    group.bench_function("session", |b| {
        let directory = scratch().unwrap();
        let engine = Engine::open(directory.path().join("data")).unwrap();
        b.iter(|| engine.session().unwrap().producer_id());
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = pid
}
criterion_main!(benches);
