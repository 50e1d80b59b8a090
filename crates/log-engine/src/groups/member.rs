//! A member of a group: the handle of those who consume.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sync::Mutex;
use sync::atomic::{AtomicBool, Ordering};

use super::coordinator::{Group, Inner, MemberState};
use super::dead_letter::DeadLetters;
use super::delivery::{Delivery, Receipt};
use super::error::GroupError;
use super::event::Change;
use super::journal::Journal;
use super::reading::Readers;
use super::state::{Key, Progress};
use crate::blocking;
use crate::core::Core;
use crate::engine::Handle;
use crate::partition::PartitionState;

/// Longest delay and visibility: 12 h, in milliseconds.
const TIME_MS_MAX: u64 = 43_200_000;

/// A member of a consumer group. Cheap to clone, and shared by threads; when the last clone is
/// dropped, the member has left.
///
/// ```
/// use std::time::Duration;
///
/// use log_engine::{Engine, Record};
///
/// let engine = Engine::in_memory();
/// engine.ensure_topic("orders", 1)?;
/// let producer = engine.producer().open()?;
/// producer.blocking_append(Record::to("orders").value("two shirts"))?;
///
/// let member = engine.group("billing").topic("orders").blocking_join()?;
/// for delivery in member.blocking_poll(10, Duration::from_secs(30))? {
///     assert_eq!((delivery.record().offset(), delivery.deliveries()), (0, 1));
///     delivery.blocking_ack()?;
/// }
/// assert_eq!(member.position("orders", 0), Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Member {
    owned: Arc<Owned>,
}

/// What ends with the last handle of a member.
struct Owned {
    context: Arc<Context>,
    readers: Mutex<Readers>,
}

/// What a member's deliveries need of it.
pub(super) struct Context {
    pub(super) engine: Arc<Handle>,
    pub(super) group: Arc<Group>,
    pub(super) id: u64,
    pub(super) spec: MemberState,
    pub(super) max_in_flight: usize,
    pub(super) dead_letters: Option<Arc<DeadLetters>>,
    pub(super) has_left: AtomicBool,
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.context.leave();
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("group", &self.owned.context.group.name)
            .field("id", &self.owned.context.id)
            .finish_non_exhaustive()
    }
}

/// A time in milliseconds, if it is not too long.
pub(super) fn checked_ms(what: &'static str, time: Duration) -> Result<u64, GroupError> {
    let asked_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if asked_ms <= TIME_MS_MAX {
        return Ok(asked_ms);
    }
    Err(GroupError::TooLong {
        what,
        asked_ms,
        limit_ms: TIME_MS_MAX,
    })
}

impl Context {
    pub(super) fn core(&self) -> &Arc<Core> {
        &self.engine.core
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.core().time.now().elapsed_ms
    }

    pub(super) fn journal(&self) -> Result<&Journal, GroupError> {
        self.core().groups.journal()
    }

    fn leave(&self) {
        if !self.has_left.swap(true, Ordering::AcqRel) {
            self.group.leave(self.core(), self.id);
        }
    }

    /// Whether the group still has the member, or may take it in again.
    pub(super) fn check(&self, inner: &Inner) -> Result<(), GroupError> {
        if self.core().is_closed() {
            return Err(GroupError::Closed);
        }
        if inner.is_deleted || self.has_left.load(Ordering::Acquire) {
            let group = self.group.name.clone();
            return Err(GroupError::Left { group });
        }
        Ok(())
    }

    /// Takes the member in, also one that was silent for too long, and shares partitions out if
    /// that is due.
    pub(super) fn attend(
        &self,
        inner: &mut Inner,
        starts: &BTreeMap<Key, u64>,
    ) -> Result<(), GroupError> {
        self.check(inner)?;
        let now_ms = self.now_ms();
        let Inner {
            members,
            is_unsettled,
            ..
        } = &mut *inner;
        members.entry(self.id).or_insert_with(|| {
            *is_unsettled = true;
            self.spec.clone()
        });
        inner.touch(self.id, now_ms);
        self.group.look(self.core(), inner, self.id, starts)
    }

    /// Calls `step` until the journal has room for what it writes.
    pub(super) async fn with_room<T>(
        &self,
        mut step: impl FnMut() -> Result<T, GroupError>,
    ) -> Result<T, GroupError> {
        loop {
            let journal = self.journal()?;
            let seen = journal.turns();
            match step() {
                Err(error) if error.is_not_ready() => journal.room(&self.engine, seen).await?,
                done => {
                    self.core().checkpoint_groups();
                    return done;
                }
            }
        }
    }

