//! Nobody waits for what a log does for itself: seals, snapshots, deletion (I16).

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use log_engine::storage::Disk;
use log_engine::{Ack, AppendError, Engine, Partition};
use parking_lot::{Condvar, Mutex};
use segment_storage::Marks;

use crate::hooked_disk::{Hook, Op};
use crate::world::{World, config, plain, read};

const PATIENCE: Duration = Duration::from_secs(60);

/// Holds calls back whose file's name holds a text.
#[derive(Default)]
struct HoldCalls {
    held: Mutex<Option<(Op, &'static str)>>,
    waiting: Mutex<usize>,
    changed: Condvar,
}

impl HoldCalls {
    fn hold(&self, op: Op, text: &'static str) {
        *self.held.lock() = Some((op, text));
    }

    fn release(&self) {
        *self.held.lock() = None;
        let _waiting = self.waiting.lock();
        self.changed.notify_all();
    }

    fn holds(&self, op: Op, name: &str) -> bool {
        let held = *self.held.lock();
        held.is_some_and(|(held, text)| op == held && name.contains(text))
    }

    fn is_waited_for(&self) -> bool {
        *self.waiting.lock() > 0
    }

    fn wait_until_one_waits(&self) {
        let mut waiting = self.waiting.lock();
        while *waiting == 0 {
            let timeout = self.changed.wait_for(&mut waiting, PATIENCE);
            assert!(!timeout.timed_out(), "no such call was made");
        }
    }
}

impl Hook for HoldCalls {
    fn before(&self, op: Op, name: &str) -> io::Result<()> {
        if !self.holds(op, name) {
            return Ok(());
        }
        let mut waiting = self.waiting.lock();
        *waiting += 1;
        self.changed.notify_all();
        while self.holds(op, name) {
            self.changed.wait(&mut waiting);
        }
        *waiting -= 1;
        Ok(())
    }
}

struct Machine {
    world: World,
    calls: Arc<HoldCalls>,
    engine: Engine,
}

impl Machine {
    fn new(settings: &[(&str, &str)]) -> Machine {
        let world = World::new();
        let calls = Arc::new(HoldCalls::default());
        let engine = world.hooked(calls.clone()).open().unwrap();
        let mut config = config(Ack::Synced);
        config.set("segment.bytes", "4096").unwrap();
        for (key, value) in settings {
            config.set(key, value).unwrap();
        }
        engine.create_topic("t", 1, config).unwrap();
        let machine = Machine {
            world,
            calls,
            engine,
        };
        machine.partition().blocking_append(&large(0)).unwrap();
        machine
    }

