//! A full disk: appends are refused with numbers, reads and closing go on, and appends resume by
//! themselves.

use std::path::Path;
use std::process::Command;

use log_engine::storage::Disk;
use log_engine::{Ack, Action, AppendError, Engine, Partition, TopicError};

use crate::world::{World, config, numbered, plain, read, values};

fn small(engine: &Engine, name: &str, ack: Ack, segment_bytes: &str) -> Partition {
    let mut settings = config(ack);
    settings.set("segment.bytes", segment_bytes).unwrap();
    let topic = engine.create_topic(name, 1, settings).unwrap();
    topic.partition(0).unwrap()
}

// Appends until the disk is full; gives back how many were taken, and the error.
fn fill(partition: &Partition, id: i64, from: i32) -> (i32, AppendError) {
    for n in from.. {
        let value = format!("{n:0300}");
        if let Err(error) = partition.blocking_append(&numbered(id, n, &[&value])) {
            return (n, error);
        }
    }
    unreachable!("some append is refused")
}

fn check_no_space(error: &AppendError, log: &str) {
    let AppendError::NoSpace { needed, free, .. } = error else {
        panic!("{error}");
    };
    assert!(*needed > 0 && needed > free, "{error}");
    assert_eq!(
        (error.kafka_code(), error.action()),
        (56, Action::FreeSpace)
    );
    assert!(!error.is_outcome_unknown());
    let text = error.to_string();
    let numbers = format!("{needed} bytes needed, {free} free");
    assert!(text.contains(log) && text.contains(&numbers), "{text}");
}

#[test]
fn appends_are_refused_and_resume_when_there_is_space() {
    for ack in [Ack::Synced, Ack::Memory] {
        let world = World::new();
        let engine = world.open();
        let partition = small(&engine, "t", ack, "16384");
        let id = engine.session().unwrap().producer_id();
        partition
            .blocking_append(&numbered(id, 0, &["first"]))
            .unwrap();
        world.disk.set_free_bytes(10_000);
        let (next, error) = fill(&partition, id, 1);
        check_no_space(&error, "t-0");
        assert!(
            next > 20,
            "the segment that was reserved was used up: {next}"
        );
        // The same again, and again, leaves nothing behind (I12).
        let names = world.disk.list("t-0").unwrap();
        for _ in 0..3 {
            let (same, error) = fill(&partition, id, next);
            check_no_space(&error, "t-0");
            assert_eq!(same, next);
        }
        assert_eq!(world.disk.list("t-0").unwrap().len(), names.len());
        assert_eq!(read(&engine, "t", 0).len() as i32, next, "reads go on");
        world.disk.set_free_bytes(100_000);
        let value = format!("{next:0300}");
        let batch = numbered(id, next, &[&value]);
        let at = partition.blocking_append(&batch).unwrap();
        assert_eq!(
            (at.offset, at.duplicate),
            (next as u64, false),
            "no restart was needed"
        );
        let (end, _) = fill(&partition, id, next + 1);
        assert!(end > next + 100);
        // I13: it closes cleanly, and what was answered is there.
        world.disk.set_free_bytes(0);
        engine.close().unwrap();
        drop((partition, engine));
        let engine = world.after_power_cut().open();
        assert_eq!(read(&engine, "t", 0).len() as i32, end);
        // At most a footer, for which there was no space, was made by the open.
        let summary = engine.opened().summary();
        let rest = summary
            .lines()
            .find(|l| !l.ends_with("wrote its footer anew"));
        assert_eq!(rest, None, "{ack}");
    }
}

#[test]
fn the_engine_can_always_delete() {
    let world = World::new();
    let engine = world.open();
    let partition = small(&engine, "t", Ack::Synced, "16384");
    let other = small(&engine, "other", Ack::Synced, "16384");
    let id = engine.session().unwrap().producer_id();
    other.blocking_append(&plain("x")).unwrap();
    partition
        .blocking_append(&numbered(id, 0, &["first"]))
        .unwrap();
    world.disk.set_free_bytes(60_000);
    let (end, error) = fill(&partition, id, 1);
    check_no_space(&error, "t-0");
    assert_eq!(read(&engine, "t", 0).len() as i32, end);
    let error = engine
        .create_topic("more", 40, config(Ack::Synced))
        .err()
        .unwrap();
    assert!(matches!(error, TopicError::Io { .. }), "{error}");
    assert!(engine.topic("more").is_err());
    // From the front: what was reserved for that is free again, and appends go on.
    world.disk.set_free_bytes(0);
    engine.delete_topic("other").unwrap();
    partition.delete_before(end as u64 - 1).unwrap();
    assert_eq!(read(&engine, "t", 0).len(), 1);
    let at = partition
        .blocking_append(&numbered(id, end, &["after"]))
        .unwrap();
    assert_eq!(at.offset, end as u64);
    engine.close().unwrap();
}

