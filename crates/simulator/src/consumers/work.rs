//! What a consumer does: it polls, asks, acts, settles, commits, acknowledges, in that order, and can die anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oncelog::inbox::{
    Admission, Delivery, EmbeddedInbox, EmbeddedTx, IdPolicy, Inbox, Outgoing, Part, Settlement,
    StoreError,
};
use oncelog::{Engine, GroupError, Member, ReadError, Receipt};

use super::desk::{Desk, Note, Point};
use super::judge;
use super::positions::Progress;
use super::{EFFECTS, GROUP, LETTERS, ORDERS, SESSION, VISIBILITY};
use crate::batch::{content, value};
use crate::random::Random;
use crate::violation::Violation;

/// Why a consumer stops with what it is at, and polls again.
enum Stop {
    /// Somebody else has it, or it has to be asked again.
    Gone(String),
    /// Only where the disk fails.
    Trouble(String),
    Broken(Violation),
}

impl From<GroupError> for Stop {
    fn from(error: GroupError) -> Stop {
        let what = format!("group: {error}");
        match error {
            GroupError::Fenced { .. }
            | GroupError::Superseded { .. }
            | GroupError::NotDelivered { .. }
            | GroupError::NotAssigned { .. } => Stop::Gone(what),
            // Somebody else has acknowledged it, so it may be deleted.
            GroupError::Read(ReadError::Deleted { .. }) => Stop::Gone(what),
            _ => Stop::Trouble(what),
        }
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        let what = format!("inbox: {error}");
        match error {
            StoreError::Fenced { .. } => Stop::Gone(what),
            // Not before long, where the clock leaps.
            StoreError::Unknown | StoreError::Unavailable => Stop::Gone(what),
            _ => Stop::Trouble(what),
        }
    }
}

/// What the group is told about a delivery after its transaction.
enum Fate {
    Ack,
    Nack(Duration),
    Park,
}

type Place = (Arc<str>, u32);

/// A consumer's own.
pub(super) struct Job {
    engine: Engine,
    inbox: EmbeddedInbox,
    desk: Rc<Desk>,
    random: Random,
    progress: BTreeMap<Place, Progress>,
}

/// Consumes until it is dropped.
pub(super) async fn work(mut job: Job) {
    let member = loop {
        job.desk.at(Point::Idle).await;
        let group = job.engine.group(GROUP).topic(ORDERS).dead_letter(LETTERS);
        match group.session_timeout(SESSION).max_in_flight(8).join().await {
            Ok(member) => break member,
            Err(error) => job.tell(Stop::from(error)),
        }
    };
    loop {
        job.desk.at(Point::Idle).await;
        if let Err(stop) = job.round(&member).await {
            job.tell(stop);
        }
    }
}

impl Job {
    pub(super) fn new(engine: Engine, inbox: EmbeddedInbox, desk: Rc<Desk>, random: Random) -> Job {
        Job {
            engine,
            inbox,
            desk,
            random,
            progress: BTreeMap::new(),
        }
    }

    fn tell(&self, stop: Stop) {
        self.desk.note(match stop {
            Stop::Gone(what) => Note::Event(what),
            Stop::Trouble(what) => Note::Trouble(what),
            Stop::Broken(violation) => Note::Broken(violation),
        });
    }

    fn is_unlucky(&mut self, thousandths: u64) -> bool {
        self.random.chance(thousandths) && !self.desk.is_calm()
    }

