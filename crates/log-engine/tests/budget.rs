//! The producer budget through the engine: above `producers.max` producers move to disk by
//! themselves, and no answer changes.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

#[path = "../../../tests/harness/hooked_disk.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the end-to-end tests; each uses a part"
)]
mod hooked_disk;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use log_engine::storage::{Disk, MemoryDisk};
use log_engine::{
    Ack, Action, AppendError, BatchBuilder, Engine, Env, ManualClock, Partition,
    PartitionDescription, ProducerIdentity, Record, Rejection, Resolution, TopicConfig,
};

use hooked_disk::{Hook, HookedDisk, Op};

const EXPIRY_MS: u32 = 5_000_000;

/// Ids that the engine does not hand out here.
const HIGH: i64 = 1 << 40;

#[derive(Clone)]
struct World {
    disk: MemoryDisk,
    clock: ManualClock,
}

impl World {
    fn new() -> World {
        World::on(MemoryDisk::new())
    }

    fn on(disk: MemoryDisk) -> World {
        let clock = ManualClock::at(1_700_000_000_000);
        World { disk, clock }
    }

    fn open_on(&self, disk: Arc<dyn Disk>) -> Engine {
        let clock = Arc::new(self.clock.clone());
        let env = Env {
            disk,
            clock,
            seed: 7,
        };
        Engine::with_env(env).open().unwrap()
    }

    fn open(&self) -> Engine {
        self.open_on(Arc::new(self.disk.clone()))
    }
}

fn topic(engine: &Engine, ack: Ack) -> Partition {
    let mut config = TopicConfig::default().with_ack(ack);
    config.set("producers.max", "16").unwrap();
    let expiry = EXPIRY_MS.to_string();
    config.set("producer.id.expiration.ms", &expiry).unwrap();
    let topic = engine.create_topic("t", 1, config).unwrap();
    topic.partition(0).unwrap()
}

fn again(engine: &Engine) -> Partition {
    engine.topic("t").unwrap().partition(0).unwrap()
}

fn batch(producer_id: i64, sequence: i32) -> Vec<u8> {
    let identity = ProducerIdentity {
        producer_id,
        producer_epoch: 0,
        base_sequence: sequence,
    };
    let mut batch = BatchBuilder::new();
    let value = format!("{producer_id}:{sequence}");
    batch.push(0, None, Some(value.as_bytes()), &[]).unwrap();
    batch.build(Some(identity)).unwrap().to_vec()
}

fn describe(engine: &Engine) -> PartitionDescription {
    let described = engine.topic("t").unwrap().describe();
    described.partitions.into_iter().next().unwrap()
}

/// Lets time pass a second at a time, as housekeeping counts it, until something holds.
fn until(world: &World, what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(
            Instant::now() < patience,
            "not before the time is over: {what}"
        );
        // In a minute less passes than what producers expire after.
        world.clock.advance(1_000);
        thread::park_timeout(Duration::from_millis(20));
    }
}

fn moved(world: &World, engine: &Engine) {
    until(world, "the budget is kept", || {
        let found = describe(engine);
        found.producers - found.producers_evicted <= 16
    });
}

fn check(partition: &Partition, producers: i64, next: i32) {
    for id in (0..producers).rev().filter(|_| next > 0) {
        for sequence in 0..next {
            let repeat = partition.blocking_append(&batch(id, sequence)).unwrap();
            assert!(repeat.duplicate, "{id}:{sequence}");
        }
        let gap = partition.blocking_append(&batch(id, next + 1)).unwrap_err();
        assert!(
            matches!(
                gap,
                AppendError::Rejected {
                    rejection: Rejection::OutOfOrder { expected, .. },
                    ..
                } if expected == next
            ),
            "{id}: {gap}"
        );
    }
}

