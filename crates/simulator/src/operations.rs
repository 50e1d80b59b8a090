//! One operation after another, each drawn from its own stream: leaving one out changes no other.

use crate::random::Random;
use crate::violation::Violation;
use crate::world::World;

/// What may happen, and how often against the others.
const OPERATIONS: &[(Operation, u64)] = &[
    (Operation::Turns, 30),
    (Operation::Deliver, 30),
    (Operation::Time, 10),
    (Operation::RemoteSend, 12),
    (Operation::RemoteResend, 3),
    (Operation::Misbehave, 4),
    (Operation::EmbeddedSend, 12),
    (Operation::Resolve, 4),
    (Operation::NamedSend, 10),
    (Operation::Come, 3),
    (Operation::Go, 2),
    (Operation::TakeOver, 1),
    (Operation::Read, 8),
    (Operation::Delete, 1),
    (Operation::Topic, 1),
    (Operation::Grow, 1),
];

#[derive(Debug, Clone, Copy)]
enum Operation {
    Turns,
    Deliver,
    Time,
    RemoteSend,
    RemoteResend,
    Misbehave,
    EmbeddedSend,
    Resolve,
    NamedSend,
    Come,
    Go,
    TakeOver,
    Read,
    Delete,
    Topic,
    Grow,
}

impl World {
    /// Does the operation of a step.
    pub(crate) fn operate(&mut self, step: u64) -> Result<(), Violation> {
        let mut random = Random::of_step(self.seed, "operation", step);
        self.counts.operations += 1;
        self.faults(&mut random)?;
        // From a stream of its own: without crowds everything is as it was before there were any.
        let mut crowd = Random::of_step(self.seed, "crowd", step);
        if crowd.chance(self.plan.crowd) {
            self.remote_crowd(&mut crowd)?;
        }
        let mut upkeep = Random::of_step(self.seed, "backup", step);
        if upkeep.chance(self.plan.backup) {
            self.back_up(&mut upkeep)?;
        }
        self.operate_consumers(step)?;
        let total = OPERATIONS.iter().map(|(_, weight)| weight).sum();
        let mut ticket = random.below(total);
        let drawn = OPERATIONS.iter().find(|(_, weight)| {
            let is_it = ticket < *weight;
            ticket = ticket.saturating_sub(*weight);
            is_it
        });
        let Some((operation, _)) = drawn else {
            return Ok(());
        };
        self.event(format_args!("{operation:?}"));
        self.operation(*operation, &mut random)?;
        self.look()
    }

    fn operation(&mut self, operation: Operation, random: &mut Random) -> Result<(), Violation> {
        let restarts = self.plan.restarts == 1;
        match operation {
            Operation::Turns => {
                for _ in 0..random.between(1, 6) {
                    self.turn(random.any())?;
                }
            }
            Operation::Deliver => {
                for _ in 0..random.between(1, 4) {
                    let waiting = self.network.requests().len();
                    if waiting > 0 {
                        // Mostly in order.
                        let at = match random.chance(200) {
                            true => random.place(waiting),
                            false => 0,
                        };
                        self.deliver(at, random)?;
                    }
                }
            }
            Operation::Time => self.pass_time(random)?,
            Operation::RemoteSend if (self.remotes.len() as u64) < self.plan.remotes => {
                self.remote_open(random)?;
            }
            Operation::RemoteSend => {
                let client = random.place(self.remotes.len());
                self.remote_send(client, random)?;
            }
            Operation::RemoteResend if !self.remotes.is_empty() => {
                self.remote_resend(random.place(self.remotes.len()))?;
            }
            Operation::Misbehave if !self.remotes.is_empty() => {
                let client = random.place(self.remotes.len());
                self.remote_misbehave(client, random)?;
            }
            Operation::EmbeddedSend if (self.embedded.len() as u64) < self.plan.producers => {
                self.embedded_open(random)?;
            }
            Operation::EmbeddedSend if !self.embedded.is_empty() => {
                let client = random.place(self.embedded.len());
                for _ in 0..random.between(1, 5) {
                    self.embedded_send(client, random)?;
                }
            }
            Operation::Resolve if !self.embedded.is_empty() => {
                self.embedded_resolve(random.place(self.embedded.len()))?;
            }
            Operation::NamedSend if !self.named.is_empty() => {
                let client = random.place(self.named.len());
                for _ in 0..random.between(1, 5) {
                    self.named_send(client)?;
                }
            }
            Operation::Come if restarts && self.embedded.len() < 8 => {
                self.embedded_open(random)?;
            }
            Operation::Go if restarts && !self.embedded.is_empty() => {
                let client = random.place(self.embedded.len());
                self.embedded_end(client, random);
            }
            Operation::Go if restarts && !self.named.is_empty() => {
                self.named_drop(random.place(self.named.len()));
            }
            Operation::TakeOver if restarts && !self.named.is_empty() => {
                self.named_take_over(random.place(self.named.len()))?;
            }
            Operation::Read => self.read(random.place(self.logs.len()), 10)?,
            Operation::Delete if self.plan.deletion == 1 => {
                self.delete(random.place(self.logs.len()), random)?;
            }
            Operation::Topic if self.plan.topics == 1 => self.change_topic()?,
            Operation::Grow if self.plan.topics == 1 => self.grow_topic()?,
            _ => {}
        }
        Ok(())
    }

    fn pass_time(&mut self, random: &mut Random) -> Result<(), Violation> {
        let most = match self.plan.jumps {
            1 if random.chance(100) => 200_000,
            _ => 500,
        };
        let ms = u32::try_from(random.below(most)).unwrap_or(0);
        self.clock.advance(ms);
        self.counts.elapsed_ms += u64::from(ms);
        if self.plan.jumps == 1 && random.chance(50) {
            let days = random.below(6).cast_signed() - 3;
            self.clock.jump_wall(days * 86_400_000);
        }
        self.engine()?.look_at_clock();
        Ok(())
    }

    // What goes wrong before an operation.
    fn faults(&mut self, random: &mut Random) -> Result<(), Violation> {
        if random.chance(self.plan.fail_sync) {
            self.counts.failed_syncs += 1;
            self.event(format_args!("the next sync fails"));
            self.disk.fail_syncs(1);
            self.has_failed_sync = true;
        }
        if random.chance(self.plan.fail_names) {
            self.counts.failed_syncs += 1;
            self.event(format_args!("the next sync of names fails"));
            self.disk.fail_name_syncs(1);
            self.has_failed_sync = true;
        }
        if random.chance(self.plan.fill_disk) {
            let bytes = (!self.is_full).then(|| random.below(40_000));
            self.is_full = !self.is_full;
            self.counts.full_disks += u64::from(self.is_full);
            self.event(format_args!("{bytes:?} bytes are free"));
            self.disk.set_free_bytes(bytes);
        }
        if random.chance(self.plan.crash) {
            self.crash(random)?;
        }
        Ok(())
    }
}
