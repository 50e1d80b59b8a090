//! Handing out records.
//!
//! A poll plans under the group's lock, reads without it, and takes the lock again to write that
//! it delivers: only what is still as it was planned. Between the event and the return nothing
//! waits, so a poll that is dropped has delivered nothing.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use super::coordinator::{Inner, Shown};
use super::delivery::Delivery;
use super::error::GroupError;
use super::event::{Change, Run};
use super::journal::Journal;
use super::member::{Context, Member};
use super::reading::{self, Readers};
use super::state::{Key, Progress};
use crate::consumed_record::ConsumedRecord;
use crate::ends::State;
use crate::engine::{Engine, Handle};
use crate::error::TopicError;
use crate::partition::PartitionState;

/// How often a poll plans anew because other polls were faster.
const ATTEMPTS: usize = 16;

/// What a poll means to take of one partition.
struct Part {
    key: Key,
    topic_id: u128,
    epoch: u64,
    /// Due again, in ascending order.
    again: Vec<u64>,
    /// Where records begin that were not delivered before, and how many may be.
    from: u64,
    room: usize,
    records: Vec<ConsumedRecord>,
    /// Delivered before, and not in the log any more: a topic below `synced` lost them.
    missing: Vec<u64>,
    next: u64,
}

impl Member {
    pub(super) fn poll_without_waiting(
        &self,
        max: usize,
        visibility_ms: u64,
    ) -> Result<Vec<Delivery>, GroupError> {
        let context = self.context();
        let polled = match self.try_poll(max, visibility_ms) {
            Err(error) if error.is_not_ready() && context.core().config.is_driven => {
                crate::segment_feeder::turn(&context.journal()?.state);
                self.try_poll(max, visibility_ms)
            }
            polled => polled,
        };
        context.core().checkpoint_groups();
        match polled {
            // The journal's next segment is being prepared.
            Err(error) if error.is_not_ready() => Ok(Vec::new()),
            polled => polled,
        }
    }

    pub(super) async fn poll_until_some(
        &self,
        max: usize,
        visibility_ms: u64,
    ) -> Result<Vec<Delivery>, GroupError> {
        let context = self.context();
        let _polling = Polling::begin(context)?;
        loop {
            let waiting = Waiting::begin(context)?;
            let deliveries = self.poll_without_waiting(max, visibility_ms)?;
            if !deliveries.is_empty() || max == 0 {
                return Ok(deliveries);
            }
            waiting.wait().await;
        }
    }

    fn try_poll(&self, max: usize, visibility_ms: u64) -> Result<Vec<Delivery>, GroupError> {
        let context = self.context();
        let engine = Engine::from_handle(context.engine.clone());
        let mut readers = self.readers().lock();
        for _ in 0..ATTEMPTS {
            let mut parts = context.plan(max, &mut readers)?;
            let mut left = max;
            for part in &mut parts {
                part.read(&engine, &mut readers, &mut left)?;
            }
            parts.retain(|part| !part.is_empty());
            if parts.is_empty() {
                return Ok(Vec::new());
            }
            let deliveries = context.deliver(parts, visibility_ms)?;
            if !deliveries.is_empty() {
                return Ok(deliveries);
            }
        }
        Ok(Vec::new())
    }
}

