//! What does opening a log cost?
//!
//! `clean` opens after a clean close, `killed` opens what a process leaves behind that ends without
//! closing its engine; `read` reads all records of the same log, which an open that looked at
//! everything could not beat.
//!
//! Ceilings: a clean open is a dozen small files and the syncs that make the new generation
//! durable, 106 to 236 us each when nobody else writes. An unclean one checks what lies above the
//! last seal and syncs the file that it cuts: 54 GB/s for the CRC, 22 GB/s for the map.

#![allow(
    clippy::unwrap_used,
    reason = "a bench that fails has nothing to report"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, exit};
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput};
use oncelog::{Create, Engine};
use oncelog_benches::{Log, TOPIC, criterion, scratch, sized};

/// Bytes in each record.
const SIZE: usize = 100;
/// Where this names a directory, this program fills a log there and ends without closing it.
const KILLED: &str = "ONCELOG_BENCH_KILLED";

fn main() {
    if let Some(directory) = std::env::var_os(KILLED) {
        let _log = filled(Path::new(&directory));
        exit(0);
    }
    recovery(&mut criterion());
    criterion().final_summary();
}

fn filled(directory: &Path) -> Log {
    Log::filled(directory, sized(128 << 20, 1 << 20), SIZE).unwrap()
}

fn recovery(c: &mut Criterion) {
    let directory = scratch().unwrap();
    let data = directory.path().join("data");
    let killed = directory.path().join("killed");
    let log = filled(&data);
    let records = log.records();
    log.close().unwrap();
    let mut writer = Command::new(std::env::current_exe().unwrap());
    writer.args(std::env::args().skip(1)).env(KILLED, &killed);
    assert!(writer.status().unwrap().success());

    let mut group = c.benchmark_group("recovery");
    group.throughput(Throughput::Bytes(records * u64::try_from(SIZE).unwrap()));
    group.bench_function("clean", |b| {
        b.iter_custom(|iterations| {
            let mut elapsed = Duration::ZERO;
            for _ in 0..iterations {
                let begin = Instant::now();
                let engine = open(&data);
                elapsed += begin.elapsed();
                assert_eq!(end(&engine), records);
                engine.close().unwrap();
            }
            elapsed
        });
    });
    group.bench_function("killed", |b| {
        let work = directory.path().join("work");
        b.iter_custom(|iterations| {
            let mut elapsed = Duration::ZERO;
            for _ in 0..iterations {
                copy(&killed, &work);
                let begin = Instant::now();
                let engine = open(&work);
                elapsed += begin.elapsed();
                // The log goes on at its offset ceiling.
                assert!(end(&engine) >= records);
                engine.close().unwrap();
                drop(engine);
                fs::remove_dir_all(&work).unwrap();
            }
            elapsed
        });
    });
    group.bench_function("read", |b| {
        let engine = open(&data);
        b.iter_batched(
            || engine.reader(TOPIC).partition(0).open().unwrap(),
            |mut reader| {
                let read = reader.blocking_iter().map(Result::unwrap).count();
                assert_eq!(u64::try_from(read).unwrap(), records);
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn open(directory: &Path) -> Engine {
    Engine::builder(directory)
        .create(Create::Never)
        .open()
        .unwrap()
}

fn end(engine: &Engine) -> u64 {
    engine
        .topic(TOPIC)
        .unwrap()
        .partition(0)
        .unwrap()
        .high_watermark()
}

/// Copies a directory with everything in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}
