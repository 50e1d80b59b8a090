//! Nobody waits for what a log does for itself: seals, snapshots, deletion (I16).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    fails: AtomicBool,
    changed: Condvar,
}

impl HoldCalls {
    fn hold_instead(&self, op: Op, text: &'static str) {
        *self.held.lock() = Some((op, text));
        let _waiting = self.waiting.lock();
        self.changed.notify_all();
    }

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
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(5));
        }
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

    fn segments(&self) -> usize {
        let entries = self.world.disk.list("t-0").unwrap();
        entries.iter().filter(|e| e.name.ends_with(".log")).count()
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
    wait_until("so many wait", || machine.segments() >= 64);
    let mut before = 0;
    while answered.recv_timeout(Duration::from_secs(1)).is_ok() {
        before += 1;
    }
    // Eight or nine to each of 64 segments that wait, of the one in use, and of the one being sealed.
    assert!((8 * 60..9 * 66).contains(&before), "{before}");
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

#[test]
fn append_that_waits_for_a_seal_is_told_when_the_log_is_fenced() {
    let machine = Machine::new(&[("ack", "memory")]);
    machine.calls.hold(Op::Sync, ".footer");
    wait_until("appends wait for the seals", || {
        let answer = machine.partition().try_append(&large(0));
        matches!(answer, Err(AppendError::NotReady { .. })) && machine.segments() >= 64
    });
    let (done, answered) = channel();
    let partition = machine.partition();
    thread::spawn(move || {
        let error = loop {
            if let Err(error) = partition.blocking_append(&large(0)) {
                break error;
            }
        };
        done.send(error).unwrap();
    });
    machine.calls.fails.store(true, Ordering::SeqCst);
    machine.calls.release();
    let told = answered.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(told, AppendError::LogFenced(_)), "{told:?}");
    let now = machine.partition().try_append(&large(0)).err();
    assert!(matches!(now, Some(AppendError::LogFenced(_))), "{now:?}");
}

fn many(records: u64) -> Vec<u8> {
    let mut batch = log_engine::BatchBuilder::new();
    for _ in 0..records {
        batch.push(1_000, None, Some(b"v"), &[]).unwrap();
    }
    batch.build(None).unwrap().to_vec()
}

// What is sealed is durable, and still not published where the offset ceiling is being raised.
#[test]
fn retention_does_not_go_beyond_what_is_published() {
    let machine = Machine::new(&[
        ("ack", "memory"),
        ("segment.bytes", "16384"),
        ("retention.bytes", "0"),
    ]);
    machine.world.clock.advance(2_000);
    let append = || {
        let batch = many(600);
        wait_until("it is appended", || {
            match machine.partition().try_append(&batch) {
                Ok(_) => true,
                Err(AppendError::NotReady { .. }) => false,
                Err(error) => panic!("{error}"),
            }
        });
    };
    let partition = machine.partition();
    machine.calls.hold(Op::Sync, "marks");
    append();
    machine.calls.wait_until_one_waits();
    // The log goes on beyond the ceiling that is being written.
    for _ in 0..12 {
        append();
    }
    machine.calls.hold_instead(Op::Sync, "t-0/next-4");
    wait_until("the ceiling is raised", || {
        partition.high_watermark() > 1_000
    });
    machine.calls.wait_until_one_waits();
    assert!(partition.high_watermark() < partition.log_end_offset());
    machine.world.clock.advance(10_000);
    let state = || {
        machine.engine.topic("t").unwrap().describe().partitions[0]
            .state
            .clone()
    };
    wait_until("the limits are applied", || {
        partition.log_start_offset() > 0 || state() != "open"
    });
    assert!(partition.log_start_offset() <= partition.high_watermark());
    assert_eq!(state(), "open");
    machine.calls.release();
}

/// A disk on which writing footers takes longer than filling a segment.
#[derive(Default)]
struct SlowFooters(AtomicU64);

impl Hook for SlowFooters {
    fn before(&self, op: Op, name: &str) -> io::Result<()> {
        if op == Op::Sync && name.contains(".footer") {
            self.0.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

#[test]
fn log_that_is_always_being_sealed_is_deleted_from_all_the_same() {
    let world = World::new();
    let slow = Arc::new(SlowFooters::default());
    let engine = world.hooked(slow.clone()).open().unwrap();
    let mut settings = config(Ack::Memory);
    settings.set("segment.bytes", "4096").unwrap();
    settings.set("retention.bytes", "9000").unwrap();
    let topic = engine.create_topic("t", 1, settings).unwrap();
    let partition = topic.partition(0).unwrap();
    let (appends, stop) = (partition.clone(), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let appender = thread::spawn(move || {
        while !stopped.load(Ordering::SeqCst) {
            appends.blocking_append(&large(0)).unwrap();
        }
    });
    let sealed = || slow.0.load(Ordering::SeqCst);
    // So many segments more, and it will never be.
    let within = |what: &str, is_done: &dyn Fn() -> bool| {
        let most = sealed() + 1_000;
        wait_until(what, || is_done() || sealed() > most);
        assert!(is_done(), "{what}");
    };
    wait_until("it is being sealed", || sealed() >= 5);
    world.clock.advance(10_000);
    within("its limits are applied", &|| {
        partition.log_start_offset() > 20
    });
    let (deletes, done) = (partition.clone(), Arc::new(AtomicBool::new(false)));
    let (is_done, start) = (done.clone(), partition.log_end_offset() - 40);
    let deleter = thread::spawn(move || {
        deletes.delete_before(start).unwrap();
        is_done.store(true, Ordering::SeqCst);
    });
    within("a request is answered", &|| done.load(Ordering::SeqCst));
    stop.store(true, Ordering::SeqCst);
    appender.join().unwrap();
    deleter.join().unwrap();
    assert!(partition.log_start_offset() >= start);
}
