//! A group by its name: joining it, and holding what it still needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sync::atomic::AtomicBool;

use super::coordinator::{Group, MemberState};
use super::error::GroupError;
use super::event::Change;
use super::member::{Context, Member, checked_ms};
use super::state::Key;
use crate::blocking;
use crate::config::TopicConfig;
use crate::engine::Engine;
use crate::error::TopicError;
use crate::reader::{Start, start_offset};
use crate::topic::Topic;
use crate::topics::check_name;

/// Offsets of a partition that are kept one by one, unless set, and at most.
const IN_FLIGHT: usize = 1_000;
const IN_FLIGHT_MAX: usize = 65_536;
/// As Kafka's `session.timeout.ms`.
const SESSION: Duration = Duration::from_secs(45);
/// How often a join tries again because the group was deleted meanwhile.
const ATTEMPTS: usize = 100;

/// A consumer group, by its name; there is one once somebody joins it, or holds something.
#[derive(Clone)]
pub struct ConsumerGroup {
    engine: Engine,
    name: Arc<str>,
    topics: BTreeSet<Arc<str>>,
    start: Start,
    dead_letter: Option<Arc<str>>,
    max_in_flight: usize,
    session: Duration,
}

impl fmt::Debug for ConsumerGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerGroup")
            .field("name", &self.name)
            .field("topics", &self.topics)
            .field("start", &self.start)
            .field("dead_letter", &self.dead_letter)
            .finish_non_exhaustive()
    }
}

pub(super) fn check_group_name(name: &str) -> Result<(), GroupError> {
    let illegal = |_| GroupError::IllegalName {
        name: name.to_owned(),
    };
    check_name(name).map_err(illegal)
}

