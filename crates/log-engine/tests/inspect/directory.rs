//! Data directories for the tests, and ways to bring them out of order.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log_engine::inspect::{Problem, VerifyReport, verify};
use log_engine::{BatchBuilder, Engine, Partition, ProducerIdentity, Record, TopicConfig};
use segment_storage::{Disk, Marks, OsDisk, StableMark};
use tempfile::TempDir;

/// Batches in each partition of [`closed`].
pub(crate) const BATCHES: u64 = 60;
/// Records in each batch of [`closed`].
pub(crate) const RECORDS: u64 = 3;

/// A batch of `count` records of about 100 bytes each.
pub(crate) fn batch(producer_id: i64, epoch: i16, sequence: i32, count: u64) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for n in 0..count {
        let value = [u8::try_from(n % 251).unwrap(); 100];
        let timestamp = 1_700_000_000_000 + i64::from(sequence) + i64::try_from(n).unwrap();
        builder
            .push(timestamp, Some(b"key"), Some(&value), &[])
            .unwrap();
    }
    let identity = ProducerIdentity {
        producer_id,
        producer_epoch: epoch,
        base_sequence: sequence,
    };
    builder.build(Some(identity)).unwrap().to_vec()
}

/// Small segments, so that a few batches fill several.
pub(crate) fn small() -> TopicConfig {
    let mut config = TopicConfig::default();
    config.set("segment.bytes", "4096").unwrap();
    config
}

/// Fills a partition with batches of two producers of the engine's own.
pub(crate) fn fill(engine: &Engine, partition: &Partition, batches: u64) {
    let ids = [0; 2].map(|_| engine.session().unwrap().producer_id());
    for n in 0..batches {
        let id = ids[usize::try_from(n % 2).unwrap()];
        let sequence = i32::try_from(n / 2 * RECORDS).unwrap();
        partition
            .blocking_append(&batch(id, 0, sequence, RECORDS))
            .unwrap();
    }
}

/// Sends records at these positions of a source under a name.
pub(crate) fn send_named(engine: &Engine, topic: &str, positions: std::ops::Range<u64>) {
    let producer = engine.producer().name("importer").open().unwrap();
    for position in positions {
        let value = position.to_string();
        let record = Record::to(topic).value(&value).position(position);
        producer.blocking_append(record).unwrap();
    }
    producer.blocking_close().unwrap();
}

/// A cleanly closed directory: topic `orders` with two partitions, each of several sealed segments
/// and one that is not.
pub(crate) fn closed() -> TempDir {
    let directory = TempDir::new().unwrap();
    let engine = Engine::open(directory.path()).unwrap();
    let topic = engine.create_topic("orders", 2, small()).unwrap();
    for partition in 0..2 {
        fill(&engine, &topic.partition(partition).unwrap(), BATCHES);
    }
    engine.close().unwrap();
    directory
}

/// A copy of a directory as it is right now.
pub(crate) fn copy(from: &Path) -> TempDir {
    fn copy_into(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                fs::create_dir(&to).unwrap();
                copy_into(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), &to).unwrap();
            }
        }
    }
    let to = TempDir::new().unwrap();
    copy_into(from, to.path());
    to
}

/// All files under a directory, in order.
pub(crate) fn files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Files of a log's folder with that extension, in order.
pub(crate) fn with_extension(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files = files(folder);
    files.retain(|file| file.extension().is_some_and(|e| e == extension));
    files
}

/// Checks a directory; the report's counts and texts agree with each other.
pub(crate) fn check(root: &Path) -> VerifyReport {
    let report = verify(root).unwrap();
    assert_eq!(report.ok, report.problems.is_empty());
    for problem in &report.problems {
        assert!(
            problem.file.starts_with(root.to_str().unwrap()),
            "{problem:?}"
        );
        assert!(problem.invariant.starts_with(['I', 'R']), "{problem:?}");
    }
    report
}

/// The problems that name a file.
pub(crate) fn about<'a>(report: &'a VerifyReport, file: &Path) -> Vec<&'a Problem> {
    let file = file.to_str().unwrap();
    let named = report.problems.iter().filter(|p| p.file == file);
    named.collect()
}

/// Appends bytes to the last segment of a closed log and moves its stable mark behind them, as if
/// the engine had written `offsets` more.
pub(crate) fn append_below_mark(root: &Path, log: &str, bytes: &[u8], offsets: u64) {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::open(root.to_owned()).unwrap());
    let marks = Marks::open(&disk, log).unwrap();
    let mark = marks.mark().unwrap();
    let path = root
        .join(log)
        .join(segment_storage::names::segment(mark.segment_base));
    let mut whole = fs::read(&path).unwrap();
    whole.extend_from_slice(bytes);
    fs::write(&path, &whole).unwrap();
    let mark = StableMark {
        position: u64::try_from(whole.len()).unwrap(),
        next_offset: mark.next_offset + offsets,
        ..mark
    };
    marks.write_mark(&mark).unwrap();
    marks.sync().unwrap();
}

/// A log's stable mark.
pub(crate) fn mark(root: &Path, log: &str) -> StableMark {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::read_only(root.to_owned()).unwrap());
    Marks::open(&disk, log).unwrap().mark().unwrap()
}

/// A batch as it lies in a log at `offset`.
pub(crate) fn stored(batch: &[u8], offset: u64, generation: i32) -> Vec<u8> {
    let mut stored = batch.to_vec();
    stored[..8].copy_from_slice(&offset.to_be_bytes());
    stored[12..16].copy_from_slice(&generation.to_be_bytes());
    stored
}
