//! A named producer whose process ends at any step: what is sent again, from the start or from
//! where it says, is stored exactly once.

use std::io;
use std::sync::Arc;

use log_engine::storage::MemoryDisk;
use log_engine::{Ack, Engine};
use parking_lot::Mutex;

use crate::hooked_disk::{Hook, Op};
use crate::names::{check_all, open, send, send_all};
use crate::world::{World, config, read};

/// Takes an image of the disk before a step.
struct Crash {
    disk: MemoryDisk,
    steps_left: Mutex<Option<u64>>,
    images: Mutex<Option<(MemoryDisk, MemoryDisk)>>,
}

impl Crash {
    fn at(world: &World, step: u64) -> Arc<Crash> {
        Arc::new(Crash {
            disk: world.disk.clone(),
            steps_left: Mutex::new(Some(step)),
            images: Mutex::default(),
        })
    }

    fn is_over(&self) -> bool {
        self.images.lock().is_some()
    }
}

impl Hook for Crash {
    fn before(&self, _: Op, _: &str) -> io::Result<()> {
        let mut left = self.steps_left.lock();
        match &mut *left {
            Some(0) => {
                *left = None;
                // Locked first, so that who is answered meanwhile sees that it is being taken.
                let mut images = self.images.lock();
                *images = Some((self.disk.after_kill(), self.disk.after_power_cut()));
            }
            Some(n) => *n -= 1,
            None => {}
        }
        Ok(())
    }
}

const LINES: u64 = 40;

fn engine(world: &World, crash: Arc<Crash>, ack: Ack) -> Engine {
    let engine = world.hooked(crash).open().unwrap();
    if engine.topic("t").is_err() {
        let mut settings = config(ack);
        settings.set("segment.bytes", "4096").unwrap();
        engine.create_topic("t", 3, settings).unwrap();
    }
    engine
}

// Sends the source, with a few batches in flight; returns how many were answered in order before
// the crash.
fn run(engine: &Engine, crash: &Crash) -> u64 {
    let producer = open(engine);
    let mut answered = 0;
    for from in (producer.resume_from()..LINES).step_by(8) {
        let until = (from + 8).min(LINES);
        let tickets: Vec<_> = (from..until).map(|n| send(&producer, n).unwrap()).collect();
        for ticket in tickets {
            ticket.blocking_wait().unwrap();
        }
        if crash.is_over() {
            break;
        }
        answered = until;
    }
    answered
}

// What a crash left: nothing twice, and everything below the position to go on from.
fn check_left(engine: &Engine, answered: u64, what: &str) {
    let mut found: Vec<u64> = (0..3)
        .flat_map(|partition| read(engine, "t", partition))
        .map(|(_, value)| value.parse().unwrap())
        .collect();
    found.sort_unstable();
    assert!(
        found.windows(2).all(|pair| pair[0] < pair[1]),
        "{what}: {found:?}"
    );
    let from = open(engine).resume_from();
    let lower = found.iter().filter(|n| **n < from).count() as u64;
    assert_eq!(
        lower,
        from.min(LINES),
        "{what}: resumes from {from} of {found:?}"
    );
    assert!(
        found.iter().filter(|n| **n < answered).count() as u64 == answered,
        "{what}"
    );
}

#[test]
fn a_crash_at_any_step_loses_and_repeats_nothing() {
    for ack in [Ack::Synced, Ack::Memory] {
        let mut step = 0;
        loop {
            let world = World::new();
            let crash = Crash::at(&world, step);
            let first = engine(&world, crash.clone(), ack);
            let answered = run(&first, &crash);
            first.close().unwrap();
            let Some((killed, cut)) = crash.images.lock().take() else {
                break;
            };
            for (kind, disk) in [("killed", killed), ("cut", cut)] {
                if kind == "cut" && ack == Ack::Memory {
                    continue;
                }
                let what = format!("{ack}, {kind} at step {step}");
                let world = World::on(disk);
                // No crash any more.
                let crash = Crash::at(&world, u64::MAX);
                let second = engine(&world, crash, ack);
                check_left(&second, answered, &what);
                let producer = open(&second);
                // From the start, or from where it says.
                let from = if step % 2 == 0 {
                    0
                } else {
                    producer.resume_from()
                };
                send_all(&producer, from..LINES);
                check_all(&second, LINES);
                producer.blocking_close().unwrap();
                second.close().unwrap();
            }
            step += 1;
        }
        assert!(step > 40, "{step} steps");
    }
}

#[test]
fn crashes_one_after_the_other_lose_and_repeat_nothing() {
    for round in 0..60_u64 {
        let mut world = World::new();
        let mut answered = 0;
        for crash_number in 0..6_u64 {
            // Steps that differ from round to round, and reach into the next recovery.
            let step = (round * 7 + crash_number * 13) % 60;
            let crash = Crash::at(&world, step);
            let engine = engine(&world, crash.clone(), Ack::Synced);
            let what = format!("round {round}, crash {crash_number}");
            if !crash.is_over() {
                check_left(&engine, answered, &what);
                answered = answered.max(run(&engine, &crash));
            }
            engine.close().unwrap();
            let images = crash.images.lock().take();
            if let Some((killed, cut)) = images {
                world = World::on(if (round + crash_number) % 2 == 0 {
                    cut
                } else {
                    killed
                });
            }
        }
        let crash = Crash::at(&world, u64::MAX);
        let engine = engine(&world, crash, Ack::Synced);
        send_all(&open(&engine), 0..LINES);
        check_all(&engine, LINES);
    }
}
