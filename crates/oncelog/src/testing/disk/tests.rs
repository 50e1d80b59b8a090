//! The contract of every disk, and what this one does beyond it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and counts little"
)]

mod crashes;
mod cuts;
mod faults;
mod traces;

// The contract finds these beside itself.
use log_engine::storage::{DirectoryEntry, Disk, DiskFile, Prepare};

#[path = "../../../../segment-storage/src/disk/contract.rs"]
mod contract;

use std::io::ErrorKind;
use std::sync::Arc;

use super::*;

#[test]
fn keeps_the_contract() {
    for file_system in [FileSystem::Ordered, FileSystem::Loose, FileSystem::Strict] {
        contract::check(|| (Box::new(SimulatedDisk::new(1).on(file_system)), ()));
    }
}

// What the system writes back by itself is nothing that programs see.
#[test]
fn keeps_the_contract_while_the_system_writes_back() {
    for seed in 0..50 {
        contract::check(|| {
            let disk = SimulatedDisk::new(seed);
            disk.set_faults(Faults {
                write_back: 0.5,
                ..Faults::NONE
            });
            (Box::new(disk), ())
        });
    }
}

fn written(disk: &SimulatedDisk, name: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.create(name, 0).unwrap();
    file.write_at(bytes, b"", 0).unwrap();
    file
}

// A file that is durable, name and contents.
fn durable(disk: &SimulatedDisk, name: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    disk.write_file(name, bytes).unwrap();
    disk.open(name).unwrap()
}

fn names(disk: &SimulatedDisk, directory: &str) -> Vec<String> {
    let entries = disk.list(directory).unwrap().into_iter();
    entries.map(|entry| entry.name).collect()
}

// Every outcome of `seeds` power cuts, and how often it came.
fn outcomes<T: Ord>(
    disk: &SimulatedDisk,
    seeds: u64,
    look: impl Fn(&SimulatedDisk) -> T,
) -> std::collections::BTreeMap<T, u32> {
    let mut found = std::collections::BTreeMap::new();
    for seed in 0..seeds {
        *found.entry(look(&disk.power_cut(seed))).or_insert(0) += 1;
    }
    found
}
