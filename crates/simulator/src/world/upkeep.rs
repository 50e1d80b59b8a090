//! What an operator does beside the clients: backups, which are restored and compared, and repairs of
//! directories that are not damaged.

use std::collections::BTreeMap;
use std::sync::Arc;

use oncelog::inspect::{Depth, RepairOptions, RepairReport, repair_env, verify_disk};
use oncelog::storage::Disk;
use oncelog::testing::SimulatedDisk;
use oncelog::{Engine, Env};

use super::World;
use super::crash::batches_of;
use crate::model::End;
use crate::random::Random;
use crate::violation::{Violation, violated};

impl World {
    /// Makes a backup while the engine works, restores it, and holds it against the models.
    pub(crate) fn back_up(&mut self, random: &mut Random) -> Result<(), Violation> {
        let copy: Arc<dyn Disk> = Arc::new(SimulatedDisk::new(random.any()));
        let made = self.engine()?.snapshot_to_disk(&copy);
        let report = match made {
            Ok(report) => report,
            Err(_) if self.may_fail() => return Ok(()),
            Err(error) => return violated("I19", format!("no backup: {error}")),
        };
        let ends = &report.end_offsets;
        self.event(format_args!("backup: {ends:?}"));
        self.counts.backups += 1;
        let restored = Engine::with_env(self.env(copy)).driven().open();
        let restored = match restored {
            Ok(restored) => restored,
            Err(error) => return violated("I19", format!("a backup does not open: {error}")),
        };
        for log in &self.logs {
            let handle = restored
                .topic(log.topic)
                .and_then(|topic| topic.partition(log.partition));
            let start = match handle {
                Ok(handle) => handle.log_start_offset(),
                Err(error) => return violated("I19", format!("lost in a backup: {error}")),
            };
            let found = batches_of(&restored, log.topic, log.partition)?;
            let end = ends.get(&log.model.name).copied();
            log.model.copied(&found, start, end)?;
        }
        match restored.session() {
            Ok(session) if session.producer_id() <= self.highest_id => violated(
                "I19",
                format!("a restored backup gives out id {}", session.producer_id()),
            ),
            Err(error) => violated("I19", format!("no session in a restored backup: {error}")),
            Ok(_) => match restored.close() {
                Err(error) => violated("I19", format!("a restored backup: {error}")),
                Ok(()) => Ok(()),
            },
        }
    }

    /// Repairs what a life left, in which nothing is damaged: nothing is given up, and after a clean
    /// end nothing is touched.
    pub(crate) fn repair(&mut self, disk: &SimulatedDisk, end: End) -> Result<(), Violation> {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        // What remembers producers may hold less than the log says of those that were forgotten, and
        // no check can tell that from damage either.
        let is_touched_by_nobody = end == End::Clean && self.plan.expiry_ms == 0;
        let before = is_touched_by_nobody.then(|| files(disk));
        let problems = verify_disk(&shared, Depth::Batches).map(|report| report.problems);
        let options = RepairOptions {
            apply: true,
            ..RepairOptions::default()
        };
        let report: RepairReport = match repair_env(&self.env(shared), &options) {
            Ok(report) => report,
            Err(error) => return violated("I23", format!("no repair after {end:?}: {error}")),
        };
        self.counts.repairs += 1;
        let steps = &report.steps;
        self.event(format_args!("repair: {steps:?}"));
        // Under the policy kafka a producer that was forgotten may write the same batch again, and no
        // check of the files can tell that from a mistake.
        let may_repeat = self.plan.kafka_unknown == 1 && self.plan.expiry_ms > 0;
        if !report.given_up.is_empty() || (!report.refused.is_empty() && !may_repeat) {
            let RepairReport {
                given_up, refused, ..
            } = &report;
            return violated(
                "I24",
                format!("a repair after {end:?} gives up {given_up:?}, refuses {refused:?}"),
            );
        }
        match before {
            Some(before) if !steps.is_empty() || before != files(disk) => violated(
                "I24",
                format!("a repair after a clean close changes files: {steps:?}, {problems:?}"),
            ),
            _ => Ok(()),
        }
    }

    fn env(&self, disk: Arc<dyn Disk>) -> Env {
        Env {
            disk,
            clock: Arc::new(self.clock.clone()),
            seed: self.seed.wrapping_add(self.lives),
        }
    }
}

/// Everything but the lock, which whoever opens writes.
fn files(disk: &SimulatedDisk) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![String::new()];
    while let Some(directory) = directories.pop() {
        for entry in disk.list(&directory).unwrap_or_default() {
            let path = match directory.is_empty() {
                true => entry.name,
                false => format!("{directory}/{}", entry.name),
            };
            if entry.is_directory {
                directories.push(path);
            } else if path != "lock" {
                let bytes = disk.read_file(&path).unwrap_or_default();
                files.insert(path, bytes);
            }
        }
    }
    files
}
