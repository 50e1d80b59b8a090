//! A log that lost what it knew of producers cannot tell what a name stored there, and says so.

use log_engine::storage::Disk;
use log_engine::{Ack, Action, Engine, SendError};

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
    partition.delete_before(partition.high_watermark()).unwrap();
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