impl Part {
    fn read(
        &mut self,
        engine: &Engine,
        readers: &mut Readers,
        left: &mut usize,
    ) -> Result<(), GroupError> {
        self.again.truncate(*left);
        if !self.again.is_empty() {
            (self.records, self.missing) = reading::at(engine, &self.key, &self.again)?;
            *left -= self.records.len().min(*left);
        }
        let count = self.room.min(*left);
        if count > 0 {
            let of = (&self.key, self.topic_id);
            let (records, next) = readers.next(engine, of, self.from, count)?;
            *left -= records.len();
            self.records.extend(records);
            self.next = next;
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.missing.is_empty() && self.next == self.from
    }
}

impl Context {
    // What there may be to deliver, without having read it.
    fn plan(&self, max: usize, readers: &mut Readers) -> Result<Vec<Part>, GroupError> {
        let journal = self.journal()?;
        // What is not durable now never will be, so a poll would wait for ever.
        journal.check()?;
        let now_ms = self.now_ms();
        let mut inner = self.group.lock();
        self.attend(&mut inner, &BTreeMap::new())?;
        self.check_topics()?;
        let mut next_due_ms = u64::MAX;
        let mut parts = Vec::new();
        let mine = |key: &Key| inner.owns(self.id, key, journal);
        readers.retain(mine);
        for (key, progress) in inner.state.partitions.iter().filter(|(key, _)| mine(key)) {
            let Some(state) = self.partition(key, progress.topic_id) else {
                continue;
            };
            self.check_gap(key, progress, &state)?;
            let runtime = inner.runtime.get(key);
            let mut again = Vec::new();
            for &offset in progress.delivered.keys() {
                match runtime.map_or(0, |runtime| runtime.due_ms(offset)) {
                    due_ms if due_ms > now_ms => next_due_ms = next_due_ms.min(due_ms),
                    _ if again.len() < max => again.push(offset),
                    _ => {}
                }
            }
            let has_more = state.reader.high_watermark() > progress.next;
            let room = match progress.room(self.max_in_flight) {
                room if has_more => room,
                _ => 0,
            };
            if !again.is_empty() || room > 0 {
                parts.push(Part {
                    key: key.clone(),
                    topic_id: progress.topic_id,
                    epoch: progress.epoch,
                    again,
                    from: progress.next,
                    room,
                    records: Vec::new(),
                    missing: Vec::new(),
                    next: progress.next,
                });
            }
        }
        // When another member's session ends, its partitions may be this one's.
        let others = inner.members.iter().filter(|(id, _)| **id != self.id);
        let silent = others.filter(|(_, member)| member.polling == 0);
        let ends = silent
            .map(|(_, member)| member.ends_ms().saturating_add(1))
            .min();
        drop(inner);
        let next_due_ms = next_due_ms.min(ends.unwrap_or(u64::MAX));
        if next_due_ms < u64::MAX {
            self.core().groups.wake_at(next_due_ms);
        }
        if !parts.is_empty() {
            readers.turn = (readers.turn + 1) % parts.len();
            parts.rotate_left(readers.turn);
        }
        Ok(parts)
    }

    // A member none of whose topics is left would wait for ever.
    fn check_topics(&self) -> Result<(), GroupError> {
        let topics = self.core().topics.read();
        let mut names = self.subscribed().iter();
        if names.any(|name| topics.contains_key(name)) {
            return Ok(());
        }
        let first = self.subscribed().first();
        let name = first.map_or_else(String::new, |name| name.to_string());
        Err(TopicError::UnknownTopic { name }.into())
    }

    // Records that the group did not consume are gone.
    fn check_gap(
        &self,
        key: &Key,
        progress: &Progress,
        state: &PartitionState,
    ) -> Result<(), GroupError> {
        let start = state.reader.log_start_offset();
        let position = progress.lost.unwrap_or_else(|| progress.position());
        if progress.lost.is_none() && position >= start {
            return Ok(());
        }
        Err(GroupError::Gap {
            group: self.group.name.clone(),
            topic: key.0.clone(),
            partition: key.1,
            position,
            start,
            end: state.reader.high_watermark(),
        })
    }

    // Delivers what is still as it was planned.
    fn deliver(
        self: &Arc<Self>,
        mut parts: Vec<Part>,
        visibility_ms: u64,
    ) -> Result<Vec<Delivery>, GroupError> {
        let journal = self.journal()?;
        let now_ms = self.now_ms();
        let mut inner = self.group.lock();
        self.check(&inner)?;
        let mut changes = Vec::new();
        for part in &mut parts {
            part.keep_current(&inner, (self.id, journal), now_ms);
            let (topic, partition, epoch) = (part.key.0.to_string(), part.key.1, part.epoch);
            if !part.missing.is_empty() {
                changes.push(Change::Acked {
                    topic: topic.clone(),
                    partition,
                    epoch,
                    runs: Run::of(part.missing.iter().copied()),
                });
            }
            if !part.records.is_empty() || part.next > part.from {
                changes.push(Change::Delivered {
                    topic,
                    partition,
                    epoch,
                    runs: Run::of(part.records.iter().map(ConsumedRecord::offset)),
                    next: part.next,
                });
            }
        }
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        self.group.write(self.core(), &mut inner, &changes, false)?;
        let due_ms = now_ms.saturating_add(visibility_ms);
        let shown = Shown {
            due_ms,
            is_nacked: false,
        };
        let mut deliveries = Vec::new();
        for part in parts {
            for record in part.records {
                let offset = record.offset();
                let runtime = inner.runtime.entry(part.key.clone()).or_default();
                runtime.shown.insert(offset, shown);
                let progress = inner.state.partitions.get(&part.key);
                let number = progress.and_then(|p| p.delivered.get(&offset)).copied();
                deliveries.push(Delivery::new(
                    self,
                    record,
                    (part.epoch, number.unwrap_or(1)),
                ));
            }
        }
        drop(inner);
        self.core().groups.wake_at(due_ms);
        Ok(deliveries)
    }
}

impl Part {
    fn keep_current(&mut self, inner: &Inner, (me, journal): (u64, &Journal), now_ms: u64) {
        let progress = inner.state.partitions.get(&self.key);
        let same = progress.filter(|p| p.epoch == self.epoch && inner.owns(me, &self.key, journal));
        let Some(progress) = same else {
            self.records.clear();
            self.missing.clear();
            self.next = self.from;
            return;
        };
        let runtime = inner.runtime.get(&self.key);
        let is_due = |offset: u64| runtime.map_or(0, |r| r.due_ms(offset)) <= now_ms;
        let is_again = |offset: u64| progress.delivered.contains_key(&offset) && is_due(offset);
        let is_next = progress.next == self.from;
        let from = self.from;
        // What a dead letter has acknowledged before it was ever delivered is not handed out.
        self.records.retain(|record| match record.offset() {
            offset if offset < from => is_again(offset),
            offset => is_next && !progress.acked.contains(&offset),
        });
        self.missing.retain(|offset| is_again(*offset));
        if !is_next {
            self.next = self.from;
        }
    }
}

/// A member that waits is there, however long it takes.
struct Polling<'a>(&'a Arc<Context>);

