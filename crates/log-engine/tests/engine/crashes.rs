//! Crashes at random steps: what was answered is there once, in order, and nothing else is.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use log_engine::storage::MemoryDisk;
use log_engine::{Ack, AppendError};
use parking_lot::Mutex;

use crate::hooked_disk::{Hook, Op};
use crate::world::{World, config, numbered, read};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// Takes one image of the disk, at a step that is drawn, before that step is done.
struct Crash {
    disk: MemoryDisk,
    steps_left: Mutex<Option<u64>>,
    image: Mutex<Option<(MemoryDisk, MemoryDisk)>>,
}

impl Hook for Crash {
    fn before(&self, _: Op, _: &str) -> io::Result<()> {
        let mut left = self.steps_left.lock();
        match &mut *left {
            Some(0) => {
                *left = None;
                // Locked first, so that whoever appends meanwhile sees that it is being taken.
                let mut image = self.image.lock();
                *image = Some((self.disk.after_kill(), self.disk.after_power_cut()));
            }
            Some(n) => *n -= 1,
            None => {}
        }
        Ok(())
    }
}

/// What one producer of the run has sent, and how much of it was answered.
#[derive(Default, Clone)]
struct Sent {
    values: Vec<String>,
    answered: usize,
}

// Checks what is there against what was sent, and gives back how many of each producer there are.
fn check(found: &[(u64, String)], sent: &BTreeMap<i64, Sent>, what: &str) -> BTreeMap<i64, usize> {
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for pair in found.windows(2) {
        assert!(pair[0].0 < pair[1].0, "{what}: offsets rise");
    }
    for (offset, value) in found {
        let id: i64 = value.split(' ').next().unwrap().parse().unwrap();
        let count = counts.entry(id).or_default();
        let expected = sent.get(&id).and_then(|s| s.values.get(*count));
        assert_eq!(expected, Some(value), "{what}: at offset {offset} (I2, I3)");
        *count += 1;
    }
    for (id, sent) in sent {
        let there = counts.get(id).copied().unwrap_or(0);
        assert!(
            there >= sent.answered,
            "{what}: {there} of {} answered (I1)",
            sent.answered
        );
    }
    counts
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let ack = [Ack::Synced, Ack::Interval, Ack::Memory][random.below(3) as usize];
    let mut world = World::new();
    let mut sent: BTreeMap<i64, Sent> = BTreeMap::new();
    for round in 0..4 {
        let what = format!("seed {seed}, {ack}, round {round}");
        let crash = Arc::new(Crash {
            disk: world.disk.clone(),
            steps_left: Mutex::new(Some(random.below(120))),
            image: Mutex::default(),
        });
        // The drawn step may lie in the open itself: then recovery is interrupted (I23).
        let engine = world.hooked(crash.clone()).open().unwrap();
        if engine.topic("t").is_err() {
            let mut config = config(ack);
            config.set("segment.bytes", "4096").unwrap();
            engine.create_topic("t", 1, config).unwrap();
        }
        // What is there now is what a crash must have kept; more may come.
        let counts = check(&read(&engine, "t", 0), &sent, &what);
        let partition = engine.topic("t").unwrap().partition(0).unwrap();
        for (id, known) in &mut sent {
            known.values.truncate(counts.get(id).copied().unwrap_or(0));
            known.answered = 0;
        }
        let id = engine.session().unwrap().producer_id();
        assert!(!sent.contains_key(&id), "{what}: id {id} was used (I15)");
        // An id that was handed out after the image was taken may be handed out again.
        let counts_for_the_image = crash.image.lock().is_none();
        let mut now = Sent::default();
        let mut sequence = 0;
        while crash.image.lock().is_none() {
            let count = 1 + random.below(3) as usize;
            let fill = "x".repeat(random.below(300) as usize);
            let values: Vec<String> = (0..count)
                .map(|n| format!("{id} {} {fill}", now.values.len() + n))
                .collect();
            let refs: Vec<&str> = values.iter().map(String::as_str).collect();
            let batch = numbered(id, sequence, &refs);
            now.values.extend(values.iter().cloned());
            // Before the call, so that an image taken during it counts the batch as sent alone.
            let answered = now.values.len();
            let at = partition.blocking_append(&batch).unwrap();
            if crash.image.lock().is_some() {
                break;
            }
            now.answered = answered;
            if random.below(4) == 0 {
                let again = partition.blocking_append(&batch).unwrap();
                assert_eq!((again.offset, again.duplicate), (at.offset, true), "{what}");
            }
            sequence += count as i32;
        }
        if counts_for_the_image {
            sent.insert(id, now);
        }
        let (killed, cut) = crash.image.lock().take().unwrap();
        engine.close().unwrap();
        let is_cut = random.below(2) == 1;
        if is_cut && ack != Ack::Synced {
            // A power cut may take what was answered at the weaker levels, off the end.
            sent.values_mut().for_each(|s| s.answered = 0);
        }
        world = World::on(if is_cut { cut } else { killed });
    }
    let engine = world.open();
    if engine.topic("t").is_err() {
        // Each crash came before the topic was whole.
        assert!(sent.values().all(|s| s.answered == 0), "seed {seed}");
        return;
    }
    check(&read(&engine, "t", 0), &sent, &format!("seed {seed}, end"));
    // The newest batch of the last producer is known, or was never there.
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    for view in partition.producers().unwrap() {
        let stale = partition.blocking_append(&numbered(view.producer_id, 1_000_000, &["x"]));
        let refused = matches!(stale, Err(AppendError::Rejected { .. }));
        assert!(refused, "seed {seed}: {stale:?}");
    }
}

#[test]
fn crashes_at_random_steps_lose_and_repeat_nothing() {
    for seed in 0..150 {
        run(seed);
    }
}

#[test]
fn case_098_a_batch_that_was_durable_but_never_answered_is_a_repeat_afterwards() {
    let world = World::new();
    let engine = world.open();
    let partition = crate::world::one_partition(&engine, Ack::Synced);
    let id = engine.session().unwrap().producer_id();
    let batch = numbered(id, 0, &["once", "twice"]);
    // The answer is thrown away, once it is there.
    let pending = partition.blocking_start(&batch).unwrap();
    while !pending.is_done() {
        std::thread::yield_now();
    }
    drop(pending);
    let engine = world.after_power_cut().open();
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    let again = partition.blocking_append(&batch).unwrap();
    assert_eq!(
        (again.offset, again.last_offset, again.duplicate),
        (1, 2, true)
    );
    assert_eq!(read(&engine, "t", 0).len(), 3);
}
