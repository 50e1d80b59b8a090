//! Every file damaged in many ways, and repairs that are interrupted.

use std::sync::Arc;

use log_engine::inspect::{Depth, RepairOptions, repair_env, verify_disk};
use log_engine::storage::{Disk, MemoryDisk};
use log_engine::{Create, Engine, Env, ManualClock, Record, TopicConfig};

use crate::place::{APPLY, DRY, fill, numbers, small};
use crate::stopping::Stopping;

#[test]
fn a_repair_that_a_power_cut_interrupts_can_be_run_again() {
    let env = |disk: Arc<dyn Disk>| Env {
        disk,
        clock: Arc::new(ManualClock::at(1_700_000_000_000)),
        seed: 3,
    };
    let disk = MemoryDisk::new();
    let engine = Engine::with_env(env(Arc::new(disk.clone())))
        .open()
        .unwrap();
    engine.create_topic("t", 1, small()).unwrap();
    fill(&engine, 0, 900);
    engine.close().unwrap();
    disk.corrupt("t-0/00000000000000000000.log", 70, 1).unwrap();
    disk.corrupt("topics", 12, 1).unwrap();
    disk.corrupt("generation", 30, 1).unwrap();
    disk.corrupt("generation", 542, 1).unwrap();
    let mut calls = 0;
    let mut is_done = false;
    while !is_done {
        for is_kill in [false, true] {
            let cut = disk.after_power_cut();
            let stopping = Stopping::after(cut.clone(), calls);
            is_done = repair_env(&env(Arc::new(stopping)), &APPLY).is_ok();
            let left = if is_kill {
                cut.after_kill()
            } else {
                cut.after_power_cut()
            };
            let dry = repair_env(&env(Arc::new(left.clone())), &DRY).unwrap();
            let report = repair_env(&env(Arc::new(left.clone())), &APPLY).unwrap();
            assert!(report.refused.is_empty(), "after {calls} calls: {report:?}");
            assert_eq!(dry.given_up, report.given_up, "after {calls} calls");
            let shared: Arc<dyn Disk> = Arc::new(left.clone());
            let found = verify_disk(&shared, Depth::Records).unwrap();
            assert!(found.ok, "after {calls} calls: {found:?}");
            let engine = Engine::with_env(env(shared))
                .create(Create::Never)
                .open()
                .unwrap();
            let expected: Vec<u64> = (10..900).collect();
            assert_eq!(numbers(&engine), expected, "after {calls} calls");
        }
        calls += 1;
    }
    assert!(calls > 30, "{calls}");
}

/// Flips of a bit here and there in each file, and files that are cut or missing: whatever it is, a
/// repair leaves a directory that holds and opens, or asks for the producer id floor; and what is
/// read then is what was written, but for what the repair said that it gives up.
#[test]
fn whatever_single_file_is_damaged_a_repair_leaves_a_directory_that_holds() {
    let whole = MemoryDisk::new();
    let env = |disk: &MemoryDisk| Env {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::at(1_700_000_000_000)),
        seed: 3,
    };
    let engine = Engine::with_env(env(&whole)).open().unwrap();
    let mut config = TopicConfig::default();
    config.set("segment.bytes", "4096").unwrap();
    engine.create_topic("t", 1, config).unwrap();
    let producer = engine.producer().name("n").batch_records(2).open().unwrap();
    for n in 0..40 {
        let value = format!("{n:0200}");
        let _ = producer.blocking_send(Record::to("t").value(&value).position(n));
    }
    producer.blocking_close().unwrap();
    engine.close().unwrap();
    let mut paths = Vec::new();
    for entry in whole.list("").unwrap() {
        if entry.is_directory {
            let files = whole.list(&entry.name).unwrap();
            paths.extend(
                files
                    .iter()
                    .map(|file| format!("{}/{}", entry.name, file.name)),
            );
        } else if entry.name != "lock" {
            paths.push(entry.name);
        }
    }
    assert!(paths.len() > 12, "{paths:?}");
    let (mut tried, mut asked) = (0, 0);
    for path in &paths {
        let len = whole.read_file(path).unwrap().len();
        let flips = (0..len).step_by((len / 23).max(1)).map(Damage::Flip);
        let cuts = [0, len / 3, len - 1].map(Damage::Cut);
        for damage in flips.chain(cuts).chain([Damage::Remove, Damage::Grow]) {
            let disk = whole.after_kill();
            damage.inflict(&disk, path);
            let mut report = repair_env(&env(&disk), &APPLY).unwrap();
            if path == "producer-ids" && !report.refused.is_empty() {
                asked += 1;
                let options = RepairOptions {
                    producer_id_floor: Some(1 << 40),
                    ..APPLY
                };
                report = repair_env(&env(&disk), &options).unwrap();
            }
            let what = format!("{path}, {damage:?}: {report:?}");
            assert!(report.refused.is_empty(), "{what}");
            let shared: Arc<dyn Disk> = Arc::new(disk.clone());
            let found = verify_disk(&shared, Depth::Records).unwrap();
            assert!(found.ok, "{what}: {found:?}");
            let engine = Engine::with_env(env(&disk))
                .create(Create::Never)
                .open()
                .unwrap();
            let read = numbers(&engine);
            let lost: Vec<_> = report.given_up.iter().filter_map(|g| g.offsets).collect();
            let expected: Vec<u64> = (0..40)
                .filter(|n| !lost.iter().any(|(from, to)| (*from..*to).contains(n)))
                .collect();
            assert_eq!(read, expected, "{what}");
            assert!(
                lost.len() <= 1 && (lost.is_empty() || path.ends_with(".log")),
                "{what}"
            );
            engine.close().unwrap();
            let found = verify_disk(&shared, Depth::Records).unwrap();
            assert!(found.ok, "{what}: after an open: {found:?}");
            tried += 1;
        }
    }
    assert!(tried > 300 && asked > 0, "{tried} {asked}");
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip(usize),
    Cut(usize),
    Grow,
    Remove,
}

impl Damage {
    fn inflict(self, disk: &MemoryDisk, path: &str) {
        let mut bytes = disk.read_file(path).unwrap();
        match self {
            Damage::Flip(at) => bytes[at] ^= 0x04,
            Damage::Cut(len) => bytes.truncate(len),
            Damage::Grow => bytes.extend_from_slice(&[7; 100]),
            Damage::Remove => return disk.remove(path).unwrap(),
        }
        disk.write_file(path, &bytes).unwrap();
    }
}
