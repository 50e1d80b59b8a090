//! What a commit costs, counted and not timed: syncs, and bytes that go to the disk.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking, and counts little; helpers included"
)]

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use harness::hooked_disk::{Hook, HookedDisk, Op};
use oncelog::storage::OsDisk;
use oncelog::{Ack, Batch, BatchBuilder, Engine, Env, SystemClock, TopicConfig};

const COMMITS: u64 = 1_000;
const BATCH_BYTES: usize = 170;
/// At most this much per commit goes to the disk.
const WRITTEN_MAX: u64 = 8 << 10;

/// One test at a time: the system counts the bytes of the whole process.
static ALONE: Mutex<()> = Mutex::new(());

#[derive(Default)]
struct Counts {
    syncs: AtomicU64,
    name_syncs: AtomicU64,
}

impl Hook for Counts {
    fn before(&self, op: Op, _: &str) -> io::Result<()> {
        match op {
            Op::Sync => self.syncs.fetch_add(1, Ordering::SeqCst),
            Op::SyncNames => self.name_syncs.fetch_add(1, Ordering::SeqCst),
            _ => 0,
        };
        Ok(())
    }
}

fn open(directory: &Path, counts: &Arc<Counts>) -> Engine {
    let disk = Arc::new(OsDisk::open(directory.to_owned()).unwrap());
    let env = Env {
        disk: Arc::new(HookedDisk::new(disk, counts.clone())),
        clock: Arc::new(SystemClock),
        seed: 1,
    };
    Engine::with_env(env).open().unwrap()
}

// One record, so that the whole batch has 170 bytes.
fn batch() -> Vec<u8> {
    for length in 0.. {
        let value = vec![b'v'; length];
        let mut batch = BatchBuilder::new();
        batch.push(0, None, Some(&value), &[]).unwrap();
        let bytes = batch.build(None).unwrap().to_vec();
        if bytes.len() == BATCH_BYTES {
            assert!(Batch::parse(&bytes).is_ok());
            return bytes;
        }
    }
    unreachable!("some length fits")
}

/// Bytes that this process caused to be written to a device, as far as the system counts them.
fn written_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    let line = text.lines().find(|l| l.starts_with("write_bytes: "))?;
    line.split(' ').nth(1)?.parse().ok()
}

#[test]
fn one_caller_at_synced_has_one_sync_and_a_few_kilobytes_for_each_commit() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let counts = Arc::new(Counts::default());
    let engine = open(directory.path(), &counts);
    let topic = engine
        .create_topic("t", 1, TopicConfig::default().with_ack(Ack::Synced))
        .unwrap();
    let partition = topic.partition(0).unwrap();
    let batch = batch();
    // The first append has the segment made.
    partition.blocking_append(&batch).unwrap();

    let (mut one_sync, mut bytes) = (0, Vec::new());
    let read = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    for _ in 0..COMMITS {
        let before = (
            read(&counts.syncs),
            read(&counts.name_syncs),
            written_bytes(),
        );
        partition.blocking_append(&batch).unwrap();
        let after = (
            read(&counts.syncs),
            read(&counts.name_syncs),
            written_bytes(),
        );
        one_sync += u64::from((after.0 - before.0, after.1 - before.1) == (1, 0));
        bytes.extend(before.2.zip(after.2).map(|(before, after)| after - before));
    }
    let (syncs, name_syncs) = (read(&counts.syncs), read(&counts.name_syncs));
    println!("{COMMITS} commits of {BATCH_BYTES} bytes by one caller:");
    println!("  {one_sync} with exactly one sync; {syncs} syncs and {name_syncs} of names in all");
    // The feeder makes the second segment ready when the first is half full, 256 KiB / 2 in; the
    // timer may sync the mark and the time. All of that together is a handful.
    assert!(one_sync >= COMMITS - 10, "{one_sync} of {COMMITS}");
    if bytes.is_empty() {
        println!("  bytes skipped: the system does not count them");
        return;
    }
    bytes.sort_unstable();
    let all: u64 = bytes.iter().sum();
    let (median, mean) = (bytes[bytes.len() / 2], all / COMMITS);
    println!("  {median} bytes written in the median, {mean} in the mean");
    if all == 0 {
        println!(
            "  skipped: {} is not on a device",
            directory.path().display()
        );
        return;
    }
    assert!(median <= WRITTEN_MAX, "{median}");
    // The second segment's zeros are in the mean: 512 KiB over a thousand commits.
    assert!(mean <= WRITTEN_MAX, "{mean}");
}

#[test]
fn many_callers_at_synced_share_syncs() {
    const CALLERS: u64 = 256;
    const EACH: u64 = 40;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let counts = Arc::new(Counts::default());
    let engine = open(directory.path(), &counts);
    let topic = engine.create_topic("t", 1, TopicConfig::default()).unwrap();
    let partition = topic.partition(0).unwrap();
    let batch = batch();
    partition.blocking_append(&batch).unwrap();
    let before = counts.syncs.load(Ordering::SeqCst);
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    partition.blocking_append(&batch).unwrap();
                }
            });
        }
    });
    let (syncs, commits) = (counts.syncs.load(Ordering::SeqCst) - before, CALLERS * EACH);
    println!("{commits} commits of {CALLERS} callers: {syncs} syncs");
    assert!(syncs * 10 <= commits, "{syncs} syncs for {commits} commits");
}
