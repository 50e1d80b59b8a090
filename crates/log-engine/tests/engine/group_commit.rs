//! Group commit: how many syncs, who waits for which, and what a failed or endless one does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use log_engine::{Ack, Action, AppendError, CloseError, Engine, Pending, TopicConfig};

use crate::hooked_disk::{Hook, Op};
use crate::world::{HoldSyncs, World, config, numbered, one_partition, plain, read, values};

/// Counts the syncs of files and of names, but for the feeder's, which prepares another segment meanwhile.
#[derive(Default)]
struct Syncs(AtomicU64);

impl Hook for Syncs {
    fn before(&self, op: Op, _name: &str) -> io::Result<()> {
        let is_sync = matches!(op, Op::Sync | Op::SyncNames);
        if is_sync && thread::current().name() != Some("oncelog-feeder") {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

#[test]
fn one_caller_has_one_sync_for_each_commit() {
    let (world, syncs) = (World::new(), Arc::new(Syncs::default()));
    let engine = world.hooked(syncs.clone()).open().unwrap();
    let partition = one_partition(&engine, Ack::Synced);
    for n in 0..50 {
        let before = syncs.0.load(Ordering::SeqCst);
        let appended = partition.blocking_append(&plain("x")).unwrap();
        assert_eq!(appended.offset, n + 1);
        assert_eq!(syncs.0.load(Ordering::SeqCst), before + 1, "commit {n}");
    }
}

#[test]
fn callers_at_the_same_time_share_a_sync() {
    const CALLERS: u64 = 256;
    const EACH: u64 = 40;
    let world = World::new();
    let engine = world.open();
    let partition = one_partition(&engine, Ack::Synced);
    // The first sync is held until everybody waits, so that the counts do not depend on speed.
    let gate = world.disk.hold_syncs();
    let before = world.disk.syncs();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let partition = partition.clone();
            thread::spawn(move || {
                for _ in 0..EACH {
                    partition.blocking_append(&plain("x")).unwrap();
                }
            })
        })
        .collect();
    while partition.log_end_offset() < 1 + CALLERS {
        thread::yield_now();
    }
    assert_eq!(partition.high_watermark(), 1, "nothing is durable yet");
    drop(gate);
    callers.into_iter().for_each(|c| c.join().unwrap());
    let (syncs, commits) = (world.disk.syncs() - before, CALLERS * EACH);
    println!("{commits} commits of {CALLERS} callers: {syncs} syncs");
    // On a machine that does nothing else about 30 share one.
    assert!(syncs * 4 <= commits, "{syncs} syncs for {commits} commits");
    assert_eq!(read(&engine, "t", 0).len() as u64, 1 + commits);
}

#[test]
fn case_048_a_repeat_is_answered_no_earlier_than_its_original() {
    let world = World::new();
    let engine = world.open();
    let partition = one_partition(&engine, Ack::Synced);
    let id = engine.session().unwrap().producer_id();
    let batch = numbered(id, 0, &["once"]);
    let gate = world.disk.hold_syncs();
    let original = partition.blocking_start(&batch).unwrap();
    gate.wait_until_syncs_wait(1);
    let repeat = partition.blocking_start(&batch).unwrap();
    let place = |p: &Pending| (p.appended().offset, p.appended().duplicate);
    assert_eq!((place(&original), place(&repeat)), ((1, false), (1, true)));
    // The high watermark is held below the batch, so there is no answer to either.
    assert_eq!(
        (partition.high_watermark(), partition.log_end_offset()),
        (1, 2)
    );
    assert!(!original.is_done() && !repeat.is_done());
    drop(gate);
    assert_eq!(original.blocking_wait().unwrap().offset, 1);
    let repeat = repeat.blocking_wait().unwrap();
    assert_eq!((repeat.offset, repeat.duplicate), (1, true));
    assert_eq!(values(&engine, "t"), ["first", "once"]);
}

#[test]
fn case_049_a_repeat_waits_for_the_sync_that_covers_its_original() {
    let world = World::new();
    let hold = Arc::new(HoldSyncs::default());
    let engine = world.hooked(hold.clone()).open().unwrap();
    let partition = one_partition(&engine, Ack::Synced);
    let id = engine.session().unwrap().producer_id();
    let batch = numbered(id, 0, &["once"]);
    hold.hold("t-0/");
    let other = partition.blocking_start(&plain("other")).unwrap();
    hold.wait_until_one_waits();
    // The sync under way began before the batch was written, so it does not cover it.
    let original = partition.blocking_start(&batch).unwrap();
    let repeat = partition.blocking_start(&batch).unwrap();
    hold.release_one();
    assert_eq!(other.blocking_wait().unwrap().offset, 1);
    hold.wait_until_one_waits();
    assert!(!original.is_done() && !repeat.is_done());
    hold.release();
    let answer = repeat.blocking_wait().unwrap();
    assert_eq!((answer.offset, answer.duplicate), (2, true));
    assert_eq!(original.blocking_wait().unwrap().offset, 2);
    let cut = world.after_power_cut().open();
    assert_eq!(values(&cut, "t"), ["first", "other", "once"]);
}

#[test]
fn a_failed_sync_ends_this_log_and_no_other() {
    let world = World::new();
    let engine = world.open();
    let partition = one_partition(&engine, Ack::Synced);
    let other = engine
        .create_topic("other", 1, TopicConfig::default())
        .unwrap();
    let other = other.partition(0).unwrap();
    other.blocking_append(&plain("a")).unwrap();
    let id = engine.session().unwrap().producer_id();
    let batch = numbered(id, 0, &["in doubt"]);

    world.disk.fail_syncs_in("t-0", 1);
    let gate = world.disk.hold_syncs();
    let original = partition.blocking_start(&batch).unwrap();
    gate.wait_until_syncs_wait(1);
    let repeat = partition.blocking_start(&batch).unwrap();
    drop(gate);
    for waiting in [original, repeat] {
        let error = waiting.blocking_wait().unwrap_err();
        assert!(error.is_outcome_unknown(), "{error}");
        assert_eq!((error.action(), error.kafka_code()), (Action::Reopen, 56));
        assert!(error.to_string().contains("t-0"), "{error}");
    }
    // No second sync clears it (I10).
    for batch in [plain("later"), batch.clone()] {
        let error = partition.blocking_append(&batch).unwrap_err();
        assert!(matches!(error, AppendError::LogFenced(_)), "{error}");
        assert!(!error.is_outcome_unknown());
    }
    let state = &engine.topic("t").unwrap().describe().partitions[0].state;
    assert!(state.contains("sync"), "{state}");
    assert_eq!(values(&engine, "t"), ["first"], "reads go on");
    // I16: other logs do.
    other.blocking_append(&plain("b")).unwrap();
    let error = engine.close().unwrap_err();
    assert!(
        matches!(&error, CloseError::Log { log, .. } if log == "t-0"),
        "{error}"
    );
    drop((engine, partition, other));

    // I11: what the device does not have is not there, though the cache shows it.
    let engine = world.open();
    assert_eq!(values(&engine, "t"), ["first"]);
    assert_eq!(values(&engine, "other"), ["a", "b"]);
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    let again = partition.blocking_append(&batch).unwrap();
    assert!(!again.duplicate);
    let cut = world.after_power_cut().open();
    assert_eq!(values(&cut, "t"), ["first", "in doubt"]);
}

#[test]
fn a_sync_of_one_log_stops_no_other_and_a_close_does_not_wait_for_ever() {
    let world = World::new();
    let hold = Arc::new(HoldSyncs::default());
    let timeout = Duration::from_millis(50);
    let engine = world
        .hooked(hold.clone())
        .close_timeout(timeout)
        .open()
        .unwrap();
    for name in ["held", "free"] {
        let topic = engine.create_topic(name, 1, config(Ack::Synced)).unwrap();
        let partition = topic.partition(0).unwrap();
        partition.blocking_append(&plain("first")).unwrap();
    }
    let held = engine.topic("held").unwrap().partition(0).unwrap();
    let free = engine.topic("free").unwrap().partition(0).unwrap();
    hold.hold("held-0/");
    let waiting = held.blocking_start(&plain("held")).unwrap();
    hold.wait_until_one_waits();
    for n in 1..20 {
        assert_eq!(free.blocking_append(&plain("free")).unwrap().offset, n);
    }
    // Its own log takes appends too, and answers none.
    let later = held.blocking_start(&plain("later")).unwrap();
    assert!(!waiting.is_done() && !later.is_done());
    // I32: the close ends, and so does every wait; the outcome is not known then.
    let error = engine.close().unwrap_err();
    assert!(
        matches!(error, CloseError::TimedOut { timeout_ms: 50 }),
        "{error}"
    );
    for pending in [waiting, later] {
        let error = pending.blocking_wait().unwrap_err();
        assert!(error.is_outcome_unknown(), "{error}");
    }
    for partition in [&held, &free] {
        let error = partition.blocking_append(&plain("x")).unwrap_err();
        assert!(matches!(error, AppendError::Closed), "{error}");
    }
    hold.release();
    let after = world.after_kill().open();
    assert_eq!(read(&after, "free", 0).len(), 20);
    assert_eq!(values(&after, "held"), ["first", "held", "later"]);
}

#[test]
fn an_append_gives_up_after_its_timeout_and_can_be_resolved() {
    let world = World::new();
    let engine = world
        .builder()
        .append_timeout(Duration::from_secs(5))
        .open()
        .unwrap();
    let partition = one_partition(&engine, Ack::Synced);
    let id = engine.session().unwrap().producer_id();
    let batch = numbered(id, 0, &["slow"]);
    let gate = world.disk.hold_syncs();
    let waiting = partition.blocking_start(&batch).unwrap();
    gate.wait_until_syncs_wait(1);
    let (done, is_over) = mpsc::channel();
    let caller = thread::spawn(move || {
        let answer = waiting.blocking_wait();
        done.send(()).unwrap();
        answer
    });
    // Time passes until whoever waits has seen that it did: at most a minute for five seconds.
    let mut passed = 0;
    while is_over.recv_timeout(Duration::from_millis(100)).is_err() {
        world.clock.advance(1_000);
        passed += 1;
        assert!(passed < 60, "still waiting after {passed} s");
    }
    let error = caller.join().unwrap().unwrap_err();
    assert_eq!((error.action(), error.kafka_code()), (Action::Resolve, 7));
    assert!(error.to_string().contains("5000 ms"), "{error}");
    drop(gate);
    let resolved = partition.blocking_append(&batch).unwrap();
    assert_eq!((resolved.offset, resolved.duplicate), (1, true));
}

#[test]
fn many_logs_are_synced_side_by_side() {
    let world = World::new();
    let engine: Engine = world.open();
    let topic = engine.create_topic("t", 4, config(Ack::Synced)).unwrap();
    let partitions: Vec<_> = (0..4).map(|n| topic.partition(n).unwrap()).collect();
    for partition in &partitions {
        partition.blocking_append(&plain("first")).unwrap();
    }
    let gate = world.disk.hold_syncs();
    let pending: Vec<_> = partitions
        .iter()
        .map(|p| p.blocking_start(&plain("x")).unwrap())
        .collect();
    gate.wait_until_syncs_wait(4);
    drop(gate);
    for pending in pending {
        assert_eq!(pending.blocking_wait().unwrap().offset, 1);
    }
}
