//! Closing, and what a closed engine answers.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use log_engine::{
    Ack, AppendError, CloseError, OpenError, ReadError, SendError, SessionError, TopicConfig,
    TopicError,
};

use crate::world::{HoldSyncs, World, one_partition, plain, record, values};

#[test]
fn every_call_on_a_closed_engine_says_closed() {
    let world = World::new();
    let engine = world.open();
    let partition = one_partition(&engine, Ack::Synced);
    let session = engine.session().unwrap();
    let mut appender = session.appender("t", 0).unwrap();
    let mut follower = engine.reader("t").follow().open().unwrap();
    follower.blocking_iter().next().unwrap().unwrap();
    engine.close().unwrap();

    let x = plain("x");
    let appends = [
        partition.blocking_append(&x).err(),
        partition.try_append(&x).err(),
        partition.blocking_start(&x).err(),
        appender.blocking_append(&[record("x")]).err(),
        appender.try_append(&[record("x")]).err(),
    ];
    for error in appends {
        assert!(matches!(error, Some(AppendError::Closed)), "{error:?}");
    }
    assert_eq!(appender.next_sequence(), 0);
    let topics = [
        engine.create_topic("u", 1, TopicConfig::default()).err(),
        engine.ensure_topic("u", 1).err(),
        engine.topic("t").err(),
        engine.delete_topic("t").err(),
        partition.delete_before(1).err(),
    ];
    for error in topics {
        assert!(matches!(error, Some(TopicError::Closed)), "{error:?}");
    }
    assert!(matches!(engine.session().err(), Some(SessionError::Closed)));
    let opened = engine.reader("t").open().err();
    assert!(matches!(opened, Some(ReadError::Closed)), "{opened:?}");
    let next = follower.blocking_iter().next();
    assert!(matches!(next, Some(Err(ReadError::Closed))));
    engine.close().unwrap();
    assert_eq!(values(&world.open(), "t"), ["first"]);
}

#[test]
fn a_close_answers_those_who_wait() {
    let world = World::new();
    let engine = world.open();
    let partition = one_partition(&engine, Ack::Synced);
    let gate = world.disk.hold_syncs();
    let pending: Vec<_> = (0..5)
        .map(|_| partition.blocking_start(&plain("x")).unwrap())
        .collect();
    gate.wait_until_syncs_wait(1);
    let mut follower = engine.reader("t").follow().open().unwrap();
    let following = thread::spawn(move || follower.blocking_iter().map_while(Result::ok).count());
    let closing = thread::spawn({
        let engine = engine.clone();
        move || engine.close()
    });
    drop(gate);
    closing.join().unwrap().unwrap();
    for (n, pending) in pending.into_iter().enumerate() {
        assert_eq!(pending.blocking_wait().unwrap().offset, n as u64 + 1);
    }
    assert!(following.join().unwrap() <= 6);
    assert_eq!(
        world
            .after_power_cut()
            .open()
            .topic("t")
            .unwrap()
            .describe()
            .records,
        6
    );
}

#[test]
fn dropping_the_last_handle_closes_cleanly() {
    let world = World::new();
    let engine = world.open();
    let partition = one_partition(&engine, Ack::Memory);
    drop(engine);
    // A handle made from it keeps it open.
    partition.blocking_append(&plain("second")).unwrap();
    assert!(world.builder().open().is_err());
    drop(partition);
    let engine = world.after_power_cut().open();
    assert_eq!(values(&engine, "t"), ["first", "second"]);
    assert!(
        engine
            .opened()
            .logs
            .iter()
            .all(|(_, opened)| opened.files.clean)
    );
    assert_eq!(engine.opened().summary(), "");
}

#[test]
fn a_follower_of_a_fenced_log_sleeps_and_ends_with_the_engine() {
    let world = World::new();
    let engine = world.open();
    let partition = one_partition(&engine, Ack::Synced);
    world.disk.fail_syncs_in("t-0", 1);
    partition.blocking_append(&plain("lost")).unwrap_err();
    let mut follower = engine.reader("t").follow().open().unwrap();
    follower.blocking_iter().next().unwrap().unwrap();
    // Waiting, not spinning: one poll ends pending instead of never.
    let polled = {
        let next = std::pin::pin!(follower.next());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        next.poll(&mut context).is_pending()
    };
    assert!(polled);
    let following = thread::spawn(move || follower.blocking_iter().next());
    engine.close().unwrap_err();
    let last = following.join().unwrap();
    assert!(matches!(last, Some(Err(ReadError::Closed))));
}

// Whoever is making a topic or a name writes in the directory, so that is not free before it is done.
#[test]
fn a_close_waits_for_a_topic_or_a_name_that_is_being_made() {
    for held in ["topics", "names"] {
        let world = World::new();
        let syncs = Arc::new(HoldSyncs::default());
        let builder = world.hooked(syncs.clone());
        let builder = builder.close_timeout(Duration::from_millis(200));
        let engine = builder.open().unwrap();
        one_partition(&engine, Ack::Synced);
        syncs.hold(held);
        let maker = {
            let engine = engine.clone();
            thread::spawn(move || match held {
                "topics" => engine.add_partitions("t", 2).is_ok(),
                _ => engine.producer().name("n").open().is_ok(),
            })
        };
        syncs.wait_until_one_waits();
        let closed = engine.close();
        assert!(
            matches!(closed, Err(CloseError::TimedOut { .. })),
            "{held}: {closed:?}"
        );
        let other = world.builder().open().err();
        assert!(
            matches!(other, Some(OpenError::DirectoryInUse { .. })),
            "{held}: {other:?}"
        );
        syncs.release();
        maker.join().unwrap();
        let error = engine.add_partitions("t", 3).err();
        assert!(matches!(error, Some(TopicError::Closed)), "{error:?}");
        let name = engine.producer().name("m").open().err();
        assert!(matches!(name, Some(SendError::Closed)), "{name:?}");
    }
}
