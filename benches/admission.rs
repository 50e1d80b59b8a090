//! What does the idempotence check cost, by the number of producers?
//!
//! The table alone, without a log around it. `fresh` admits and applies each producer's next batch,
//! `duplicate` asks again about its newest one. Producers come in an order that jumps about, so
//! with many of them each lookup meets cold memory.
//!
//! Ceiling: 7 ns for one producer (a lookup and a compare in the cache); with a million, one cache
//! and TLB miss on a line of 64 bytes, about 100 ns on two Zen 4 cores. Whole states in a general
//! hash map take 118 ns (fresh) and 104 ns (duplicate) there.

#![allow(
    clippy::unwrap_used,
    reason = "a bench that fails has nothing to report"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use oncelog_benches::{criterion, sized};
use partition_log::{Admission, ProducerConfig, ProducerTable};
use record_batch::{Batch, BatchBuilder, BatchHeader, ProducerIdentity};

/// Coprime to every number of producers here, so that its multiples reach all of them.
const STRIDE: u64 = 618_033;
/// Batches of each producer before the measurement: a full window.
const WINDOW: u64 = 5;

fn admission(c: &mut Criterion) {
    let mut group = c.benchmark_group("admission");
    group.throughput(Throughput::Elements(1));
    for producers in sized(vec![1, 1_000, 100_000, 1_000_000], vec![1, 1_000]) {
        let mut state = None;
        group.bench_function(BenchmarkId::new("fresh", producers), |b| {
            let state = state.get_or_insert_with(|| Producers::new(producers));
            b.iter(|| state.fresh());
        });
        group.bench_function(BenchmarkId::new("duplicate", producers), |b| {
            let state = state.get_or_insert_with(|| Producers::new(producers));
            let mut turn = 0;
            b.iter(|| {
                state.duplicate(turn);
                turn += 1;
            });
        });
    }
    group.finish();
}

struct Producers {
    table: ProducerTable,
    producers: u64,
    header: BatchHeader,
    /// Batches applied; each round of them is one of every producer.
    applied: u64,
}

impl Producers {
    fn new(producers: u64) -> Producers {
        let mut builder = BatchBuilder::new();
        builder.push(0, None, Some(&[b'x'; 100]), &[]).unwrap();
        let identity = ProducerIdentity {
            producer_id: 0,
            producer_epoch: 0,
            base_sequence: 0,
        };
        let header = *Batch::parse(builder.build(Some(identity)).unwrap())
            .unwrap()
            .header();
        let mut state = Producers {
            table: ProducerTable::new(ProducerConfig::default()),
            producers,
            header,
            applied: 0,
        };
        for _ in 0..WINDOW * producers {
            state.fresh();
        }
        state
    }

    /// The header of the `n`th batch that was or will be applied.
    fn header(&self, n: u64) -> BatchHeader {
        let (round, turn) = (n / self.producers, n % self.producers);
        BatchHeader {
            producer_id: i64::try_from(turn * STRIDE % self.producers).unwrap(),
            base_sequence: i32::try_from(round).unwrap(),
            ..self.header
        }
    }

    fn fresh(&mut self) {
        let header = self.header(self.applied);
        let Admission::Fresh(fresh) = self.table.admit(&header, header.crc).unwrap() else {
            panic!("batch {} is not new", self.applied);
        };
        let offset = self.applied;
        self.table.apply(fresh, &header, header.crc, offset, offset);
        self.applied += 1;
    }

    /// Asks about the newest batches, one after the other.
    fn duplicate(&self, turn: u64) {
        let header = self.header(self.applied - 1 - turn % self.producers);
        let Admission::Duplicate(original) = self.table.admit(&header, header.crc).unwrap() else {
            panic!("batch {turn} was not recognised");
        };
        black_box(original);
    }
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = admission
}
criterion_main!(benches);
