//! What happens to consumers, and what the judge says.

use oncelog::{DeadLetter, ReadError};

use super::judge::{missing, once};
use super::{EFFECTS, LETTERS};
use crate::random::Random;
use crate::violation::{Violation, violated};
use crate::world::{World, batches_of};

/// Steps that consumers may take in a calm round.
const CALM_STEPS: u64 = 60;

impl World {
    /// What happens to them beside an operation: from streams of their own, so that without them all is as it was.
    pub(crate) fn operate_consumers(&mut self, step: u64) -> Result<(), Violation> {
        if !self.has_consumers() {
            return Ok(());
        }
        let mut random = Random::of_step(self.seed, "consumers", step);
        for _ in 0..random.between(1, 3) {
            self.operate_consumer(&mut random)?;
        }
        Ok(())
    }

    fn operate_consumer(&mut self, random: &mut Random) -> Result<(), Violation> {
        if random.chance(self.plan.consumer_crash) {
            self.crash_consumer(random);
        }
        match random.below(100) {
            0..25 => self.publish(random)?,
            25..28 => {
                self.event(format_args!("the publisher restarts"));
                self.consumers.publisher.restart();
            }
            28..78 if (self.consumers.workers.len() as u64) < self.plan.consumers => self.hire()?,
            28..78 => {
                let worker = random.place(self.consumers.workers.len());
                self.consumers.workers[worker]
                    .desk
                    .allow(random.between(1, 6));
            }
            78..90 => self.forward(random.between(1, 6)),
            90..94 => self.redrive(random)?,
            94..98 if !self.consumers.frozen.is_empty() => {
                let at = random.place(self.consumers.frozen.len());
                let worker = self.consumers.frozen.swap_remove(at);
                let is_awake = random.chance(600);
                let number = worker.number;
                self.event(format_args!("consumer {number} wakes up: {is_awake}"));
                if is_awake {
                    worker.desk.allow(random.between(1, 8));
                    self.consumers.workers.push(worker);
                }
            }
            _ => self.tidy(),
        }
        Ok(())
    }

    // Where it stands. Its handle on the group goes with it, or it is only silent from then on.
    fn crash_consumer(&mut self, random: &mut Random) {
        if self.consumers.workers.is_empty() {
            return;
        }
        let at = random.place(self.consumers.workers.len());
        let worker = self.consumers.workers.swap_remove(at);
        let is_silent = random.chance(500);
        let (number, point) = (worker.number, worker.desk.point());
        self.counts.consumer_crashes += 1;
        self.event(format_args!(
            "consumer {number} dies at {point:?}, silently: {is_silent}"
        ));
        if is_silent {
            self.consumers.frozen.push(worker);
        }
    }

    fn forward(&mut self, max: u64) {
        if let Some(inbox) = self.consumers.inbox.clone()
            && self.consumers.forwarding.is_none()
        {
            let max = usize::try_from(max).unwrap_or(1);
            self.consumers.forwarding = Some(Box::pin(async move { inbox.forward(max).await }));
        }
    }

    fn tidy(&mut self) {
        if let Some(inbox) = self.consumers.inbox.clone()
            && self.consumers.tidying.is_none()
        {
            self.consumers.tidying = Some(Box::pin(async move { inbox.tidy().await }));
        }
    }

    fn letters(&self) -> Result<Vec<DeadLetter>, Violation> {
        let letters = match self.engine()?.dead_letters(LETTERS) {
            Ok(letters) => letters.collect::<Result<Vec<_>, ReadError>>(),
            Err(error) => return violated("I22", format!("dead letters: {error}")),
        };
        letters.or_else(|error| violated("I22", format!("dead letters: {error}")))
    }

    fn redrive(&mut self, random: &mut Random) -> Result<(), Violation> {
        let letters = self.letters()?;
        if self.consumers.redriving.is_some() || letters.is_empty() {
            return Ok(());
        }
        let letter = letters[random.place(letters.len())].clone();
        let engine = self.engine()?;
        self.consumers.redriving = Some(Box::pin(async move { engine.redrive(&letter).await }));
        Ok(())
    }

    fn effects(&self) -> Result<Vec<u64>, Violation> {
        let batches = batches_of(&self.engine()?, EFFECTS, 0)?;
        Ok(batches.into_iter().flat_map(|b| b.contents).collect())
    }

    /// Looks whether anything happened twice.
    pub(crate) fn judge_consumers(&self) -> Result<(), Violation> {
        if !self.has_consumers() {
            return Ok(());
        }
        let publisher = &self.consumers.publisher;
        once(&self.effects()?, |order| publisher.is_ordered(order)).map(drop)
    }

    /// Looks whether everything happened once.
    pub(crate) fn judge_consumers_at_the_end(&mut self) -> Result<(), Violation> {
        if !self.has_consumers() {
            return Ok(());
        }
        let effects = self.effects()?;
        self.counts.effects = effects.len() as u64;
        let publisher = &self.consumers.publisher;
        let lines = once(&effects, |order| publisher.is_ordered(order))?;
        match missing(&lines, publisher.stored()) {
            None => Ok(()),
            Some(order) => violated("I46", format!("order {order} has no whole effect")),
        }
    }

    /// A round of the calm at the end: whoever died is replaced, whoever froze wakes up, and what is refused is sent again.
    /// Returns whether all is done.
    pub(crate) fn calm_consumers(&mut self, random: &mut Random) -> Result<bool, Violation> {
        if !self.has_consumers() {
            return Ok(true);
        }
        let frozen = std::mem::take(&mut self.consumers.frozen);
        self.consumers.workers.extend(frozen);
        if self.consumers.workers.is_empty() {
            self.hire()?;
        }
        for worker in &self.consumers.workers {
            worker.desk.calm(true);
            worker.desk.allow(CALM_STEPS);
        }
        while self.consumers.publisher.has_doubts() {
            let before = self.consumers.publisher.is_done();
            self.publish(random)?;
            if before == self.consumers.publisher.is_done() {
                break;
            }
        }
        self.forward(1_000);
        self.redrive(random)?;
        self.look_at_consumers()?;
        let publisher = &self.consumers.publisher;
        let lines = once(&self.effects()?, |order| publisher.is_ordered(order))?;
        let is_whole = missing(&lines, publisher.stored()).is_none();
        let is_done = publisher.is_done() && is_whole;
        Ok(is_done && self.consumers.redriving.is_none() && self.letters()?.is_empty())
    }

    /// What is missing still, for people.
    pub(crate) fn consumers_missing(&self) -> String {
        let publisher = &self.consumers.publisher;
        let effects = self.effects().unwrap_or_default();
        let lines = once(&effects, |order| publisher.is_ordered(order)).unwrap_or_default();
        format!(
            "publisher done: {}, order without effect: {:?}, letters: {:?}",
            publisher.is_done(),
            missing(&lines, publisher.stored()),
            self.letters().map(|letters| letters.len())
        )
    }
}