#[test]
fn producers_above_the_budget_are_on_disk_and_known() {
    let world = World::new();
    let engine = world.open();
    let partition = topic(&engine, Ack::Synced);
    for id in 0..200 {
        let appended = partition.blocking_append(&batch(id, 0)).unwrap();
        assert!(!appended.duplicate);
        let found = describe(&engine);
        // At `synced` each batch is visible when it is answered, so the next one makes room.
        assert!(found.producers - found.producers_evicted <= 20, "{found:?}");
    }
    moved(&world, &engine);
    let found = describe(&engine);
    assert_eq!(found.producers, 200);
    assert!(found.producers_evicted >= 184, "{found:?}");
    assert!(found.producer_evictions >= 184, "{found:?}");
    assert_eq!((found.producer_loads, found.producer_rebuilds), (0, 0));
    let ids: Vec<i64> = partition
        .producers()
        .unwrap()
        .iter()
        .map(|p| p.producer_id)
        .collect();
    assert_eq!(ids, (0..200).collect::<Vec<_>>());
    check(&partition, 200, 1);
    let found = describe(&engine);
    assert!(found.producer_loads >= 184, "{found:?}");
    assert_eq!((found.producers, found.log_end_offset), (200, 200));
    engine.close().unwrap();
    let left = world.disk.list("t-0").unwrap();
    assert!(!left.iter().any(|e| e.name.starts_with("evicted")));
}

#[test]
fn a_restart_of_any_kind_keeps_them() {
    let mut world = World::new();
    let mut engine = world.open();
    topic(&engine, Ack::Synced);
    for round in 0..6 {
        let partition = again(&engine);
        check(&partition, 100, round);
        for id in 0..100 {
            let appended = partition.blocking_append(&batch(id, round)).unwrap();
            assert!(!appended.duplicate, "round {round}: {id}");
        }
        let disk = match round % 3 {
            0 => world.disk.after_kill(),
            1 => world.disk.after_power_cut(),
            _ => {
                engine.close().unwrap();
                world.disk.after_kill()
            }
        };
        drop(engine);
        world = World::on(disk);
        engine = world.open();
        let found = describe(&engine);
        assert_eq!((found.producers, found.producers_evicted), (100, 85));
        // A window of five.
        if round == 4 {
            break;
        }
    }
}

#[test]
fn real_files_do_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::with_env(Env::os(directory.path()).unwrap());
    let engine = engine.open().unwrap();
    let partition = topic(&engine, Ack::Memory);
    for id in 0..2_000 {
        partition.blocking_append(&batch(id, 0)).unwrap();
    }
    // Whoever brings one more than a quarter above makes room.
    let found = describe(&engine);
    assert!(found.producers_evicted >= 1_980, "{found:?}");
    assert!(directory.path().join("t-0/evicted").is_file());
    check(&partition, 2_000, 1);
    let found = describe(&engine);
    assert_eq!((found.producers, found.producer_rebuilds), (2_000, 0));
    engine.close().unwrap();
    assert!(!directory.path().join("t-0/evicted").exists());
    let engine = Engine::open(directory.path()).unwrap();
    assert_eq!(describe(&engine).producers_evicted, 1_985);
    check(&again(&engine), 2_000, 1);
}

#[test]
fn a_damaged_file_changes_no_answer() {
    let world = World::new();
    let engine = world.open();
    let partition = topic(&engine, Ack::Synced);
    for id in 0..100 {
        partition.blocking_append(&batch(id, 0)).unwrap();
    }
    moved(&world, &engine);
    let before = partition.producers().unwrap();
    let bytes = world.disk.read_file("t-0/evicted").unwrap().len();
    for position in 0..u64::try_from(bytes).unwrap() {
        world.disk.corrupt("t-0/evicted", position, 0x55).unwrap();
    }
    check(&partition, 100, 1);
    let found = describe(&engine);
    assert!(found.producer_rebuilds > 0, "{found:?}");
    let after = partition.producers().unwrap();
    assert_eq!(after.len(), before.len());
    for (after, before) in after.iter().zip(&before) {
        assert_eq!(after.window, before.window);
    }
}

