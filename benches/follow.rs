//! How long after an append does a reader that follows have the record in its hands?
//!
//! One thread appends, one follows at the log's end, one record at a time at `memory`. Counted from
//! the call of the append and from its return; a record that was read before the append returned
//! counts as 0 there. `waiting`: the reader sleeps when the append comes, as it mostly does in a log
//! that is written now and then. `busy`: appends come one after the other, so the reader is mostly
//! awake.
//!
//! Ceiling: the append, 0.2 us, and waking a thread that sleeps: 5 to 30 us on two Zen 4 cores, as a
//! core that idles in a virtual machine has to be woken by its host.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that fails has nothing to report, and this one prints its own table"
)]

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use oncelog::{Ack, Engine, ReaderBuilder, Record, TopicConfig};
use oncelog_benches::{TOPIC, block_on, scratch, sized};

/// Offset after the last record that the reader has, and when it got it, in ns since the start.
#[derive(Default)]
struct Seen {
    next: AtomicU64,
    at_ns: AtomicU64,
}

/// How records are read: the blocking iterator, the stream on the smallest of executors, and the
/// stream in a task of a tokio worker.
#[derive(Debug, Clone, Copy)]
enum Way {
    Iterator,
    Stream,
    Tokio,
}

fn main() {
    println!("reader    state     partitions   from the call, us     from the return, us");
    println!("                                     p50       p99         p50       p99");
    for (state, pause_ms) in [("waiting", 1), ("busy", 0)] {
        for way in [Way::Iterator, Way::Stream, Way::Tokio] {
            for partitions in [1, 100] {
                let pause = Duration::from_millis(pause_ms);
                let (called, returned) = measure(way, partitions, pause);
                let name = format!("{way:?}").to_lowercase();
                print!("{name:<10}{state:<10}{partitions:>10}");
                let (p50, p99) = percentiles(called);
                print!("{p50:>13.1}{p99:>10.1}");
                let (p50, p99) = percentiles(returned);
                println!("{p50:>12.1}{p99:>10.1}");
            }
        }
    }
}

/// Nanoseconds from each append's call, and from its return, until the reader had its record.
fn measure(way: Way, partitions: u32, pause: Duration) -> (Vec<u64>, Vec<u64>) {
    let count = sized(3_000, 10);
    let directory = scratch().unwrap();
    let engine = Engine::open(directory.path().join("data")).unwrap();
    let config = TopicConfig::default().with_ack(Ack::Memory);
    engine.create_topic(TOPIC, partitions, config).unwrap();
    let session = engine.session().unwrap();
    let mut appender = session.appender(TOPIC, partitions / 2).unwrap();
    let (seen, start) = (Arc::new(Seen::default()), Instant::now());
    let reader = engine.reader(TOPIC).follow();
    let reading = thread::spawn({
        let seen = seen.clone();
        let each = move |offset| {
            seen.at_ns.store(ns(start), Ordering::Relaxed);
            seen.next.store(offset + 1, Ordering::Release);
        };
        move || read(way, reader, count + 1, each)
    });
    let record = [Record::new().value(&[b'x'; 100])];
    // The first finds no segment ready.
    appender.blocking_append(&record).unwrap();
    let (mut called, mut returned) = (Vec::new(), Vec::new());
    for offset in 1..=count {
        while seen.next.load(Ordering::Acquire) < offset {
            spin_loop();
        }
        thread::sleep(pause);
        let before = ns(start);
        appender.blocking_append(&record).unwrap();
        let after = ns(start);
        while seen.next.load(Ordering::Acquire) <= offset {
            spin_loop();
        }
        let at = seen.at_ns.load(Ordering::Relaxed);
        called.push(at.saturating_sub(before));
        returned.push(at.saturating_sub(after));
    }
    reading.join().unwrap();
    (called, returned)
}

fn read(way: Way, reader: ReaderBuilder, count: u64, each: impl Fn(u64) + Send + Sync + 'static) {
    match way {
        Way::Iterator => {
            let mut reader = reader.open().unwrap();
            for record in reader.blocking_iter().take(usize::try_from(count).unwrap()) {
                each(record.unwrap().offset());
            }
        }
        Way::Stream => block_on(stream(reader, count, each)),
        Way::Tokio => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            let runtime = builder.worker_threads(1).build().unwrap();
            let task = runtime.spawn(stream(reader, count, each));
            runtime.block_on(task).unwrap();
        }
    }
}

async fn stream(reader: ReaderBuilder, count: u64, each: impl Fn(u64)) {
    let mut records = reader.stream().unwrap();
    for _ in 0..count {
        each(records.next().await.unwrap().unwrap().offset());
    }
}

fn ns(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap()
}

/// The median and the 99th percentile, in microseconds.
fn percentiles(mut ns: Vec<u64>) -> (f64, f64) {
    ns.sort_unstable();
    let at = |part: usize| ns[(ns.len() - 1) * part / 100];
    let us = |ns| Duration::from_nanos(ns).as_secs_f64() * 1e6;
    (us(at(50)), us(at(99)))
}
