//! What is there again after a close, a kill and a power cut; and what the internal topic is to
//! others.

use std::io;
use std::sync::Arc;

use log_engine::storage::{Disk, MemoryDisk};
use log_engine::{Ack, AppendError, Engine, GroupError, Record, TopicConfig, TopicError};
use parking_lot::Mutex;

use crate::hooked_disk::{Hook, Op};
use crate::shop::{LONG, counted, described, join, offsets, open, poll, position, put, settle};
use crate::shop::{make, with_orders};
use crate::world::{World, plain};

/// Delivers 0 to 3, acknowledges 0 and 2, and lets the delivery of 1 end and begin again.
fn consume(world: &World, engine: &Engine) {
    let member = join(engine);
    let deliveries = poll(&member, 4);
    for delivery in deliveries {
        match delivery.record().offset() {
            0 | 2 => delivery.blocking_ack().unwrap(),
            1 => delivery.nack(crate::shop::ms(0)).unwrap(),
            _ => {}
        }
    }
    world.clock.advance(1);
    assert_eq!(counted(&poll(&member, 1)), [(1, 2)]);
    // Not dropped in order, as with a killed process.
    std::mem::forget(member);
}

#[test]
fn after_a_close_and_after_a_kill_everything_is_as_it_was_and_open_deliveries_come_at_once() {
    for is_killed in [false, true] {
        let world = World::new();
        let engine = with_orders(&world, 5);
        consume(&world, &engine);
        let world = match is_killed {
            true => world.after_kill(),
            false => {
                engine.close().unwrap();
                world
            }
        };
        let engine = open(&world);
        let about = described(&engine);
        assert_eq!(
            (
                about.position,
                about.in_flight,
                about.acked_above,
                about.member
            ),
            (Some(1), 2, 1, None)
        );
        let member = join(&engine);
        assert_eq!(counted(&poll(&member, 9)), [(1, 3), (3, 2), (4, 1)]);
    }
}

#[test]
fn a_power_cut_takes_acks_that_were_not_synced_and_never_an_epoch() {
    let mut world = World::new();
    let engine = with_orders(&world, 2);
    let mut epochs = Vec::new();
    engine.close().unwrap();
    for _ in 0..4 {
        let engine = open(&world);
        let member = join(&engine);
        epochs.push(member.assigned()[0].2);
        poll(&member, 1).pop().unwrap().blocking_ack().unwrap();
        assert_eq!(position(&member), 1);
        world = world.after_power_cut();
        std::mem::forget(member);
    }
    assert!(
        epochs.windows(2).all(|pair| pair[0] < pair[1]),
        "{epochs:?}"
    );
    let engine = open(&world);
    assert_eq!(described(&engine).position, Some(0));
    assert_eq!(counted(&poll(&join(&engine), 1)), [(0, 1)]);
}

#[test]
fn an_ack_is_durable_within_the_flush_interval() {
    let world = World::new();
    let engine = with_orders(&world, 2);
    let member = join(&engine);
    poll(&member, 1).pop().unwrap().blocking_ack().unwrap();
    world.clock.advance(101);
    engine.look_at_clock();
    settle(&engine);
    let engine = open(&world.after_power_cut());
    assert_eq!(described(&engine).position, Some(1));
}

#[test]
fn a_seek_survives_a_power_cut_at_once() {
    let world = World::new();
    let engine = with_orders(&world, 5);
    let member = join(&engine);
    member.blocking_seek("orders", 0, 3).unwrap();
    let epoch = member.assigned()[0].2;
    let engine = open(&world.after_power_cut());
    let about = described(&engine);
    assert_eq!((about.position, about.epoch), (Some(3), epoch));
    assert_eq!(offsets(&poll(&join(&engine), 9)), [3, 4]);
}

#[test]
fn what_an_earlier_run_delivered_cannot_be_acknowledged_with_its_receipt() {
    let world = World::new();
    let engine = with_orders(&world, 1);
    let old = poll(&join(&engine), 1).pop().unwrap().receipt().clone();
    engine.close().unwrap();
    let engine = open(&world);
    let member = join(&engine);
    let refused = member.blocking_ack(&[old]).unwrap_err();
    assert!(matches!(refused, GroupError::Fenced { .. }), "{refused}");
}

#[test]
fn an_engine_that_only_reads_shows_what_is_durable_and_lets_nobody_join() {
    let world = World::new();
    let engine = with_orders(&world, 5);
    consume(&world, &engine);
    engine.close().unwrap();
    let reader = Engine::open_reader(world.env()).unwrap();
    let about = described(&reader);
    assert_eq!(
        (about.position, about.end, about.lag, about.in_flight),
        (Some(1), 5, 4, 2)
    );
    let refused = reader.group("billing").topic("orders").blocking_join();
    assert!(matches!(refused, Err(GroupError::ReadOnly)));
}