    /// The log of a partition, if it is the one that the group knows.
    pub(super) fn partition(&self, key: &Key, topic_id: u128) -> Option<Arc<PartitionState>> {
        let topics = self.core().topics.read();
        let topic = topics.get(&key.0).filter(|t| t.entry.id == topic_id)?;
        let index = usize::try_from(key.1).ok()?;
        topic.partitions.get(index).cloned()
    }

    pub(super) fn subscribed(&self) -> &BTreeSet<Arc<str>> {
        &self.spec.topics
    }
}

impl Member {
    pub(super) fn new(context: Context) -> Member {
        Member {
            owned: Arc::new(Owned {
                context: Arc::new(context),
                readers: Mutex::default(),
            }),
        }
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.owned.context
    }

    pub(super) fn readers(&self) -> &Mutex<Readers> {
        &self.owned.readers
    }

    /// Its group's name.
    pub fn group(&self) -> &str {
        &self.context().group.name
    }

    /// Its id, as [`GroupPartition::member`](crate::GroupPartition::member) shows it. Nobody else has it, and no
    /// partition an epoch of that number.
    pub fn id(&self) -> u64 {
        self.context().id
    }

    /// The partitions that it has, each with its epoch, durable.
    pub fn assigned(&self) -> Vec<(Arc<str>, u32, u64)> {
        let context = self.context();
        let Ok(journal) = context.journal() else {
            return Vec::new();
        };
        let inner = context.group.lock();
        let all = inner.state.partitions.iter();
        all.filter(|(key, _)| inner.owns(context.id, key, journal))
            .map(|(key, progress)| (key.0.clone(), key.1, progress.epoch))
            .collect()
    }

    /// The group's position in a partition: every record below it is acknowledged. `None` where
    /// the group never had the partition.
    pub fn position(&self, topic: &str, partition: u32) -> Option<u64> {
        let inner = self.context().group.lock();
        inner.state.get(topic, partition).map(Progress::position)
    }

    /// Offsets of a partition that were delivered, to whichever member, and are not acknowledged, lowest first: at most as many as the group keeps one
    /// by one. Of a partition that changed its owner they are what the old one may have been working on.
    pub fn open(&self, topic: &str, partition: u32) -> Vec<u64> {
        let inner = self.context().group.lock();
        let progress = inner.state.get(topic, partition);
        progress.map_or_else(Vec::new, |p| p.delivered.keys().copied().collect())
    }

    /// Goes on at another offset of a partition that it has. The partition's epoch rises: receipts
    /// that were given before are refused, and delivery counts begin anew. Durable when this
    /// returns. A seek to the present position changes nothing.
    ///
    /// # Cancel safety
    /// Dropped, the group is at the old position or at the new one.
    ///
    /// # Errors
    /// [`GroupError::NotAssigned`], [`GroupError::OutOfRange`].
    pub async fn seek(&self, topic: &str, partition: u32, offset: u64) -> Result<(), GroupError> {
        let context = self.context();
        let key: Key = (topic.into(), partition);
        let at = context.with_room(|| self.try_seek(&key, offset)).await?;
        match at {
            Some(at) => context.journal()?.durable(&context.engine, at).await,
            None => Ok(()),
        }
    }

    // Returns where the journal has it, if there was anything to do.
    fn try_seek(&self, key: &Key, offset: u64) -> Result<Option<u64>, GroupError> {
        let context = self.context();
        let (topic, partition) = (key.0.clone(), key.1);
        let mut inner = context.group.lock();
        context.attend(&mut inner, &BTreeMap::new())?;
        let progress = inner.state.partitions.get(key);
        let Some(progress) = progress.filter(|p| p.member == Some(context.id)) else {
            return Err(GroupError::NotAssigned { topic, partition });
        };
        let Some(state) = context.partition(key, progress.topic_id) else {
            return Err(GroupError::NotAssigned { topic, partition });
        };
        if progress.position() == offset && progress.lost.is_none() {
            return Ok(None);
        }
        let (start, end) = (
            state.reader.log_start_offset(),
            state.reader.high_watermark(),
        );
        if !(start..=end).contains(&offset) {
            return Err(GroupError::OutOfRange {
                topic,
                partition,
                asked: offset,
                start,
                end,
            });
        }
        let change = Change::Sought {
            topic: topic.to_string(),
            partition,
            epoch: context.core().groups.next_number(),
            position: offset,
        };
        context
            .group
            .write(context.core(), &mut inner, &[change], true)?;
        Ok(inner.runtime.get(key).and_then(|runtime| runtime.epoch_at))
    }

