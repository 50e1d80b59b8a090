//! Lives of the engine: how one ends, and what the next one must find.

use std::sync::Arc;

use oncelog::testing::SimulatedDisk;
use oncelog::{Engine, Env, Start};

use super::World;
use super::inside::Inside;
use crate::batch::SeenBatch;
use crate::model::End;
use crate::random::Random;
use crate::violation::{Violation, violated};

impl World {
    /// Opens the engine on what the disk holds.
    pub(crate) fn open(&mut self) -> Result<(), Violation> {
        self.lives += 1;
        self.inside.disarm();
        self.inside.watch(&self.disk, &self.clock);
        let env = Env {
            disk: Arc::new(self.disk.clone()),
            clock: Arc::new(self.clock.clone()),
            seed: self.seed.wrapping_add(self.lives),
        };
        let builder = Engine::with_env(env)
            .transport(self.network.clone())
            .driven();
        match builder.open() {
            Ok(engine) => {
                for (log, opened) in &engine.opened().logs {
                    self.event(format_args!("{log} opens: {opened:?}"));
                }
                self.engine = Some(engine);
                Ok(())
            }
            Err(error) => violated("I20", format!("it does not open: {error}")),
        }
    }

    /// Ends this life in one of three ways and begins the next.
    pub(crate) fn crash(&mut self, random: &mut Random) -> Result<(), Violation> {
        let power = random.chance(self.plan.power);
        let clean = !power && random.chance(300);
        let end = match (power, clean) {
            (true, _) => End::Power,
            (_, true) => End::Clean,
            _ => End::Kill,
        };
        let seed = random.any();
        if random.chance(self.plan.crash_inside) {
            let end = if clean { End::Kill } else { end };
            self.event(format_args!("will end: {end:?}"));
            self.inside.arm(end, seed);
            return Ok(());
        }
        self.end(end, seed)
    }

    /// Ends this life in a way and begins the next.
    pub(crate) fn end(&mut self, end: End, seed: u64) -> Result<(), Violation> {
        let engine = self.engine()?;
        self.inside.disarm();
        let next = match end {
            End::Clean => {
                let closed = engine.close();
                if let Err(error) = &closed
                    && !self.may_fail()
                {
                    return violated("I13", format!("it does not close: {error}"));
                }
                self.disk.kill()
            }
            End::Kill => self.disk.kill(),
            End::Power => self.disk.power_cut(seed),
        };
        drop(engine);
        self.ends_with(end, next)
    }

    /// Ends this life; the next one finds what is left of the disk.
    pub(crate) fn ends_with(&mut self, end: End, next: SimulatedDisk) -> Result<(), Violation> {
        self.event(format_args!("ends: {end:?}"));
        let end = match end {
            End::Clean if self.may_fail() => End::Kill,
            end => end,
        };
        // After a failed sync nothing is believed but what the device has.
        let end = if self.has_failed_sync {
            End::Power
        } else {
            end
        };
        match end {
            End::Power => self.counts.power_cuts += 1,
            End::Kill | End::Clean => self.counts.kills += 1,
        }
        let gone = self.engine.clone();
        self.drop_process();
        Inside::forget(&self.disk);
        // What the dead process still has to send would keep it for ever. Whatever this does reaches the old disk, which nobody
        // looks at again.
        if let Some(gone) = gone {
            let _ = gone.close();
            self.network.process_ended();
        }
        next.fail_syncs(0);
        next.fail_name_syncs(0);
        next.set_free_bytes(None);
        // From a stream of its own, as backups are: without repairs all is as it was.
        let mut upkeep = Random::of_step(self.seed, "repair", self.lives);
        if upkeep.chance(self.plan.repair) {
            self.repair(&next, end)?;
        }
        self.disk = next;
        (self.has_failed_sync, self.is_full) = (false, false);
        self.open()?;
        self.look_at_topics()?;
        self.compare(end)
    }

    // All that lived in the process is gone; what it does while it is dropped reaches the old disk.
    fn drop_process(&mut self) {
        for log in &mut self.logs {
            log.handle = None;
            log.reader = None;
        }
        self.forget_waiting();
        self.embedded_lost();
        self.named_lost();
        self.consumers_lost();
        self.engine = None;
        self.network.process_ended();
    }

    // Holds every log against its model.
    fn compare(&mut self, end: End) -> Result<(), Violation> {
        let mut turns = 0..100_000;
        while turns.next().is_some_and(|choice| {
            self.engine
                .as_ref()
                .is_some_and(|engine| engine.step(choice))
        }) {}
        for log in 0..self.logs.len() {
            let start = self.handle(log)?.log_start_offset();
            let found = self.batches(log)?;
            let ids = (self.highest_id, self.engine_ms());
            self.counts.read += found
                .iter()
                .map(|batch| u64::from(batch.count))
                .sum::<u64>();
            let held = found.len();
            self.logs[log].model.recovered(&found, start, end, ids)?;
            let (name, next) = (
                self.logs[log].model.name.clone(),
                self.logs[log].model.end(),
            );
            self.event(format_args!(
                "{name} holds {held} batches, {start} to {next}"
            ));
        }
        self.check_names()?;
        self.judge_consumers()
    }

    /// All batches of a log that can be read.
    pub(crate) fn batches(&self, log: usize) -> Result<Vec<SeenBatch>, Violation> {
        let (topic, partition) = (self.logs[log].topic, self.logs[log].partition);
        batches_of(&self.engine()?, topic, partition)
    }
}

/// All batches of an engine's log that can be read.
pub(crate) fn batches_of(
    engine: &Engine,
    topic: &str,
    partition: u32,
) -> Result<Vec<SeenBatch>, Violation> {
    let reader = engine.reader(topic).partition(partition);
    let mut reader = match reader.start(Start::Earliest).open() {
        Ok(reader) => reader,
        Err(error) => return violated("I22", format!("{topic}-{partition}: {error}")),
    };
    let mut found = Vec::new();
    while let Some(batches) = reader.blocking_next_batches() {
        let bytes = match batches {
            Ok(batches) => batches.bytes,
            Err(error) => return violated("I24", format!("{topic}-{partition}: {error}")),
        };
        let mut rest: &[u8] = &bytes;
        while !rest.is_empty() {
            let Some((batch, after)) = SeenBatch::read(rest) else {
                return violated("I4", format!("{topic}-{partition}: part of a batch"));
            };
            found.push(batch);
            rest = after;
        }
    }
    Ok(found)
}
