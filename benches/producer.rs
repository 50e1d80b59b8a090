//! What does a record cost through the batching producer?
//!
//! One task, one partition, records of 100 B at `memory`, batches of 100. `flush` drops the tickets
//! and lets one flush tell; `late` keeps them and awaits each once 10,000 more were sent.
//!
//! Ceiling: what `append` takes for batches of 100 such records, 12 to 20 ns for each. Above it a
//! record has an uncontended lock, a look-up of its topic, four readings of the clock and a ticket:
//! 250 ns on two Zen 4 cores. Without linger nothing is in the way of a record, so each leaves at
//! once, as a batch of its own.

#![allow(
    clippy::unwrap_used,
    reason = "a bench that fails has nothing to report"
)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use oncelog::{Ack, Partition, Producer, Record, Ticket};
use oncelog_benches::{Log, TOPIC, block_on, criterion, scratch};

/// Bytes in each record.
const SIZE: u64 = 100;
/// Bytes of values after which old segments are deleted, so that the disk does not fill.
const KEEP_BYTES: u64 = 256 << 20;
/// Tickets that are kept before the oldest is awaited.
const LATE: usize = 10_000;

fn producer(c: &mut Criterion) {
    let mut group = c.benchmark_group("producer");
    group.throughput(Throughput::ElementsAndBytes {
        elements: 1,
        bytes: SIZE,
    });
    for linger_ms in [1, 0] {
        for tickets in [0, LATE] {
            let answers = if tickets == 0 { "flush" } else { "late" };
            let mut target = None;
            let id = BenchmarkId::new(answers, format!("linger {linger_ms} ms"));
            group.bench_function(id, |b| {
                b.iter_custom(|records| {
                    let linger = Duration::from_millis(linger_ms);
                    let target = target.get_or_insert_with(|| Target::new(linger));
                    target.send(records, tickets)
                });
            });
        }
    }
    group.finish();
}

/// A log that is sent to for as long as one bench lasts.
struct Target {
    producer: Producer,
    partition: Partition,
    bytes: u64,
    _log: Log,
    _directory: tempfile::TempDir,
}

impl Target {
    fn new(linger: Duration) -> Target {
        let directory = scratch().unwrap();
        let log = Log::create(&directory.path().join("data"), Ack::Memory).unwrap();
        let builder = log.engine.producer().linger(linger).batch_records(100);
        Target {
            producer: builder.open().unwrap(),
            partition: log.appender.partition().clone(),
            bytes: 0,
            _log: log,
            _directory: directory,
        }
    }

    /// Sends records, and returns the time until all were answered, without the deletions in
    /// between.
    fn send(&mut self, records: u64, tickets: usize) -> Duration {
        let mut elapsed = Duration::ZERO;
        let mut left = records;
        while left > 0 {
            let room = KEEP_BYTES.saturating_sub(self.bytes) / SIZE + 1;
            let now = left.min(room);
            let before = self.partition.high_watermark();
            let begin = Instant::now();
            block_on(send(&self.producer, now, tickets));
            elapsed += begin.elapsed();
            assert_eq!(self.partition.high_watermark() - before, now);
            left -= now;
            self.bytes += now * SIZE;
            if self.bytes >= KEEP_BYTES {
                let end = self.partition.high_watermark();
                self.partition.delete_before(end).unwrap();
                self.bytes = 0;
            }
        }
        elapsed
    }
}

async fn send(producer: &Producer, records: u64, tickets: usize) {
    let value = [b'x'; 100];
    let mut waiting = VecDeque::<Ticket>::with_capacity(tickets + 1);
    for _ in 0..records {
        let ticket = producer
            .send(Record::to(TOPIC).value(&value))
            .await
            .unwrap();
        if tickets > 0 {
            waiting.push_back(ticket);
        }
        if waiting.len() > tickets {
            waiting.pop_front().unwrap().await.unwrap();
        }
    }
    producer.flush().await.unwrap();
    for ticket in waiting {
        ticket.await.unwrap();
    }
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = producer
}
criterion_main!(benches);