    /// As [`Member::seek`], waiting on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// As [`Member::seek`].
    pub fn blocking_seek(
        &self,
        topic: &str,
        partition: u32,
        offset: u64,
    ) -> Result<(), GroupError> {
        let seek = self.seek(topic, partition, offset);
        blocking::wait("blocking_seek", "seek", seek)
    }

    /// Leaves the group, for all clones of the handle: its partitions go to the others, and what it
    /// did not settle is delivered to them at once. Dropping the last handle does the same.
    pub fn leave(&self) {
        self.context().leave();
    }

    /// Acknowledges deliveries by their receipts: all of them, or, on an error, none. The error
    /// names the one that was refused. A receipt whose record is acknowledged already is no error.
    ///
    /// # Cancel safety
    /// Dropped, all of them are acknowledged or none.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub async fn ack(&self, receipts: &[Receipt]) -> Result<(), GroupError> {
        self.context().ack(receipts).await
    }

    /// As [`Member::ack`], waiting on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// As [`Member::ack`].
    pub fn blocking_ack(&self, receipts: &[Receipt]) -> Result<(), GroupError> {
        blocking::wait("blocking_ack", "ack", self.ack(receipts))
    }

    /// As [`Delivery::nack`], by receipt.
    ///
    /// # Errors
    /// As [`Delivery::nack`].
    pub fn nack(&self, receipt: &Receipt, delay: Duration) -> Result<(), GroupError> {
        self.context().nack(receipt, delay)
    }

    /// As [`Delivery::extend`], by receipt.
    ///
    /// # Errors
    /// As [`Delivery::extend`].
    pub fn extend(&self, receipt: &Receipt, visibility: Duration) -> Result<(), GroupError> {
        self.context().extend(receipt, visibility)
    }

    /// As [`Delivery::park`], by receipt: the record is read from the log.
    ///
    /// # Errors
    /// As [`Delivery::park`], and [`GroupError::Read`].
    pub async fn park(
        &self,
        receipt: &Receipt,
        reason: &str,
        details: &str,
    ) -> Result<(), GroupError> {
        let record = self.context().read_one(receipt)?;
        let context = self.context();
        context.park((receipt, &record), reason, details).await
    }

    /// As [`Member::park`], waiting on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// As [`Member::park`].
    pub fn blocking_park(
        &self,
        receipt: &Receipt,
        reason: &str,
        details: &str,
    ) -> Result<(), GroupError> {
        let park = self.park(receipt, reason, details);
        blocking::wait("blocking_park", "park", park)
    }

    /// Records to work on, at most `max` of them: each is this member's for `visibility`, at most
    /// 12 h, and is delivered again after that unless it was settled. Waits until there is at least
    /// one.
    ///
    /// Of one partition they come in offset order; those to be delivered again come first.
    ///
    /// # Cancel safety
    /// Dropped, nothing was delivered.
    ///
    /// # Errors
    /// [`GroupError::Gap`]: the member must seek, or stop. [`GroupError::Closed`], and what reading
    /// and writing say.
    pub async fn poll(
        &self,
        max: usize,
        visibility: Duration,
    ) -> Result<Vec<Delivery>, GroupError> {
        self.poll_until_some(max, checked_ms("visibility", visibility)?)
            .await
    }

    /// As [`Member::poll`], waiting on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// As [`Member::poll`].
    pub fn blocking_poll(
        &self,
        max: usize,
        visibility: Duration,
    ) -> Result<Vec<Delivery>, GroupError> {
        blocking::wait("blocking_poll", "poll", self.poll(max, visibility))
    }

    /// As [`Member::poll`], without waiting: empty when there is nothing just now.
    ///
    /// # Errors
    /// As [`Member::poll`].
    pub fn poll_now(&self, max: usize, visibility: Duration) -> Result<Vec<Delivery>, GroupError> {
        self.poll_without_waiting(max, checked_ms("visibility", visibility)?)
    }
}
