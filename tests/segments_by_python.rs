//! Sealed segments are plain Kafka v2 batches: an independent reader parses them.
//!
//! Needs `python3` with `kafka-python` (or another interpreter, named by `ONCELOG_PYTHON`); without
//! it the test says that it was skipped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking, and counts little; helpers included"
)]

use std::path::Path;
use std::process::Command;

use oncelog::{Compression, Engine, Record, TopicConfig};

fn python() -> Option<String> {
    let python = std::env::var("ONCELOG_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let check = "import kafka.record; kafka.record.MemoryRecords(b'')";
    let output = Command::new(&python).args(["-c", check]).output();
    match output {
        Ok(output) if output.status.success() => Some(python),
        _ => {
            println!("skipped: no {python} with kafka-python here");
            None
        }
    }
}

// The codecs that kafka-python can read with nothing else installed.
fn fill(directory: &Path) -> (usize, usize) {
    let engine = Engine::open(directory).unwrap();
    let mut config = TopicConfig::default();
    config.set("segment.bytes", "8192").unwrap();
    engine.create_topic("t", 2, config).unwrap();
    let mut records = 0;
    let codecs = [Compression::None, Compression::Gzip, Compression::None];
    for codec in codecs {
        let session = engine.session().unwrap();
        for partition in 0..2 {
            let appender = session.appender("t", partition).unwrap();
            let mut appender = appender.compression(codec);
            for n in 0..60 {
                let value = format!("{n} {}", "x".repeat(n * 3));
                let record = Record::new().key("k").value(&value).header("h", Some(b"1"));
                let batch = vec![record; 1 + n % 5];
                appender.blocking_append(&batch).unwrap();
                records += batch.len();
            }
        }
    }
    let topic = engine.topic("t").unwrap().describe();
    let segments = topic.partitions.iter().map(|p| p.segments).sum();
    engine.close().unwrap();
    (segments, records)
}

#[test]
fn an_independent_reader_parses_every_segment() {
    let Some(python) = python() else { return };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (segments, records) = fill(directory.path());
    assert!(segments > 6, "{segments}");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/read_segments.py");
    let run = || {
        let output = Command::new(&python)
            .arg(&script)
            .arg(directory.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (
            output.status.success(),
            text + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (ok, text) = run();
    println!("{text}");
    assert!(ok, "{text}");
    let expected = format!("logs 2 segments {segments} batches 360 records {records} producers 6");
    assert_eq!(text.trim(), expected);
    // It does look: one bit in a record's value is found.
    let name = "t-0/00000000000000000000.log";
    let file = directory.path().join(name);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[70] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (ok, text) = run();
    assert!(!ok && text.contains("wrong CRC"), "{text}");
}
