//! A log that lost what it knew of producers cannot tell what a name stored there, and says so.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use log_engine::storage::Disk;
use log_engine::{Ack, Action, Engine, OpenError, SendError};

use crate::hooked_disk::{Hook, Op};
use crate::names::{open, send_all};
use crate::ways::{numbered, sorted};
use crate::world::{World, config};

// Segments that hold a few batches.
fn topic(engine: &Engine) {
    let mut settings = config(Ack::Synced);
    settings.set("segment.bytes", "4096").unwrap();
    engine.create_topic("t", 1, settings).unwrap();
}

// Deletes the front of the log, and damages every snapshot that covers it.
fn lose_history(world: &World, engine: &Engine) -> World {
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    let end = partition.high_watermark();
    // It may be refused to remove files; then they lie below the start.
    let _ = partition.delete_before(end);
    assert_eq!(partition.log_start_offset(), end);
    engine.close().unwrap();
    let world = world.after_kill();
    let mut damaged = 0;
    for entry in world.disk.list("t-0").unwrap() {
        if entry.name.ends_with(".snapshot") {
            let file = format!("t-0/{}", entry.name);
            world.disk.corrupt(&file, 20, 1).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0);
    world
}

#[test]
fn a_log_that_lost_its_history_refuses_the_names_that_wrote_there() {
    let world = World::new();
    let engine = world.open();
    topic(&engine);
    let first = open(&engine);
    send_all(&first, 0..100);
    drop(first);
    // Others write behind it, or the newest segment would still tell.
    let unnamed = engine.producer().open().unwrap();
    for _ in 0..200 {
        crate::ways::send(&unnamed, "unnamed")
            .blocking_wait()
            .unwrap();
    }
    let world = lose_history(&world, &engine);
    // Not the first time alone.
    for round in 0..3 {
        let engine = world.open();
        assert_eq!(
            engine.opened().summary().contains("history is lost"),
            round == 0
        );
        let refused = engine.producer().name("feed").open();
        let error = refused.err().unwrap_or_else(|| panic!("round {round}"));
        assert!(matches!(error, SendError::HistoryLost { .. }), "{error}");
        assert_eq!(error.action(), Action::FixCall);
        assert!(error.to_string().contains("t-0"), "{error}");
        // Another name never wrote there, so nothing of it was lost.
        if round == 0 {
            let other = engine
                .producer()
                .name("other")
                .batch_bytes(200)
                .open()
                .unwrap();
            send_all(&other, 0..3);
            drop(other);
            assert_eq!(sorted(&engine, "t"), numbered(3));
        }
        engine.close().unwrap();
    }
    let engine = world.open();
    send_all(&engine.producer().name("other").open().unwrap(), 0..5);
    assert_eq!(sorted(&engine, "t"), numbered(5));
    // Without the topic there is nothing to tell.
    engine.delete_topic("t").unwrap();
    topic(&engine);
    send_all(&open(&engine), 0..20);
    assert_eq!(sorted(&engine, "t"), numbered(20));
}

#[test]
fn deleting_records_loses_no_name() {
    let world = World::new();
    let engine = world.open();
    topic(&engine);
    let first = open(&engine);
    send_all(&first, 0..300);
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    partition.delete_before(partition.high_watermark()).unwrap();
    drop((first, partition));
    for engine in [engine, world.after_power_cut().open()] {
        let again = open(&engine);
        assert!(again.resume_from() > 0);
        let answers = send_all(&again, 0..300);
        assert!(answers.iter().all(|at| at.duplicate));
        drop(again);
        assert_eq!(sorted(&engine, "t"), Vec::<String>::new());
        engine.close().unwrap();
    }
}

/// Refuses one kind of call on files whose name holds a text, all but the first few.
struct Refuse(Op, &'static str, AtomicUsize);

impl Hook for Refuse {
    fn before(&self, op: Op, name: &str) -> io::Result<()> {
        let Refuse(refused, text, allowed) = self;
        if op != *refused || !name.contains(text) {
            return Ok(());
        }
        let less = |left: usize| left.checked_sub(1);
        match allowed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => Ok(()),
            Err(_) => Err(io::ErrorKind::StorageFull.into()),
        }
    }
}

// A snapshot of a later run would hide that the log ever forgot.
#[test]
fn an_open_that_cannot_note_what_was_lost_says_so_and_the_next_one_notes_it() {
    // Also where a part of what was deleted is still there.
    for removals in [usize::MAX, 1] {
        let world = World::new();
        let removals = AtomicUsize::new(removals);
        let hook = Refuse(Op::Remove, ".log", removals);
        let engine = world.hooked(Arc::new(hook)).open().unwrap();
        topic(&engine);
        let first = open(&engine);
        // Few enough for the first segment, which is the one that goes in any case.
        send_all(&first, 0..30);
        drop(first);
        let unnamed = engine.producer().open().unwrap();
        for _ in 0..200 {
            crate::ways::send(&unnamed, "unnamed")
                .blocking_wait()
                .unwrap();
        }
        drop(unnamed);
        let world = lose_history(&world, &engine);
        for _ in 0..2 {
            let full = Arc::new(Refuse(Op::Create, "names", AtomicUsize::new(0)));
            let error = world.hooked(full).open().err().unwrap();
            let OpenError::Io { file, .. } = &error else {
                panic!("{error}");
            };
            assert!(file.ends_with("names"), "{error}");
            assert_eq!(error.action(), Action::FreeSpace);
        }
        for round in 0..2 {
            let engine = world.open();
            let name = engine.producer().name("feed").open().err();
            assert!(
                matches!(name, Some(SendError::HistoryLost { .. })),
                "round {round}: {name:?}"
            );
            // What was left of the deletion goes once a snapshot covers it again.
            let names = world.disk.list("t-0").unwrap();
            let logs = names.iter().filter(|e| e.name.ends_with(".log")).count();
            assert!(logs <= 1 || round == 0, "{logs}");
            engine.close().unwrap();
        }
    }
}
