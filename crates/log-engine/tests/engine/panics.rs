//! A panic in a turn of the engine's threads, or in the middle of an append: it ends the log whose turn
//! it was. Whoever waits for that log is told, and the others go on (R25, I32).

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use log_engine::storage::Disk;
use log_engine::{Ack, AppendError, CloseError, Engine, Partition, Unknown};
use parking_lot::Mutex;

use crate::hooked_disk::{Hook, Op};
use crate::world::{World, config, numbered, plain, read};

/// Panics at the next such call on a file whose name begins with that.
#[derive(Default)]
struct PanicAt(Mutex<Option<(Op, &'static str)>>, AtomicBool);

impl PanicAt {
    fn arm(&self, op: Op, prefix: &'static str) {
        *self.0.lock() = Some((op, prefix));
    }

    /// At the next batch that is appended to the log `broken`, once its bytes are in the file.
    fn arm_append(&self) {
        self.1.store(true, Ordering::Relaxed);
    }

    fn is_armed(&self) -> bool {
        self.0.lock().is_some() || self.1.load(Ordering::Relaxed)
    }
}

impl Hook for PanicAt {
    fn before(&self, op: Op, name: &str) -> io::Result<()> {
        let found = |at: &mut (Op, &str)| op == at.0 && name.starts_with(at.1);
        if self.0.lock().take_if(|at| found(at)).is_some() {
            panic!("the disk panics at {op:?} of {name}");
        }
        Ok(())
    }

    fn after_publish(&self, name: &str) {
        if name.starts_with("broken-0/") && self.1.swap(false, Ordering::Relaxed) {
            panic!("the disk panics at an append to {name}");
        }
    }
}

struct Machine {
    world: World,
    panics: Arc<PanicAt>,
    engine: Engine,
    broken: Partition,
    sound: Partition,
}

fn machine() -> Machine {
    let world = World::new();
    let panics = Arc::new(PanicAt::default());
    let engine = world.hooked(panics.clone()).open().unwrap();
    let partition = |name: &str| {
        let mut settings = config(Ack::Synced);
        settings.set("segment.bytes", "4096").unwrap();
        settings.set("producers.max", "16").unwrap();
        let topic = engine.create_topic(name, 1, settings).unwrap();
        let partition = topic.partition(0).unwrap();
        partition.blocking_append(&plain("first")).unwrap();
        partition
    };
    Machine {
        broken: partition("broken"),
        sound: partition("sound"),
        world,
        panics,
        engine,
    }
}

impl Machine {
    // The log is fenced, says why, and nobody waits; the other one goes on, and so does the next
    // run, in which everything answered is there.
    fn check(self, answered: usize) {
        assert!(!self.panics.is_armed(), "it never panicked");
        let error = self.broken.blocking_append(&plain("x")).unwrap_err();
        let AppendError::LogFenced(reason) = &error else {
            panic!("{error}");
        };
        assert!(reason.error.contains("panic"), "{error}");
        let described = self.engine.topic("broken").unwrap().describe();
        assert!(described.partitions[0].state.contains("is fenced"));
        // More than what fits into the segment, so that every kind of turn is taken.
        for n in 0..30 {
            let value = format!("{n:0400}");
            let at = self.sound.blocking_append(&plain(&value)).unwrap();
            assert_eq!(at.offset, n + 1);
        }
        for _ in 0..2_500 {
            self.engine.session().unwrap();
        }
        let closed = self.engine.close();
        assert!(matches!(closed, Err(CloseError::Log { .. })), "{closed:?}");
        for world in [self.world.after_kill(), self.world.after_power_cut()] {
            let engine = world.open();
            assert!(read(&engine, "broken", 0).len() >= answered);
            assert_eq!(read(&engine, "sound", 0).len(), 31);
            let broken = engine.topic("broken").unwrap().partition(0).unwrap();
            broken.blocking_append(&plain("again")).unwrap();
        }
    }
}

// Either it was not written, or it is not known whether it was.
fn is_fenced(error: &AppendError) -> bool {
    match error {
        AppendError::LogFenced(_) => true,
        AppendError::OutcomeUnknown { why, .. } => matches!(why, Unknown::Fenced(_)),
        _ => false,
    }
}

#[test]
fn a_panic_in_a_sync_answers_whoever_waits() {
    let machine = machine();
    machine.panics.arm(Op::Sync, "broken-0/");
    let waiting: Vec<_> = (0..5)
        .map(|n| machine.broken.blocking_start(&plain(&n.to_string())))
        .collect();
    for pending in waiting {
        let Ok(pending) = pending else { continue };
        let error = pending.blocking_wait().unwrap_err();
        assert!(error.is_outcome_unknown() && is_fenced(&error), "{error}");
    }
    machine.check(1);
}

#[test]
fn a_panic_while_the_mark_is_written_or_a_segment_sealed_fences_the_log() {
    for (op, prefix) in [
        (Op::Write, "broken-0/marks"),
        (Op::Cut, "broken-0/"),
        (Op::Create, "broken-0/00000000000000000000.footer"),
        (Op::Create, "broken-0/00000000000000000000.index"),
    ] {
        let machine = machine();
        machine.panics.arm(op, prefix);
        let mut answered = 1;
        let error = loop {
            let value = format!("{answered:0400}");
            match machine.broken.blocking_append(&plain(&value)) {
                Ok(at) => answered = at.offset as usize + 1,
                Err(error) => break error,
            }
            assert!(answered < 10_000, "{op:?} {prefix}");
        };
        assert!(is_fenced(&error), "{error}");
        machine.check(answered);
    }
}

#[test]
fn a_panic_while_a_segment_is_prepared_answers_whoever_waits_for_it() {
    for op in [Op::Create, Op::Prepare] {
        let machine = machine();
        machine.panics.arm(op, "broken-0/next-");
        let mut answered = 1;
        let error = loop {
            let value = format!("{answered:0400}");
            match machine.broken.blocking_append(&plain(&value)) {
                Ok(at) => answered = at.offset as usize + 1,
                Err(error) => break error,
            }
            assert!(answered < 10_000, "{op:?}");
        };
        assert!(is_fenced(&error), "{error}");
        machine.check(answered);
    }
}

#[test]
fn a_panic_while_producers_move_to_disk_fences_the_log() {
    let machine = machine();
    machine.panics.arm(Op::Create, "broken-0/evicted");
    let mut outcomes =
        (0..1_000).map(|id| machine.broken.blocking_append(&numbered(id, 0, &["v"])));
    let error = outcomes.find_map(Result::err);
    drop(outcomes);
    let error = error.unwrap();
    assert!(is_fenced(&error), "{error}");
    machine.check(1);
}

#[test]
fn a_panic_while_ids_are_reserved_costs_one_answer_and_no_log() {
    let world = World::new();
    let panics = Arc::new(PanicAt::default());
    let builder = world.hooked(panics.clone());
    let engine = builder
        .append_timeout(Duration::from_secs(100))
        .open()
        .unwrap();
    panics.arm(Op::Sync, "producer-ids");
    let ids: Vec<_> = (0..3_000)
        .filter_map(|_| engine.session().ok())
        .map(|session| session.producer_id())
        .collect();
    assert!(!panics.is_armed(), "it never panicked");
    assert!(ids.len() >= 2_000, "{}", ids.len());
    assert!(ids.is_sorted_by(|a, b| a < b));
    let partition = crate::world::one_partition(&engine, Ack::Synced);
    partition.blocking_append(&plain("x")).unwrap();
    engine.close().unwrap();
}

#[test]
fn a_panic_in_closing_one_log_closes_the_others() {
    let machine = machine();
    machine
        .broken
        .blocking_append(&numbered(7, 0, &["v"]))
        .unwrap();
    machine
        .panics
        .arm(Op::Create, "broken-0/00000000000000000002.snapshot");
    let error = machine.engine.close().unwrap_err();
    assert!(error.to_string().contains("the disk panics at"), "{error}");
    assert!(!machine.panics.is_armed());
    let engine = machine.world.after_power_cut().open();
    assert_eq!(read(&engine, "broken", 0).len(), 2);
    let clean: Vec<_> = engine
        .opened()
        .logs
        .iter()
        .map(|(name, opened)| (name.as_str(), opened.files.clean))
        .collect();
    assert_eq!(clean, [("broken-0", false), ("sound-0", true)]);
}

#[test]
fn a_panic_leaves_nothing_locked() {
    let machine = machine();
    machine.panics.arm(Op::Sync, "broken-0/");
    assert!(machine.broken.blocking_append(&plain("x")).is_err());
    // The topic can be described, read, deleted, and made again.
    assert_eq!(read(&machine.engine, "broken", 0).len(), 1);
    machine.engine.delete_topic("broken").unwrap();
    let names = machine.world.disk.list("").unwrap();
    assert!(names.iter().all(|entry| entry.name != "broken-0"));
    let topic = machine
        .engine
        .create_topic("broken", 1, config(Ack::Synced))
        .unwrap();
    let partition = topic.partition(0).unwrap();
    partition.blocking_append(&plain("x")).unwrap();
    machine.engine.close().unwrap();
}

// The file has the batch, and what the log knows of its producers has not.
#[test]
fn a_panic_in_an_append_fences_the_log_and_answers_whoever_waits() {
    let machine = machine();
    let gate = machine.world.disk.hold_syncs();
    let pending = machine.broken.blocking_start(&plain("waits")).unwrap();
    gate.wait_until_syncs_wait(1);
    machine.panics.arm_append();
    let append = || machine.broken.blocking_start(&numbered(7, 0, &["v"]));
    assert!(catch_unwind(AssertUnwindSafe(append)).is_err());
    // The sync does not return, so nobody but the panic can wake it.
    let (done, answer) = channel();
    thread::spawn(move || done.send(pending.blocking_wait()));
    let answer = answer.recv_timeout(Duration::from_secs(60)).unwrap();
    let error = answer.unwrap_err();
    assert!(error.is_outcome_unknown() && is_fenced(&error), "{error}");
    drop(gate);
    // Neither taken again nor called a duplicate.
    let again = machine.broken.blocking_append(&numbered(7, 0, &["v"]));
    assert!(is_fenced(&again.unwrap_err()));
    machine.check(1);
}

#[test]
fn an_append_while_the_application_unwinds_fences_nothing() {
    struct Appends<'a>(&'a Partition);
    impl Drop for Appends<'_> {
        fn drop(&mut self) {
            self.0.blocking_append(&plain("while it unwinds")).unwrap();
        }
    }
    let machine = machine();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _appends = Appends(&machine.broken);
        panic!("of the application");
    }));
    assert!(unwound.is_err());
    machine.broken.blocking_append(&plain("goes on")).unwrap();
    machine.engine.close().unwrap();
}