#[test]
fn whose_time_is_over_is_forgotten_on_disk_too() {
    let world = World::new();
    let engine = world.open();
    let partition = topic(&engine, Ack::Synced);
    for id in 0..100 {
        partition.blocking_append(&batch(id, 0)).unwrap();
    }
    moved(&world, &engine);
    assert_eq!(describe(&engine).producers, 100);
    world.clock.advance(EXPIRY_MS);
    until(&world, "all are forgotten", || {
        describe(&engine).producers == 0
    });
    assert_eq!(partition.producers().unwrap(), []);
    let error = partition.blocking_append(&batch(3, 1)).unwrap_err();
    assert!(
        matches!(
            error,
            AppendError::Rejected {
                rejection: Rejection::Forgotten {
                    producer_id: 3,
                    forgotten_below: 99
                },
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn sessions_and_names_and_ids_of_appends_know_no_difference() {
    let world = World::new();
    let engine = world.open();
    let partition = topic(&engine, Ack::Synced);
    let named = engine.producer().name("n").open().unwrap();
    let first = Record::to("t").value("0").position(0);
    let ticket = named.blocking_send(first).unwrap();
    let id = ticket.id().clone();
    ticket.blocking_wait().unwrap();
    named.blocking_close().unwrap();
    drop(named);
    let session = engine.session().unwrap();
    let mut appender = session.appender("t", 0).unwrap();
    appender
        .blocking_append(&[Record::new().value("s0")])
        .unwrap();
    let session_id = session.producer_id();
    for id in HIGH..HIGH + 100 {
        partition.blocking_append(&batch(id, 0)).unwrap();
    }
    moved(&world, &engine);
    assert!(describe(&engine).producers_evicted > 80);
    let resolved = engine.blocking_resolve(&id).unwrap();
    assert!(matches!(resolved, Resolution::Written { offset: Some(0) }));
    let next = appender
        .blocking_append(&[Record::new().value("s1")])
        .unwrap();
    assert!(!next.duplicate);
    let explained = partition
        .explain(
            ProducerIdentity {
                producer_id: HIGH + 3,
                producer_epoch: 0,
                base_sequence: 0,
            },
            1,
        )
        .unwrap();
    assert_eq!(explained.offset, Some(5));
    // A session that ends is gone from disk as from memory.
    for id in HIGH + 1_000..HIGH + 1_100 {
        partition.blocking_append(&batch(id, 0)).unwrap();
    }
    moved(&world, &engine);
    let known = describe(&engine).producers;
    session.close();
    assert_eq!(describe(&engine).producers, known - 1);
    let left = partition.producers().unwrap();
    assert!(left.iter().all(|view| view.producer_id != session_id));
    let named = engine.producer().name("n").open().unwrap();
    // What it stored before is skipped.
    let end = describe(&engine).log_end_offset;
    let same = Record::to("t").value("0").position(0);
    named.blocking_send(same).unwrap().blocking_wait().unwrap();
    assert_eq!(describe(&engine).log_end_offset, end);
    let next = Record::to("t").value("1").position(1);
    named.blocking_send(next).unwrap().blocking_wait().unwrap();
    assert_eq!(describe(&engine).log_end_offset, end + 1);
}

#[test]
fn many_threads_store_each_batch_once() {
    for ack in [Ack::Memory, Ack::Synced] {
        let world = World::new();
        let engine = world.open();
        let partition = topic(&engine, ack);
        let stored = Arc::new(AtomicU64::new(0));
        let rounds = if ack == Ack::Memory { 100 } else { 20 };
        // Each producer's batches are sent by two threads at once.
        let threads: Vec<_> = (0..8_i64)
            .map(|thread| {
                let (partition, stored) = (partition.clone(), stored.clone());
                thread::spawn(move || {
                    for sequence in 0..rounds {
                        for id in (0..80).filter(|id| id % 4 == thread % 4) {
                            match partition.blocking_append(&batch(id, sequence)) {
                                Ok(appended) => {
                                    let new = u64::from(!appended.duplicate);
                                    stored.fetch_add(new, Ordering::Relaxed);
                                }
                                // The other one is further than the window.
                                Err(AppendError::Rejected { .. }) => {}
                                Err(other) => panic!("{ack} {id}:{sequence}: {other}"),
                            }
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let sent = u64::from(rounds.unsigned_abs()) * 80;
        assert_eq!(stored.load(Ordering::Relaxed), sent, "{ack}");
        let found = describe(&engine);
        assert_eq!((found.log_end_offset, found.producers), (sent, 80));
        assert!(found.producer_loads > 100, "{found:?}");
        for view in partition.producers().unwrap() {
            let newest = view.window.last().unwrap();
            assert_eq!(newest.last_sequence, rounds - 1, "{ack}");
        }
    }
}

/// Refuses writes to the file of producers on disk, or holds them up, while asked to.
#[derive(Default)]
struct Spill {
    is_full: AtomicBool,
    is_held: AtomicBool,
    waiting: AtomicBool,
}

impl Hook for Spill {
    fn before(&self, op: Op, name: &str) -> io::Result<()> {
        if op != Op::Write || !name.starts_with("t-0/evicted") {
            return Ok(());
        }
        while self.is_held.load(Ordering::Acquire) {
            self.waiting.store(true, Ordering::Release);
            thread::yield_now();
        }
        match self.is_full.load(Ordering::Acquire) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

#[test]
fn a_full_disk_refuses_new_producers_alone_and_says_so() {
    let world = World::new();
    let spill = Arc::new(Spill::default());
    let disk = HookedDisk::new(Arc::new(world.disk.clone()), spill.clone());
    let engine = world.open_on(Arc::new(disk));
    let partition = topic(&engine, Ack::Memory);
    spill.is_full.store(true, Ordering::Release);
    for id in 0..20 {
        partition.blocking_append(&batch(id, 0)).unwrap();
    }
    let refused = partition.blocking_append(&batch(20, 0)).unwrap_err();
    assert!(
        matches!(refused, AppendError::Producers { .. }),
        "{refused}"
    );
    assert_eq!(
        (refused.action(), refused.kafka_code()),
        (Action::FreeSpace, 56)
    );
    assert!(!refused.is_outcome_unknown());
    for id in 0..20 {
        partition.blocking_append(&batch(id, 1)).unwrap();
    }
    assert_eq!(describe(&engine).producers, 20);
    spill.is_full.store(false, Ordering::Release);
    assert!(!partition.blocking_append(&batch(20, 0)).unwrap().duplicate);
    moved(&world, &engine);
    check(&partition, 20, 2);
    assert_eq!(describe(&engine).producers, 21);
}

#[test]
fn nobody_in_memory_waits_while_others_are_moved() {
    let world = World::new();
    let spill = Arc::new(Spill::default());
    let disk = HookedDisk::new(Arc::new(world.disk.clone()), spill.clone());
    let engine = world.open_on(Arc::new(disk));
    let partition = topic(&engine, Ack::Memory);
    spill.is_held.store(true, Ordering::Release);
    for id in 0..17 {
        partition.blocking_append(&batch(id, 0)).unwrap();
    }
    until(&world, "producers are being moved", || {
        spill.waiting.load(Ordering::Acquire)
    });
    // Those that are being moved as well; they are newer now, and stay.
    for sequence in 1..100 {
        for id in 0..17 {
            let appended = partition.try_append(&batch(id, sequence)).unwrap();
            assert!(!appended.appended().duplicate);
        }
    }
    spill.is_held.store(false, Ordering::Release);
    moved(&world, &engine);
    for id in 0..17 {
        let newest = partition.blocking_append(&batch(id, 99)).unwrap();
        assert!(newest.duplicate, "{id}");
    }
}

#[test]
fn a_topic_with_producers_on_disk_can_be_deleted_and_made_again() {
    let world = World::new();
    let engine = world.open();
    for _ in 0..3 {
        let partition = topic(&engine, Ack::Memory);
        for id in 0..100 {
            assert!(!partition.blocking_append(&batch(id, 0)).unwrap().duplicate);
        }
        engine.delete_topic("t").unwrap();
        assert!(world.disk.list("t-0").is_err());
        let gone = partition.blocking_append(&batch(0, 0)).unwrap_err();
        assert!(matches!(gone, AppendError::TopicDeleted { .. }), "{gone}");
    }
}

#[test]
fn the_setting_has_a_range() {
    let mut config = TopicConfig::default();
    assert!(
        config
            .entries()
            .contains(&("producers.max", "100000".to_owned()))
    );
    for wrong in ["0", "15", "10000001", "-1"] {
        let error = config.set("producers.max", wrong).unwrap_err().to_string();
        assert!(error.contains("16 to 10000000"), "{error}");
    }
}
