//! Many logs that nobody writes to cost little.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use log_engine::{Ack, Engine};

use crate::world::{config, plain, values};

fn allocated(directory: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        bytes += meta.blocks() * 512;
        if meta.is_dir() {
            bytes += allocated(&entry.path());
        }
    }
    bytes
}

#[test]
fn idle_logs_reserve_little_and_open_fast() {
    const PARTITIONS: u32 = 1_000;
    let root = tempfile::tempdir().unwrap();
    // Thousands of syncs, on a disk that may have others to serve.
    let timeout = Duration::from_secs(300);
    let open = || Engine::builder(root.path()).close_timeout(timeout).open();
    let engine = open().unwrap();
    let begun = Instant::now();
    let topic = engine
        .create_topic("t", PARTITIONS, config(Ack::Memory))
        .unwrap();
    println!("{PARTITIONS} logs are made in {:?}", begun.elapsed());
    let per_log = allocated(root.path()) / u64::from(PARTITIONS);
    println!("{per_log} bytes allocated for each log that was never written");
    assert!(per_log <= 16 << 10, "{per_log}");
    // A hundred of them are written a little.
    for number in 0..100 {
        let partition = topic.partition(number * 10).unwrap();
        partition.blocking_append(&plain("x")).unwrap();
    }
    let written = (allocated(root.path()) - per_log * u64::from(PARTITIONS)) / 100;
    println!("{written} bytes more for each log that was");
    assert!(written <= 600 << 10, "{written}");
    let begun = Instant::now();
    engine.close().unwrap();
    println!("{PARTITIONS} logs close in {:?}", begun.elapsed());
    drop((topic, engine));
    let closed = allocated(root.path()) / u64::from(PARTITIONS);
    assert!(
        closed <= 20 << 10,
        "{closed} bytes for each log after a clean close"
    );
    let begun = Instant::now();
    let engine = open().unwrap();
    println!("{PARTITIONS} logs open in {:?}", begun.elapsed());
    assert_eq!(engine.topic("t").unwrap().partitions(), PARTITIONS);
    assert_eq!(values(&engine, "t"), ["x"]);
    assert_eq!(engine.opened().summary(), "");
    let begun = Instant::now();
    engine.close().unwrap();
    println!(
        "{PARTITIONS} logs close in {:?}, untouched",
        begun.elapsed()
    );
}