impl<'a> Polling<'a> {
    fn begin(context: &'a Arc<Context>) -> Result<Polling<'a>, GroupError> {
        let mut inner = context.group.lock();
        match context.attend(&mut inner, &BTreeMap::new()) {
            Err(error) if !error.is_not_ready() => return Err(error),
            _ => {}
        }
        if let Some(member) = inner.members.get_mut(&context.id) {
            member.polling += 1;
        }
        Ok(Polling(context))
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        let now_ms = self.0.now_ms();
        let mut inner = self.0.group.lock();
        if let Some(member) = inner.members.get_mut(&self.0.id) {
            member.polling = member.polling.saturating_sub(1);
            member.seen_ms = member.seen_ms.max(now_ms);
        }
    }
}

/// Everything that may give a poll something to deliver, as it was before the poll looked.
struct Waiting {
    context: Arc<Context>,
    version: u64,
    journal: (Arc<PartitionState>, u64, u64),
    logs: Vec<(Arc<PartitionState>, u64)>,
}

type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Waiting {
    fn begin(context: &Arc<Context>) -> Result<Waiting, GroupError> {
        let journal = context.journal()?;
        let version = context.group.version();
        let state = journal.state.clone();
        let journal = (state.clone(), state.ends.synced(), journal.turns());
        let mut logs = Vec::new();
        for topic in context.subscribed() {
            let topics = context.core().topics.read();
            let Some(topic) = topics.get(topic) else {
                continue;
            };
            let end = |state: &Arc<PartitionState>| (state.clone(), state.reader.high_watermark());
            logs.extend(topic.partitions.iter().map(end));
        }
        Ok(Waiting {
            context: context.clone(),
            version,
            journal,
            logs,
        })
    }

    async fn wait(self) {
        let Waiting {
            context,
            version,
            journal,
            logs,
        } = self;
        let engine = context.engine.clone();
        let mut waits: Vec<Wait> = Vec::new();
        let group = context.group.clone();
        waits.push(Box::pin(async move { group.wait(version).await }));
        waits.push(Box::pin(until_journal_moves(engine.clone(), journal)));
        for (state, end) in logs {
            waits.push(Box::pin(until_more(engine.clone(), state, end)));
        }
        poll_fn(|cx| {
            let is_ready = |wait: &mut Wait| wait.as_mut().poll(cx).is_ready();
            if waits.iter_mut().any(is_ready) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

// An epoch is durable, or a segment is ready.
async fn until_journal_moves(
    engine: Arc<Handle>,
    (state, synced, turns): (Arc<PartitionState>, u64, u64),
) {
    let journal = Journal {
        state: state.clone(),
    };
    let moved = || {
        let has_ended = state.ends.state() != State::Open || engine.core.is_closed();
        let has_moved = state.ends.synced() != synced || journal.turns() != turns;
        (has_moved || has_ended).then_some(())
    };
    state.ends.wait(moved).await;
}

async fn until_more(engine: Arc<Handle>, state: Arc<PartitionState>, end: u64) {
    let more = || {
        let has_ended = matches!(state.ends.state(), State::Closed | State::Deleted);
        let has_more = state.reader.high_watermark() != end;
        (has_more || has_ended || engine.core.is_closed()).then_some(())
    };
    state.ends.wait(more).await;
}