#[test]
fn a_front_can_be_deleted_without_a_byte_to_spare() {
    // With what is left of snapshots and of indexes, which were not written for want of space; and
    // with the space that is reserved for appends.
    for (has_snapshots, has_indexes, has_reserve) in [
        (true, true, false),
        (true, false, false),
        (false, true, false),
        (false, false, true),
    ] {
        let world = World::new();
        let engine = world.open();
        let partition = small(&engine, "t", Ack::Synced, "16384");
        let id = engine.session().unwrap().producer_id();
        world.disk.set_free_bytes(60_000);
        let (mut end, error) = fill(&partition, id, 0);
        check_no_space(&error, "t-0");
        // All is sealed then, and nothing goes on in the background.
        engine.close().unwrap();
        let engine = world.open();
        let partition = engine.topic("t").unwrap().partition(0).unwrap();
        if has_reserve {
            world.disk.set_free_bytes(20_000);
            let batch = numbered(id, end, &[&format!("{end:0300}")]);
            partition.blocking_append(&batch).unwrap();
            end += 1;
        }
        let entries = world.disk.list("t-0").unwrap();
        for entry in &entries {
            let goes = entry.name.ends_with(".snapshot") && !has_snapshots
                || entry.name.ends_with(".index") && !has_indexes;
            if goes {
                world.disk.remove(&format!("t-0/{}", entry.name)).unwrap();
            }
        }
        world.disk.set_free_bytes(0);
        let start = end as u64 - 1;
        partition.delete_before(start).unwrap();
        assert_eq!(partition.log_start_offset(), start);
        assert_eq!(read(&engine, "t", 0).len(), 1);
        let free = world.disk.free_bytes().unwrap();
        let case = format!("{has_snapshots} {has_indexes} {has_reserve}");
        assert!(free > 10_000, "{case}: {free}");
        let again = format!("{start:0300}");
        for n in [end - 1, end, end + 1] {
            let value = if n < end { &again } else { "after" };
            let at = partition
                .blocking_append(&numbered(id, n, &[value]))
                .unwrap();
            assert_eq!((at.offset, at.duplicate), (n as u64, n < end));
        }
        // Nobody is forgotten by it.
        let engine = world.after_power_cut().open();
        assert!(!engine.opened().logs[0].1.history_lost);
        let partition = engine.topic("t").unwrap().partition(0).unwrap();
        let batch = numbered(id, end - 1, &[&again]);
        assert!(partition.blocking_append(&batch).unwrap().duplicate);
    }
}

/// A small file system of its own, where the process may mount one.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(megabytes: u32) -> Option<Tmpfs> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(directory.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Tmpfs(directory)),
            refused => {
                println!("skipped: no tmpfs may be mounted here: {refused:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).output();
    }
}

#[test]
fn a_small_real_file_system_fills_up_and_recovers() {
    let Some(tmpfs) = Tmpfs::mount(4) else { return };
    let data = tmpfs.path().join("data");
    let engine = Engine::open(&data).unwrap();
    let partition = small(&engine, "t", Ack::Synced, "1048576");
    let ballast = tmpfs.path().join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let id = engine.session().unwrap().producer_id();
    let (next, error) = fill(&partition, id, 0);
    check_no_space(&error, "t-0");
    assert!(next > 1_000, "{next}");
    assert_eq!(read(&engine, "t", 0).len() as i32, next);
    std::fs::remove_file(&ballast).unwrap();
    let batch = numbered(id, next, &["resumed"]);
    assert_eq!(
        partition.blocking_append(&batch).unwrap().offset,
        next as u64
    );
    let (end, _) = fill(&partition, id, next + 1);
    // Not a byte left: it closes, and opens again, and everything is there.
    let rest = vec![1; 4 << 20];
    let _ = std::fs::write(&ballast, &rest);
    engine.close().unwrap();
    drop((partition, engine));
    let engine = Engine::open(&data).unwrap();
    let found = values(&engine, "t");
    assert_eq!(found.len() as i32, end);
    assert_eq!(found[next as usize], "resumed");
    engine.close().unwrap();
}

#[test]
fn a_front_can_be_deleted_on_a_real_file_system_without_a_free_block() {
    let Some(tmpfs) = Tmpfs::mount(8) else { return };
    let data = tmpfs.path().join("data");
    let engine = Engine::open(&data).unwrap();
    let partition = small(&engine, "t", Ack::Synced, "524288");
    let id = engine.session().unwrap().producer_id();
    let (end, error) = fill(&partition, id, 0);
    check_no_space(&error, "t-0");
    let ballast = tmpfs.path().join("ballast");
    let _ = std::fs::write(&ballast, vec![1; 8 << 20]);
    assert!(std::fs::write(tmpfs.path().join("more"), [1]).is_err());
    let start = end as u64 - 1;
    partition.delete_before(start).unwrap();
    assert_eq!(read(&engine, "t", 0).len(), 1);
    let at = partition
        .blocking_append(&numbered(id, end, &["after"]))
        .unwrap();
    assert_eq!(at.offset, end as u64);
    engine.close().unwrap();
    drop((partition, engine));
    let engine = Engine::open(&data).unwrap();
    assert_eq!(read(&engine, "t", 0).len(), 2);
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    let batch = numbered(id, end - 1, &[&format!("{:0300}", end - 1)]);
    assert!(partition.blocking_append(&batch).unwrap().duplicate);
}
