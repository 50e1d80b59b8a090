//! A consumer with an inbox: id, effect and position are one transaction.

use std::collections::BTreeMap;

use oncelog::inbox::{Admission, Delivery, IdPolicy, Part, Settlement};
use oncelog::{Member, Producer, Record};

use super::drive::{Act, Point};
use super::stores::Stored;
use super::{Effects, ORDERS, Run};
use crate::exit::Stop;

pub(super) const GROUP: &str = "careful";
/// Outgoing records that are forwarded at a time.
const FORWARD: usize = 2_000;

pub(super) struct Careful<'a, I> {
    run: &'a Run<'a>,
    inbox: I,
    /// Takes effects to their topic. Their numbers are its positions, so each arrives once.
    producer: Producer,
    waiting: usize,
    /// Of each partition, its epoch.
    parts: BTreeMap<u32, (Part, u64)>,
}

impl<'a, I: Stored> Careful<'a, I> {
    pub(super) fn new(run: &'a Run<'a>, inbox: I) -> anyhow::Result<Careful<'a, I>> {
        Ok(Careful {
            run,
            inbox,
            producer: run.engine.producer().name("effects").open()?,
            waiting: 0,
            parts: BTreeMap::new(),
        })
    }

    /// Every effect there is.
    pub(super) fn effects(&mut self) -> anyhow::Result<Effects> {
        self.forward()?;
        match self.run.wait(self.inbox.effects())? {
            None => self.run.read_back(),
            Some(values) => {
                let mut effects = Effects::none(self.run.orders)?;
                for value in values {
                    effects.add(&value)?;
                }
                Ok(effects)
            }
        }
    }

    /// Takes all effects that are committed to their topic.
    fn forward(&mut self) -> anyhow::Result<()> {
        loop {
            let outgoing = self.run.wait(self.inbox.outgoing(FORWARD))?;
            let Some((last, _)) = outgoing.last() else {
                self.waiting = 0;
                return Ok(());
            };
            for (number, effect) in &outgoing {
                let value = effect.value.as_deref().unwrap_or_default();
                let record = Record::to(&effect.topic).value(value).position(*number);
                self.run.wait(self.producer.send(record))?;
            }
            self.run.wait(self.producer.flush())?;
            self.run.wait(self.inbox.forwarded(*last))?;
        }
    }
}

impl<I: Stored> Act for Careful<'_, I> {
    // The inbox's position counts: what it has committed was only not acknowledged.
    fn begin(&mut self, member: &Member) -> anyhow::Result<()> {
        for partition in member.assigned().into_iter().map(|(_, p, _)| p) {
            let part = Part::new(GROUP, ORDERS, partition);
            loop {
                let assigned = member.assigned().into_iter();
                let mut epochs = assigned.filter(|(_, p, _)| *p == partition);
                let Some((.., epoch)) = epochs.next() else {
                    return Err(Stop::Failed(format!("partition {partition} is gone")).into());
                };
                let stored = self.run.wait(self.inbox.assign(&part, epoch))?;
                match stored.filter(|stored| Some(*stored) != member.position(ORDERS, partition)) {
                    Some(stored) => self.run.wait(member.seek(ORDERS, partition, stored))?,
                    None => {
                        self.parts.insert(partition, (part, epoch));
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn act(
        &mut self,
        batch: &[oncelog::Delivery],
        death: Option<(usize, Point)>,
    ) -> anyhow::Result<()> {
        let (run, inbox) = (self.run, &self.inbox);
        let Some(first) = batch.first().map(oncelog::Delivery::receipt) else {
            return Ok(());
        };
        let Some((part, epoch)) = self.parts.get(&first.partition) else {
            return Err(Stop::Failed(format!("{first:?} of no partition of mine")).into());
        };
        let mut tx = run.wait(inbox.begin(part, *epoch))?;
        let mut next = 0;
        for (at, delivery) in batch.iter().enumerate() {
            // From here on: dropped, the transaction is rolled back.
            let dies = |point| death == Some((at, point));
            if dies(Point::C0) {
                return Ok(());
            }
            let known = Delivery::of_group(GROUP, delivery, IdPolicy::Fail)?;
            next = next.max(known.offset() + 1);
            match run.wait(inbox.admit(&mut tx, &known))? {
                Admission::Run(()) => {}
                Admission::Done(_) if dies(Point::C1) || dies(Point::C2) || dies(Point::C3) => {
                    return Ok(());
                }
                Admission::Done(_) => continue,
                answer => return Err(Stop::Failed(format!("{known:?}: {answer:?}")).into()),
            }
            if dies(Point::C1) {
                return Ok(());
            }
            let value = known.value().cloned().unwrap_or_default();
            run.wait(inbox.effect(&mut tx, value))?;
            if dies(Point::C2) {
                return Ok(());
            }
            run.wait(inbox.settle(&mut tx, &known, Settlement::Done(None)))?;
            self.waiting += 1;
            if dies(Point::C3) {
                return Ok(());
            }
        }
        // All that was delivered of the partition is committed by now: in order, and by this consumer alone.
        run.wait(inbox.commit(tx, next))?;
        if self.waiting >= FORWARD {
            self.forward()?;
        }
        Ok(())
    }
}
