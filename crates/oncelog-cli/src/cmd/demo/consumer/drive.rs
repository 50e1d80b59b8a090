//! A consumer of the group, over its deaths: what gets lost and when it dies follows from the seed.
//!
//! Nothing depends on time: an acknowledgement that gets lost is one whose record's visibility ends at once.

use std::thread;
use std::time::Duration;

use oncelog::{Delivery, Member, Receipt};

use super::{ORDERS, PARTITIONS, Run};
use crate::dice::Dice;
use crate::exit::Stop;
use crate::progress::Progress;

/// Records of a poll, at most: what a death leaves behind.
const POLL: usize = 100;
/// Records between two deaths, at most, so that there is one for every thousand.
const BETWEEN: u64 = 900;
/// Longer than any run.
const LONG: Duration = Duration::from_secs(40_000);
/// Sets these dice apart from others.
const DEATHS: u64 = 0x6465_6174_6873_0000;
const ACKS: u64 = 0x6163_6b73_0000_0000;

/// Where a consumer dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Point {
    /// Received, nothing written.
    C0,
    /// The id is written, the effect not begun.
    C1,
    /// In the middle of the effect.
    C2,
    /// The effect is done, its end not written.
    C3,
    /// All is durable, nothing acknowledged.
    C4,
    /// The acknowledgement is sent, and its answer not there.
    C5,
}

const POINTS: [Point; 6] = [
    Point::C0,
    Point::C1,
    Point::C2,
    Point::C3,
    Point::C4,
    Point::C5,
];

/// What a consumer does with what it was given.
pub(super) trait Act {
    /// It has joined, and been given its partitions.
    fn begin(&mut self, member: &Member) -> anyhow::Result<()>;

    /// Works on deliveries of one partition. With a death, on those before that place and, up to that point, on the one there.
    fn act(&mut self, batch: &[Delivery], death: Option<(usize, Point)>) -> anyhow::Result<()>;
}

/// What happened to a consumer. All counts are of records, but that of crashes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) delivered: u64,
    pub(super) redelivered: u64,
    pub(super) lost_acks: u64,
    pub(super) crashes: u64,
}

pub(super) struct Drive<'a> {
    run: &'a Run<'a>,
    group: &'static str,
    progress: &'a Progress,
    ends: Vec<u64>,
    /// How often each record was delivered.
    seen: Vec<Vec<u32>>,
    /// Records until the next death.
    left: u64,
    counts: Counts,
}

impl<'a> Drive<'a> {
    pub(super) fn new(
        run: &'a Run<'a>,
        group: &'static str,
        progress: &'a Progress,
    ) -> anyhow::Result<Drive<'a>> {
        let topic = run.engine.topic(ORDERS)?;
        let mut ends = Vec::new();
        let mut seen = Vec::new();
        for partition in 0..PARTITIONS {
            let end = topic.partition(partition)?.high_watermark();
            seen.push(vec![0; usize::try_from(end)?]);
            ends.push(end);
        }
        let mut drive = Drive {
            run,
            group,
            progress,
            ends,
            seen,
            left: 0,
            counts: Counts::default(),
        };
        drive.left = drive.next_death();
        Ok(drive)
    }

    fn next_death(&self) -> u64 {
        let mut dice = Dice::of(&[self.run.seed, DEATHS, self.counts.crashes]);
        dice.below(BETWEEN)
    }

    /// Consumes until the group has acknowledged everything.
    pub(super) fn through(mut self, actor: &mut impl Act) -> anyhow::Result<Counts> {
        while !self.life(actor)? {}
        Ok(self.counts)
    }

    // Until it dies, or all is done. Whether all is.
    fn life(&mut self, actor: &mut impl Act) -> anyhow::Result<bool> {
        let group = self.run.engine.group(self.group).topic(ORDERS);
        let group = group.session_timeout(LONG).max_in_flight(4 * POLL);
        let member = self.run.wait(group.join())?;
        while member.assigned().len() < self.ends.len() {
            self.check()?;
            thread::sleep(Duration::from_millis(1));
        }
        actor.begin(&member)?;
        while !self.is_done(&member) {
            self.check()?;
            let polled = self.run.wait(member.poll(POLL, LONG))?;
            let mut batches: Vec<Vec<Delivery>> = Vec::new();
            for delivery in polled {
                let partition = delivery.receipt().partition;
                match batches.last_mut() {
                    Some(last) if last[0].receipt().partition == partition => last.push(delivery),
                    _ => batches.push(vec![delivery]),
                }
            }
            for batch in batches {
                let death = self.received(&batch)?;
                actor.act(&batch, death)?;
                if death.is_none_or(|(_, point)| point == Point::C5) {
                    self.acknowledge(&member, &batch)?;
                }
                if death.is_some() {
                    // Its handle is gone, and what it did not acknowledge comes again.
                    self.counts.crashes += 1;
                    self.left = self.next_death();
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn check(&self) -> anyhow::Result<()> {
        match self.run.interrupt.asked() {
            true => Err(Stop::Interrupted.into()),
            false => Ok(()),
        }
    }

    fn is_done(&self, member: &Member) -> bool {
        let mut ends = (0..).zip(&self.ends);
        ends.all(|(partition, end)| member.position(ORDERS, partition) == Some(*end))
    }

    fn times(&mut self, receipt: &Receipt) -> anyhow::Result<&mut u32> {
        let partition = usize::try_from(receipt.partition)?;
        let offset = usize::try_from(receipt.offset)?;
        let place = self.seen.get_mut(partition).and_then(|p| p.get_mut(offset));
        place.ok_or_else(|| Stop::Failed(format!("nobody sent what is at {receipt:?}")).into())
    }

    // Counts deliveries; where among them it dies, if it does.
    fn received(&mut self, batch: &[Delivery]) -> anyhow::Result<Option<(usize, Point)>> {
        let mut death = None;
        for (at, delivery) in batch.iter().enumerate() {
            let times = self.times(delivery.receipt())?;
            *times += 1;
            let is_first = *times == 1;
            self.counts.delivered += 1;
            self.counts.redelivered += u64::from(!is_first);
            self.progress.add(u64::from(is_first));
            if is_first && death.is_none() {
                if self.left == 0 {
                    let mut dice = Dice::of(&[self.run.seed, DEATHS, self.counts.crashes, 1]);
                    let point = usize::try_from(dice.below(POINTS.len() as u64))?;
                    death = Some((at, POINTS[point]));
                } else {
                    self.left -= 1;
                }
            }
        }
        Ok(death)
    }

    fn acknowledge(&mut self, member: &Member, batch: &[Delivery]) -> anyhow::Result<()> {
        let mut arrived = Vec::new();
        for delivery in batch {
            let receipt = delivery.receipt();
            let times = u64::from(*self.times(receipt)?);
            let place = [u64::from(receipt.partition), receipt.offset, times];
            let mut dice = Dice::of(&[self.run.seed, ACKS, place[0], place[1], place[2]]);
            if dice.falls(self.run.args.lost_ack) {
                self.counts.lost_acks += 1;
                member.extend(receipt, Duration::ZERO)?;
            } else {
                arrived.push(receipt.clone());
            }
        }
        self.run.wait(member.ack(&arrived))
    }
}