    fn partition(&self) -> Partition {
        self.engine.topic("t").unwrap().partition(0).unwrap()
    }
}

fn large(n: u64) -> Vec<u8> {
    plain(&format!("{n:0400}"))
}

// Appends one after the other, each waited for; tells the offset of each.
fn append(partition: Partition, count: u64) -> Receiver<u64> {
    let (done, answered) = channel();
    thread::spawn(move || {
        for n in 0..count {
            let at = partition.blocking_append(&large(n)).unwrap();
            done.send(at.offset).unwrap();
        }
    });
    answered
}

fn answers(answered: &Receiver<u64>, count: u64) {
    for n in 0..count {
        let answer = answered.recv_timeout(PATIENCE);
        assert!(answer.is_ok(), "append {n} waits for the log's upkeep");
    }
}

#[test]
fn appends_at_synced_are_answered_while_the_log_is_sealed() {
    for (op, text) in [
        (Op::Sync, ".snapshot"),
        (Op::Sync, ".footer"),
        (Op::Cut, "t-0/next-"),
    ] {
        let machine = Machine::new(&[]);
        machine.calls.hold(op, text);
        // Nine fit into a segment, and another 50 behind the one that is being sealed.
        let answered = append(machine.partition(), 12);
        answers(&answered, 12);
        machine.calls.wait_until_one_waits();
        let answered = append(machine.partition(), 50);
        answers(&answered, 50);
        assert!(machine.calls.is_waited_for(), "{op:?} {text}");
        machine.calls.release();
        machine.engine.close().unwrap();
        let engine = machine.world.after_power_cut().open();
        assert!(engine.opened().logs.iter().all(|(_, log)| log.files.clean));
        assert_eq!(read(&engine, "t", 0).len(), 63);
    }
}

#[test]
fn appends_at_synced_are_answered_while_the_log_deletes() {
    let machine = Machine::new(&[("retention.bytes", "9000")]);
    answers(&append(machine.partition(), 60), 60);
    machine.calls.hold(Op::Remove, ".log");
    machine.world.clock.advance(10_000);
    machine.calls.wait_until_one_waits();
    answers(&append(machine.partition(), 50), 50);
    assert!(machine.calls.is_waited_for());
    machine.calls.release();
    machine.engine.close().unwrap();
    let engine = machine.world.after_power_cut().open();
    let left = read(&engine, "t", 0);
    assert_eq!(left.last().unwrap().0, 110);
    assert!(left.len() < 111, "nothing was deleted");
}

#[test]
fn other_logs_are_synced_while_as_many_as_may_be_are_sealed() {
    let machine = Machine::new(&[]);
    machine.calls.hold(Op::Sync, ".footer");
    let mut settings = config(Ack::Synced);
    settings.set("segment.bytes", "4096").unwrap();
    let many = machine.engine.create_topic("many", 12, settings).unwrap();
    for index in 0..12 {
        answers(&append(many.partition(index).unwrap(), 12), 12);
    }
    machine.calls.wait_until_one_waits();
    answers(&append(machine.partition(), 50), 50);
    machine.calls.release();
    machine.engine.close().unwrap();
}

// What a close has to seal, and an open after a crash to scan, is bounded.
#[test]
fn appends_that_outrun_the_seals_of_their_log_wait_for_them() {
    let machine = Machine::new(&[("ack", "memory")]);
    machine.calls.hold(Op::Sync, ".footer");
    let answered = append(machine.partition(), 1_000);
    let mut before = 0;
    while answered.recv_timeout(Duration::from_secs(3)).is_ok() {
        before += 1;
    }
    // Eight or nine to each of 64 segments that wait, of the one in use, and of the one being sealed.
    assert!((8 * 60..9 * 66).contains(&before), "{before}");
    let pending = machine.partition().try_append(&large(0)).err();
    assert!(
        matches!(pending, Some(AppendError::NotReady { .. })),
        "{pending:?}"
    );
    machine.calls.release();
    answers(&answered, 1_000 - before);
    machine.engine.close().unwrap();
    assert_eq!(
        read(&machine.world.after_power_cut().open(), "t", 0).len(),
        1_001
    );
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        thread::yield_now();
    }
}

// The batch that begins a segment also has the one before it sealed, a moment later.
#[test]
fn a_segment_that_one_batch_began_is_rolled_when_its_time_comes() {
    let machine = Machine::new(&[("segment.ms", "60000")]);
    let files = |suffix: &str| {
        let entries = machine.world.disk.list("t-0").unwrap();
        let names = entries.iter().map(|entry| &entry.name);
        names.filter(|name| name.ends_with(suffix)).count()
    };
    let mark = || {
        let disk: Arc<dyn Disk> = Arc::new(machine.world.disk.clone());
        let marks = Marks::open(&disk, "t-0").unwrap();
        marks.mark().unwrap()
    };
    while files(".log") < 2 {
        answers(&append(machine.partition(), 1), 1);
    }
    wait_until("the first segment is sealed", || {
        files(".footer") == 1 && mark().segment_base > 0
    });
    let end = machine.partition().log_end_offset();
    assert_eq!(mark().next_offset, end, "one batch is in the new segment");
    // The clock begins at 0, which means never, so the first append is at 1.
    machine.world.clock.advance(60_001);
    wait_until("the second segment is sealed", || files(".footer") == 2);
    machine.engine.close().unwrap();
}