impl ConsumerGroup {
    pub(crate) fn new(engine: &Engine, name: &str) -> ConsumerGroup {
        ConsumerGroup {
            engine: engine.clone(),
            name: name.into(),
            topics: BTreeSet::new(),
            start: Start::Earliest,
            dead_letter: None,
            max_in_flight: IN_FLIGHT,
            session: SESSION,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The engine it is of.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Adds a topic to those that the member reads.
    #[must_use]
    pub fn topic(mut self, name: &str) -> ConsumerGroup {
        self.topics.insert(name.into());
        self
    }

    /// Where the group begins in a partition that it has never had. Partitions that are added later
    /// it reads from their beginning in any case. [`Start::Earliest`] unless set.
    #[must_use]
    pub fn start(mut self, start: Start) -> ConsumerGroup {
        self.start = start;
        self
    }

    /// Where the member puts records that it gives up. Made with one partition if it is missing.
    /// Members of a group should name the same topic: what it holds counts as acknowledged.
    #[must_use]
    pub fn dead_letter(mut self, topic: &str) -> ConsumerGroup {
        self.dead_letter = Some(topic.into());
        self
    }

    /// How many records of a partition may be delivered and open, or acknowledged above one that
    /// is open: 1 to 65,536, and 1,000 unless set.
    #[must_use]
    pub fn max_in_flight(mut self, records: usize) -> ConsumerGroup {
        self.max_in_flight = records;
        self
    }

    /// How long a member may be silent, neither polling nor settling, before another one gets its
    /// partitions. A poll that waits is not silent. 45 s unless set, at most 12 h.
    #[must_use]
    pub fn session_timeout(mut self, timeout: Duration) -> ConsumerGroup {
        self.session = timeout;
        self
    }

    /// Becomes a member, and shares the partitions out anew, as few of them as that takes: a
    /// partition that changes its owner is in another epoch, its old owner is refused from then on,
    /// and what that did not settle is delivered to the new one. Durable when this returns.
    ///
    /// Reads the disk on this thread: the dead-letter topic, and, with [`Start::Timestamp`], the
    /// topics.
    ///
    /// # Cancel safety
    /// Dropped, there is no member.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn join(self) -> Result<Member, GroupError> {
        let session_ms = checked_ms("session timeout", self.session)?;
        self.check()?;
        let core = self.engine.core().clone();
        core.check_groups()?;
        let mut topics = Vec::new();
        for name in &self.topics {
            topics.push(self.engine.topic(name)?);
        }
        let dead_letters = match &self.dead_letter {
            Some(name) => {
                self.make_dead_letter_topic(name)?;
                Some(core.dead_letters(name))
            }
            None => None,
        };
        for _ in 0..ATTEMPTS {
            let group = core.group_or_new(&self.name)?;
            let starts = self.starts(&group, &topics)?;
            let context = Context {
                engine: self.engine.handle().clone(),
                group: group.clone(),
                id: core.groups.next_number(),
                spec: MemberState {
                    topics: self.topics.clone(),
                    session_ms,
                    seen_ms: core.time.now().elapsed_ms,
                    polling: 0,
                },
                max_in_flight: self.max_in_flight,
                dead_letters: dead_letters.clone(),
                has_left: AtomicBool::new(false),
            };
            // From here on, whatever ends this call has the member leave.
            let member = Member::new(context);
            match member.enter(&starts).await {
                Err(GroupError::Left { .. }) => {}
                done => return done.map(|()| member),
            }
        }
        let group = self.name.clone();
        Err(GroupError::Left { group })
    }

    /// As [`ConsumerGroup::join`], waiting on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// As [`ConsumerGroup::join`].
    pub fn blocking_join(self) -> Result<Member, GroupError> {
        blocking::wait("blocking_join", "join", self.join())
    }

    fn check(&self) -> Result<(), GroupError> {
        check_group_name(&self.name)?;
        let group = || self.name.clone();
        if self.topics.is_empty() {
            return Err(GroupError::NoTopic { group: group() });
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.max_in_flight) {
            return Err(GroupError::MaxInFlight {
                asked: self.max_in_flight,
                limit: IN_FLIGHT_MAX,
            });
        }
        match &self.dead_letter {
            Some(topic) if self.topics.contains(topic) => Err(GroupError::DeadLetterOfItself {
                group: group(),
                topic: topic.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn make_dead_letter_topic(&self, name: &str) -> Result<(), GroupError> {
        if self.engine.topic(name).is_ok() {
            return Ok(());
        }
        match self.engine.create_topic(name, 1, TopicConfig::default()) {
            Ok(_) | Err(TopicError::Exists { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    // Where the group begins in partitions that it has not met. May read the disk.
    fn starts(&self, group: &Group, topics: &[Topic]) -> Result<BTreeMap<Key, u64>, GroupError> {
        let mut starts = BTreeMap::new();
        for topic in topics {
            for state in &topic.state.partitions {
                let key: Key = (topic.state.name.clone(), state.index);
                let known = {
                    let inner = group.lock();
                    let progress = inner.state.partitions.get(&key);
                    progress.is_some_and(|progress| progress.topic_id == topic.id())
                };
                if !known {
                    starts.insert(key, start_offset(state, self.start)?);
                }
            }
        }
        Ok(starts)
    }

    /// Keeps everything from `offset` on in a partition, whatever size, age or consumption say,
    /// until the hold is changed; `None` ends it. A group has one hold for each partition.
    /// [`Partition::delete_before`](crate::Partition::delete_before) is not held up by it. Durable when this returns, and an
    /// earlier hold counts until then.
    ///
    /// # Cancel safety
    /// Dropped, the hold is the old one or the new one.
    ///
    /// # Errors
    /// [`GroupError::OutOfRange`] below the log's start, or above its end.
    pub async fn hold(
        &self,
        topic: &str,
        partition: u32,
        offset: Option<u64>,
    ) -> Result<(), GroupError> {
        check_group_name(&self.name)?;
        let core = self.engine.core();
        core.check_groups()?;
        let partition = self.engine.topic(topic)?.partition(partition)?;
        let (start, end) = (partition.log_start_offset(), partition.high_watermark());
        if let Some(asked) = offset.filter(|offset| !(start..=end).contains(offset)) {
            return Err(GroupError::OutOfRange {
                topic: topic.into(),
                partition: partition.index(),
                asked,
                start,
                end,
            });
        }
        let change = Change::Held {
            topic: topic.to_owned(),
            topic_id: self.engine.topic(topic)?.id(),
            partition: partition.index(),
            offset,
        };
        self.write(change, false).await?;
        core.publish_groups();
        Ok(())
    }

    /// As [`ConsumerGroup::hold`], waiting on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// As [`ConsumerGroup::hold`].
    pub fn blocking_hold(
        &self,
        topic: &str,
        partition: u32,
        offset: Option<u64>,
    ) -> Result<(), GroupError> {
        let hold = self.hold(topic, partition, offset);
        blocking::wait("blocking_hold", "hold", hold)
    }

    // Of a group without a member: writes a change, and waits until it is durable.
    async fn write(&self, change: Change, ends: bool) -> Result<(), GroupError> {
        let (core, engine) = (self.engine.core(), self.engine.handle());
        let group = core.group_or_new(&self.name)?;
        let at = loop {
            let journal = core.groups.journal()?;
            let seen = journal.turns();
            let written = {
                let mut inner = group.lock();
                if ends && !inner.members.is_empty() {
                    return Err(GroupError::InUse {
                        group: self.name.clone(),
                        members: inner.members.len(),
                    });
                }
                let written = group.write(core, &mut inner, std::slice::from_ref(&change), true);
                inner.is_deleted |= ends && written.is_ok();
                written.map(|()| journal.end())
            };
            match written {
                Err(error) if error.is_not_ready() => journal.room(engine, seen).await?,
                written => break written?,
            }
        };
        core.publish_groups();
        if ends {
            core.groups.forget(&group);
        }
        core.groups
            .journal()?
            .durable(engine, at.saturating_sub(1))
            .await
    }

    pub(super) async fn delete(self) -> Result<(), GroupError> {
        check_group_name(&self.name)?;
        let core = self.engine.core();
        core.check_groups()?;
        if core.groups.group(&self.name).is_none() {
            return Err(GroupError::UnknownGroup {
                name: self.name.to_string(),
            });
        }
        self.write(Change::Deleted, true).await
    }
}

impl Member {
    // Takes over what dead letters say, gets partitions, and waits until those are durable.
    async fn enter(&self, starts: &BTreeMap<Key, u64>) -> Result<(), GroupError> {
        let context = self.context();
        if let Some(letters) = &context.dead_letters {
            let core = context.core();
            context
                .with_room(|| context.group.take_dead_letters(core, letters))
                .await?;
        }
        let at = context.with_room(|| self.try_enter(starts)).await?;
        match at {
            Some(at) => context.journal()?.durable(&context.engine, at).await,
            None => Ok(()),
        }
    }

    fn try_enter(&self, starts: &BTreeMap<Key, u64>) -> Result<Option<u64>, GroupError> {
        let context = self.context();
        let mut inner = context.group.lock();
        context.attend(&mut inner, starts)?;
        let mine = inner.state.partitions.iter();
        let mine = mine.filter(|(_, progress)| progress.member == Some(context.id));
        let at = mine.filter_map(|(key, _)| inner.runtime.get(key)?.epoch_at);
        Ok(at.max())
    }
}

impl Engine {
    /// A consumer group: to join it, and to hold what it still needs. Names are as those of topics.
    pub fn group(&self, name: &str) -> ConsumerGroup {
        ConsumerGroup::new(self, name)
    }

    /// Deletes a group with all that it knows. Durable when this returns. Epochs go on rising: a
    /// group of that name that is made later has no epoch again that this one had.
    ///
    /// # Errors
    /// [`GroupError::UnknownGroup`], and [`GroupError::InUse`] while it has members.
    pub async fn delete_group(&self, name: &str) -> Result<(), GroupError> {
        self.group(name).delete().await
    }

    /// As [`Engine::delete_group`], waiting on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// As [`Engine::delete_group`].
    pub fn blocking_delete_group(&self, name: &str) -> Result<(), GroupError> {
        let delete = self.delete_group(name);
        blocking::wait("blocking_delete_group", "delete_group", delete)
    }
}