#[test]
fn the_internal_topic_is_the_groups_own() {
    let world = World::new();
    let engine = with_orders(&world, 1);
    let internal = |result: Result<(), TopicError>| {
        assert!(
            matches!(result, Err(TopicError::Internal { .. })),
            "{result:?}"
        );
    };
    internal(
        engine
            .create_topic("__groups", 1, TopicConfig::default())
            .map(drop),
    );
    drop(join(&engine));
    let names = |topics: Vec<log_engine::Topic>| -> Vec<String> {
        topics.iter().map(|t| t.name().to_owned()).collect()
    };
    assert_eq!(names(engine.topics()), ["orders", "orders.dlq"]);
    assert_eq!(
        names(engine.all_topics()),
        ["__groups", "orders", "orders.dlq"]
    );
    internal(engine.delete_topic("__groups"));
    internal(engine.add_partitions("__groups", 2).map(drop));
    let partition = engine.topic("__groups").unwrap().partition(0).unwrap();
    let refused = partition.try_append(&plain("mine")).err().unwrap();
    assert!(matches!(refused, AppendError::Internal { .. }), "{refused}");
    assert_eq!(refused.kafka_code(), 17);
    internal(partition.delete_before(0));
    let mut appender = engine.session().unwrap().appender("__groups", 0).unwrap();
    assert!(appender.try_append(&[Record::new().value("mine")]).is_err());
    let report = engine.groups().unwrap();
    assert_eq!(report.len(), 1);
}

#[test]
fn a_journal_that_cannot_be_read_costs_the_groups_and_not_the_engine() {
    let world = World::new();
    let engine = open(&world);
    make(&engine, 1, &[("retention.consumed.by", "billing")]);
    put(&engine, 0, 0..5);
    let member = join(&engine);
    poll(&member, 5)
        .into_iter()
        .for_each(|d| d.blocking_ack().unwrap());
    engine.close().unwrap();
    drop(member);
    let file = "__groups-0/00000000000000000000.log";
    world.disk.corrupt(file, 200, 0xff).unwrap();

    let engine = open(&world);
    let refused = engine.groups().unwrap_err();
    assert!(matches!(refused, GroupError::Unreadable(_)), "{refused}");
    let joined = engine.group("billing").topic("orders").blocking_join();
    assert!(matches!(joined, Err(GroupError::Unreadable(_))));
    for _ in 0..3 {
        world.clock.advance(20_000);
        engine.look_at_clock();
        settle(&engine);
    }
    let about = engine.topic("orders").unwrap().describe();
    assert_eq!(about.partitions[0].log_start_offset, 0);
    assert_eq!(about.partitions[0].held_from, Some(0));
    assert_eq!(about.records, 5);
}

/// Does something once, when a log is synced.
#[derive(Default)]
struct OnSync {
    prefix: &'static str,
    work: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Hook for OnSync {
    fn before(&self, op: Op, name: &str) -> io::Result<()> {
        if op == Op::Sync && name.starts_with(self.prefix) {
            let work = self.work.lock().take();
            work.into_iter().for_each(|work| work());
        }
        Ok(())
    }
}

#[test]
fn a_position_that_a_copy_of_the_topic_does_not_reach_is_said_and_never_skipped() {
    let world = World::new();
    let hook = Arc::new(OnSync {
        prefix: "Orders-0",
        ..OnSync::default()
    });
    let engine = world.hooked(hook.clone()).driven().open().unwrap();
    // Its name is cut before that of the journal.
    let config = TopicConfig::default().with_ack(Ack::Memory);
    engine.create_topic("Orders", 1, config).unwrap();
    let partition = engine.topic("Orders").unwrap().partition(0).unwrap();
    let append = |value: &str| {
        if partition.try_append(&plain(value)).is_err() {
            settle(&engine);
            let _ = partition.try_append(&plain(value)).unwrap();
        }
    };
    append("0");
    settle(&engine);
    let member = engine
        .group("billing")
        .topic("Orders")
        .blocking_join()
        .unwrap();
    poll(&member, 1).pop().unwrap().blocking_ack().unwrap();
    let late = (partition.clone(), member.clone());
    *hook.work.lock() = Some(Box::new(move || {
        let (partition, member) = late;
        for value in ["1", "2"] {
            let _ = partition.try_append(&plain(value)).unwrap();
        }
        for delivery in poll(&member, 2) {
            delivery.blocking_ack().unwrap();
        }
    }));
    let copy = MemoryDisk::new();
    let target: Arc<dyn Disk> = Arc::new(copy.clone());
    engine.snapshot_to_disk(&target).unwrap();
    assert!(
        hook.work.lock().is_none(),
        "nothing was done during the copy"
    );
    assert_eq!(member.position("Orders", 0), Some(3));

    // Twice: it is not forgotten when the log has grown over the position.
    let mut copied = World::on(copy);
    for _ in 0..2 {
        let engine = open(&copied);
        let partition = engine.topic("Orders").unwrap().partition(0).unwrap();
        for value in ["a", "b", "c"] {
            if partition.try_append(&plain(value)).is_err() {
                settle(&engine);
                let _ = partition.try_append(&plain(value)).unwrap();
            }
        }
        let member = engine
            .group("billing")
            .topic("Orders")
            .blocking_join()
            .unwrap();
        let gap = member.poll_now(1, LONG).unwrap_err();
        assert!(
            matches!(
                gap,
                GroupError::Gap {
                    position: 3,
                    start: 0,
                    ..
                }
            ),
            "{gap}"
        );
        assert_eq!(described(&engine).lost, Some(3));
        copied = copied.after_kill();
        std::mem::forget(member);
    }
    let engine = open(&copied);
    let member = engine
        .group("billing")
        .topic("Orders")
        .blocking_join()
        .unwrap();
    member.blocking_seek("Orders", 0, 1).unwrap();
    assert_eq!(counted(&poll(&member, 1)), [(1, 1)]);
}