    async fn round(&mut self, member: &Member) -> Result<(), Stop> {
        self.take_over(member).await?;
        if self.is_unlucky(30) {
            return self.rewind(member).await;
        }
        // Without a wait in between nothing is delivered of a partition that was not taken over.
        let is_known = |(topic, partition, epoch): (Arc<str>, u32, u64)| {
            let known = self.progress.get(&(topic, partition));
            known.is_some_and(|progress| progress.epoch == epoch)
        };
        if !member.assigned().into_iter().all(is_known) {
            return Ok(());
        }
        let max = self.random.between(1, 4);
        let max = usize::try_from(max).unwrap_or(1);
        let polled = match member.poll_now(max, VISIBILITY) {
            // What the group had consumed was deleted while somebody had it read again. The judge knows if there was more.
            Err(GroupError::Gap {
                topic,
                partition,
                start,
                ..
            }) => {
                self.say(format!("finds {topic}-{partition} deleted below {start}"));
                return Ok(member.seek(&topic, partition, start).await?);
            }
            polled => polled?,
        };
        let mut batches: BTreeMap<Place, Vec<oncelog::Delivery>> = BTreeMap::new();
        for delivery in polled {
            let receipt = delivery.receipt();
            let place = (receipt.topic.clone(), receipt.partition);
            let Some(progress) = self.progress.get_mut(&place) else {
                continue;
            };
            progress.delivered(receipt.offset);
            let is_again = delivery.deliveries() > 1;
            self.desk.count(|counts| {
                counts.delivered += 1;
                counts.redelivered += u64::from(is_again);
            });
            batches.entry(place).or_default().push(delivery);
        }
        for batch in batches.into_values() {
            match self.random.chance(500) {
                true => self.transaction(member, &batch).await?,
                false => {
                    for delivery in batch {
                        self.transaction(member, &[delivery]).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Partitions that are new begin where the inbox says (E10).
    async fn take_over(&mut self, member: &Member) -> Result<(), Stop> {
        let assigned = member.assigned();
        self.progress.retain(|place, _| {
            assigned
                .iter()
                .any(|(t, p, _)| (t, p) == (&place.0, &place.1))
        });
        for (topic, partition, epoch) in assigned {
            let place = (topic.clone(), partition);
            if self.progress.get(&place).is_some_and(|p| p.epoch == epoch) {
                continue;
            }
            self.progress.remove(&place);
            let part = Part::new(GROUP, &*topic, partition);
            let stored = self.inbox.assign(&part, epoch).await?;
            let position = member.position(&topic, partition);
            match stored {
                // A new epoch, which the next look takes over.
                Some(stored) if position != Some(stored) => {
                    self.say(format!(
                        "seeks {topic}-{partition} {position:?} to {stored}"
                    ));
                    match member.seek(&topic, partition, stored).await {
                        // What was parked passes the group alone; all of it is acknowledged, and may be deleted, also while
                        // somebody has the group read it again.
                        Err(GroupError::OutOfRange { start, .. }) if stored < start => {
                            match position.filter(|at| start <= *at) {
                                Some(from) => {
                                    self.progress.insert(place, Progress::new(epoch, from));
                                }
                                None => member.seek(&topic, partition, start).await?,
                            }
                        }
                        sought => sought?,
                    }
                }
                _ => {
                    let from = position.unwrap_or(0);
                    self.progress.insert(place, Progress::new(epoch, from));
                }
            }
        }
        Ok(())
    }

    /// Somebody has the group read a partition again. The inbox knows all of it.
    async fn rewind(&mut self, member: &Member) -> Result<(), Stop> {
        let places: Vec<Place> = self.progress.keys().cloned().collect();
        if places.is_empty() {
            return Ok(());
        }
        let place = places[self.random.place(places.len())].clone();
        let Some(position) = member.position(&place.0, place.1) else {
            return Ok(());
        };
        let handle = self
            .engine
            .topic(&place.0)
            .and_then(|t| t.partition(place.1));
        let start = handle.map_or(0, |handle| handle.log_start_offset());
        let to = self
            .random
            .between(position.saturating_sub(10).max(start), position);
        self.say(format!("rewinds {}-{} to {to}", place.0, place.1));
        match member.seek(&place.0, place.1, to).await {
            // Deleted meanwhile.
            Err(GroupError::OutOfRange { .. }) => return Ok(()),
            sought => sought?,
        }
        let now = member.assigned().into_iter();
        let mut now = now.filter(|(t, p, _)| (t, p) == (&place.0, &place.1));
        if let Some((.., epoch)) = now.next() {
            self.inbox
                .assign(&Part::new(GROUP, &*place.0, place.1), epoch)
                .await?;
            // A seek to where the group is already changes nothing, also not what is delivered.
            if self.progress.get(&place).is_none_or(|p| p.epoch != epoch) {
                self.progress.insert(place, Progress::new(epoch, to));
            }
        }
        Ok(())
    }

    /// Deliveries of one partition in one transaction.
    async fn transaction(
        &mut self,
        member: &Member,
        batch: &[oncelog::Delivery],
    ) -> Result<(), Stop> {
        self.desk.at(Point::C0).await;
        let Some(first) = batch.first().map(oncelog::Delivery::receipt) else {
            return Ok(());
        };
        let place = (first.topic.clone(), first.partition);
        if self.is_unlucky(60) {
            return Ok(member.nack(first, Duration::from_millis(300))?);
        }
        if self.is_unlucky(60) {
            member.extend(first, VISIBILITY * 2)?;
        }
        let part = Part::new(GROUP, &*first.topic, first.partition);
        let mut tx = self.inbox.begin(&part, first.epoch).await?;
        let mut fates = Vec::new();
        for delivery in batch {
            let fate = self.admit(&mut tx, delivery).await?;
            fates.push((delivery.receipt(), fate));
        }
        self.desk.at(Point::C3).await;
        let acked = fates.iter().filter(|(_, fate)| matches!(fate, Fate::Ack));
        let acked: BTreeSet<u64> = acked.map(|(receipt, _)| receipt.offset).collect();
        let progress = self.progress.get(&place);
        let next = progress
            .filter(|progress| progress.epoch == first.epoch)
            .map_or(0, |progress| progress.with(&acked));
        self.inbox.commit(tx, next).await?;
        self.say(format!("commits {}-{} at {next}", place.0, place.1));
        for (receipt, fate) in fates {
            self.desk.at(Point::C4).await;
            self.tell_group(member, receipt, fate).await?;
            self.desk.at(Point::C5).await;
        }
        Ok(())
    }

    async fn tell_group(
        &mut self,
        member: &Member,
        receipt: &Receipt,
        fate: Fate,
    ) -> Result<(), Stop> {
        match fate {
            Fate::Ack => {
                self.committed(receipt);
                member.ack(std::slice::from_ref(receipt)).await?;
            }
            Fate::Nack(delay) => member.nack(receipt, delay)?,
            Fate::Park => {
                member.park(receipt, "rejected", "the first time").await?;
                self.committed(receipt);
            }
        }
        Ok(())
    }

    fn committed(&mut self, receipt: &Receipt) {
        let place = (receipt.topic.clone(), receipt.partition);
        if let Some(progress) = self.progress.get_mut(&place)
            && progress.epoch == receipt.epoch
        {
            progress.committed(receipt.offset);
        }
    }

    async fn admit(
        &mut self,
        tx: &mut EmbeddedTx,
        delivery: &oncelog::Delivery,
    ) -> Result<Fate, Stop> {
        let known = Delivery::of_group(GROUP, delivery, IdPolicy::Fail);
        let known = known.map_err(|error| broken("I45", error.to_string()))?;
        let Some(order) = content(known.payload()) else {
            return Err(broken("I22", "a record is not what was sent".into()));
        };
        let answer = self.inbox.admit(tx, &known).await?;
        self.say(format!(
            "order {order} at {}-{}, delivery {}: {answer:?}",
            known.part().partition,
            known.offset(),
            known.deliveries()
        ));
        match answer {
            Admission::Run(()) => {}
            Admission::Done(_) => return Ok(Fate::Ack),
            // Its dead letter may be missing still. One more does no harm.
            Admission::Parked => return Ok(Fate::Park),
            Admission::Busy { retry_after } => return Ok(Fate::Nack(retry_after)),
            answer => return Err(broken("I47", format!("order {order}: {answer:?}"))),
        }
        self.desk.at(Point::C1).await;
        // Some are refused unless somebody sends them again on purpose.
        if order % 7 == 3 && !known.is_redrive() {
            self.inbox.settle(tx, &known, Settlement::Parked).await?;
            return Ok(Fate::Park);
        }
        for line in 0..judge::LINES {
            self.desk.at(Point::C2).await;
            if self.is_unlucky(40) {
                self.inbox.settle(tx, &known, Settlement::Released).await?;
                return Ok(Fate::Nack(Duration::from_millis(200)));
            }
            tx.emit(Outgoing {
                topic: EFFECTS.into(),
                value: Some(Bytes::from(value(judge::line(order, line), 8))),
                ..Outgoing::default()
            });
        }
        let done = Settlement::Done(None);
        self.inbox.settle(tx, &known, done).await?;
        Ok(Fate::Ack)
    }

    fn say(&self, what: String) {
        self.desk.note(Note::Event(what));
    }
}

fn broken(invariant: &'static str, what: String) -> Stop {
    Stop::Broken(Violation { invariant, what })
}
