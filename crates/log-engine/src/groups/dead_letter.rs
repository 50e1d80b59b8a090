//! Dead letters: records that a group gave up, and which of them a dead-letter topic has.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use record_batch::{BatchBuilder, BatchError};
use sync::Mutex;
use sync::atomic::Ordering;

use super::delivery::Receipt;
use super::error::GroupError;
use super::{journal, records};
use crate::config::Ack;
use crate::consumed_record::ConsumedRecord;
use crate::core::Core;
use crate::error::{AppendError, ReadError, TopicError};
use crate::headers;
use crate::partition::PartitionState;
use crate::topics::TopicState;

/// A record that a group gave up, as it lies in a dead-letter topic.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub(super) name: Name,
    pub(super) epoch: u64,
    attempts: u32,
    record: ConsumedRecord,
}

/// What a dead letter is told from others by: repeating the step that made it adds nothing (E8).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) topic_id: u128,
    pub(super) partition: u32,
    pub(super) offset: u64,
}

/// What a record of a dead-letter topic is.
pub(super) enum Entry {
    Letter(Box<DeadLetter>),
    /// The one there was sent again.
    SentAgain {
        partition: u32,
        offset: u64,
    },
    /// Somebody else put it there.
    Other,
}

fn text<'a>(record: &'a ConsumedRecord, name: &str) -> Option<&'a str> {
    std::str::from_utf8(record.header(name)?).ok()
}

fn number<T: std::str::FromStr>(record: &ConsumedRecord, name: &str) -> Option<T> {
    text(record, name)?.parse().ok()
}

fn place(text: &str) -> Option<(u32, u64)> {
    let (partition, offset) = text.split_once('/')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

impl Entry {
    pub(super) fn of(record: ConsumedRecord) -> Entry {
        let marked = text(&record, headers::DEAD_SENT_AGAIN).and_then(place);
        if let Some((partition, offset)) = marked {
            return Entry::SentAgain { partition, offset };
        }
        let letter = || {
            let topic_id = text(&record, headers::DEAD_TOPIC_ID)?;
            let name = Name {
                group: text(&record, headers::DEAD_GROUP)?.to_owned(),
                topic: text(&record, headers::DEAD_TOPIC)?.to_owned(),
                topic_id: u128::from_str_radix(topic_id, 16).ok()?,
                partition: number(&record, headers::DEAD_PARTITION)?,
                offset: number(&record, headers::DEAD_OFFSET)?,
            };
            let epoch = number(&record, headers::DEAD_EPOCH)?;
            let attempts = number(&record, headers::DEAD_ATTEMPTS)?;
            Some((name, epoch, attempts))
        };
        match letter() {
            Some((name, epoch, attempts)) => Entry::Letter(Box::new(DeadLetter {
                name,
                epoch,
                attempts,
                record,
            })),
            None => Entry::Other,
        }
    }
}

impl DeadLetter {
    /// The group that gave it up.
    pub fn group(&self) -> &str {
        &self.name.group
    }

    /// The topic it came from.
    pub fn topic(&self) -> &str {
        &self.name.topic
    }

    /// The partition it came from.
    pub fn partition(&self) -> u32 {
        self.name.partition
    }

    /// Its offset there.
    pub fn offset(&self) -> u64 {
        self.name.offset
    }

    /// The record's business id.
    pub fn biz_id(&self) -> Option<&[u8]> {
        self.record.biz_id().map(|id| &id[..])
    }

    /// Why it was given up, for programs.
    pub fn reason(&self) -> Cow<'_, str> {
        self.said(headers::DEAD_REASON)
    }

    /// The last error, for people.
    pub fn last_error(&self) -> Cow<'_, str> {
        self.said(headers::DEAD_ERROR)
    }

    fn said(&self, header: &str) -> Cow<'_, str> {
        let said = self.record.header(header);
        said.map_or(Cow::Borrowed(""), |said| String::from_utf8_lossy(said))
    }

    /// How often it had been delivered.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The record's scenario: that of its origin.
    pub fn scenario(&self) -> Cow<'_, str> {
        self.record.scenario()
    }

    /// When the record was first in a log, milliseconds since 1970.
    pub fn origin_ms(&self) -> i64 {
        self.record.origin_ms()
    }

    /// The record as it lies in the dead-letter topic, whose partition and offset it has: key, value
    /// and headers are the original's, with `dead-letter-` headers beside them.
    pub fn record(&self) -> &ConsumedRecord {
        &self.record
    }

    pub(super) fn place(&self) -> (u32, u64) {
        (self.record.partition(), self.record.offset())
    }
}

/// One dead-letter topic of an open engine, with the names of what is in it: about 100 bytes a dead
/// letter.
pub(super) struct DeadLetters {
    pub(super) topic: Arc<str>,
    /// Held while the topic is read and while a dead letter is put into its log, never while that
    /// is synced.
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    topic_id: u128,
    /// By partition, where reading goes on.
    read_to: Vec<u64>,
    letters: BTreeMap<Name, Known>,
    sent_again: BTreeSet<(u32, u64)>,
    /// Being sent again just now.
    sending: BTreeSet<(u32, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    place: (u32, u64),
    epoch: u64,
}

/// What is to become a dead letter.
pub(super) struct Given<'a> {
    pub(super) group: &'a str,
    pub(super) topic_id: u128,
    /// The epoch in which the partition was sought last.
    pub(super) sought: u64,
    pub(super) receipt: &'a Receipt,
    pub(super) record: &'a ConsumedRecord,
    pub(super) reason: &'a str,
    pub(super) details: &'a str,
}

/// Where a dead letter is, or what it waits for.
pub(super) enum Put {
    /// In the log, and durable once that is synced.
    There(Arc<PartitionState>, u64),
    /// No segment is ready; the number is [`Feeding`](crate::partition::Feeding)'s before.
    NoRoom(Arc<PartitionState>, u64),
}

impl DeadLetters {
    pub(super) fn new(topic: Arc<str>) -> DeadLetters {
        DeadLetters {
            topic,
            index: Mutex::default(),
        }
    }

    pub(super) fn failed(&self, source: AppendError) -> GroupError {
        let (topic, source) = (self.topic.clone(), Box::new(source));
        GroupError::Append { topic, source }
    }

    /// The topic as it is now.
    pub(super) fn state(&self, core: &Core) -> Result<Arc<TopicState>, GroupError> {
        let topics = core.topics.read();
        match topics.get(&self.topic) {
            Some(topic) => Ok(topic.clone()),
            None => Err(TopicError::UnknownTopic {
                name: self.topic.to_string(),
            }
            .into()),
        }
    }

    /// What of a group is in the topic: names, each with its epoch.
    pub(super) fn of_group(
        &self,
        core: &Core,
        group: &str,
    ) -> Result<Vec<(Name, u64)>, GroupError> {
        let topic = self.state(core)?;
        let mut index = self.index.lock();
        index.refresh(&topic)?;
        let letters = index.letters.iter().filter(|(name, _)| name.group == group);
        Ok(letters
            .map(|(name, known)| (name.clone(), known.epoch))
            .collect())
    }

    /// Puts a dead letter into the topic, unless it is there: in that case it is waited for.
    pub(super) fn put(&self, core: &Arc<Core>, given: &Given<'_>) -> Result<Put, GroupError> {
        let topic = self.state(core)?;
        let name = given.name();
        let mut index = self.index.lock();
        index.refresh(&topic)?;
        if let Some(known) = index.letters.get(&name) {
            // One that was sent again before the group was sought back says nothing of this time.
            let is_over = index.sent_again.contains(&known.place) && known.epoch < given.sought;
            if !is_over && let Some(state) = partition(&topic, known.place.0) {
                return Ok(Put::There(state, known.place.1));
            }
        }
        let count = u32::try_from(topic.partitions.len()).unwrap_or(1).max(1);
        let Some(state) = partition(&topic, given.receipt.partition % count) else {
            return Err(self.failed(AppendError::Closed));
        };
        let seen = state.feeding.turns.load(Ordering::Acquire);
        let mut builder = BatchBuilder::new();
        let written = given
            .build(&mut builder)
            .and_then(|()| builder.build_batch(None))
            .map_err(AppendError::Invalid)
            .and_then(|batch| journal::write(core, &state, &batch, Ack::Synced));
        match written {
            Ok(written) => {
                let known = Known {
                    place: (state.index, written.base_offset),
                    epoch: given.receipt.epoch,
                };
                index.letters.insert(name, known);
                Ok(Put::There(state, written.base_offset))
            }
            Err(AppendError::NotReady { .. }) => Ok(Put::NoRoom(state, seen)),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Begins to send a dead letter again; `false`: that was done.
    pub(super) fn begin_sending(
        &self,
        core: &Core,
        letter: &DeadLetter,
    ) -> Result<bool, GroupError> {
        let topic = self.state(core)?;
        let mut index = self.index.lock();
        index.refresh(&topic)?;
        if index.sent_again.contains(&letter.place()) {
            return Ok(false);
        }
        if !index.sending.insert(letter.place()) {
            let (partition, offset) = letter.place();
            return Err(GroupError::BeingSentAgain {
                topic: self.topic.clone(),
                partition,
                offset,
            });
        }
        Ok(true)
    }

    /// Ends sending a dead letter again, and notes whether it was.
    pub(super) fn end_sending(&self, place: (u32, u64), is_sent: bool) {
        let mut index = self.index.lock();
        index.sending.remove(&place);
        if is_sent {
            index.sent_again.insert(place);
        }
    }
}

pub(super) fn partition(topic: &TopicState, index: u32) -> Option<Arc<PartitionState>> {
    let index = usize::try_from(index).ok()?;
    topic.partitions.get(index).cloned()
}

impl Index {
    // Reads what came to the topic since the last time.
    fn refresh(&mut self, topic: &TopicState) -> Result<(), ReadError> {
        if self.topic_id != topic.entry.id {
            // It was deleted, and made again.
            *self = Index {
                topic_id: topic.entry.id,
                ..Index::default()
            };
        }
        self.read_to.resize(topic.partitions.len(), 0);
        for (state, read_to) in topic.partitions.iter().zip(&mut self.read_to) {
            if state.reader.high_watermark() <= *read_to {
                continue;
            }
            let (letters, sent_again) = (&mut self.letters, &mut self.sent_again);
            *read_to = records::each::<ReadError>(state, *read_to, |record| {
                match Entry::of(record) {
                    Entry::Letter(letter) => {
                        let known = Known {
                            place: letter.place(),
                            epoch: letter.epoch,
                        };
                        letters.insert(letter.name, known);
                    }
                    Entry::SentAgain { partition, offset } => {
                        sent_again.insert((partition, offset));
                    }
                    Entry::Other => {}
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl Given<'_> {
    fn name(&self) -> Name {
        Name {
            group: self.group.to_owned(),
            topic: self.receipt.topic.to_string(),
            topic_id: self.topic_id,
            partition: self.receipt.partition,
            offset: self.receipt.offset,
        }
    }

    // The record as it was, and beside it who gave it up, where it was, and why.
    fn build(&self, builder: &mut BatchBuilder) -> Result<(), BatchError> {
        let (receipt, record) = (self.receipt, self.record);
        let own: [(&str, String); 9] = [
            (headers::DEAD_GROUP, self.group.to_owned()),
            (headers::DEAD_TOPIC, receipt.topic.to_string()),
            (headers::DEAD_TOPIC_ID, format!("{:032x}", self.topic_id)),
            (headers::DEAD_PARTITION, receipt.partition.to_string()),
            (headers::DEAD_OFFSET, receipt.offset.to_string()),
            (headers::DEAD_EPOCH, receipt.epoch.to_string()),
            (headers::DEAD_ATTEMPTS, receipt.delivery.to_string()),
            (headers::DEAD_REASON, self.reason.to_owned()),
            (headers::DEAD_ERROR, self.details.to_owned()),
        ];
        let inherited = [
            (headers::SCENARIO, record.scenario().into_owned()),
            (headers::ORIGIN_TIME, record.origin_ms().to_string()),
        ];
        let missing = inherited
            .iter()
            .filter(|(name, _)| record.header(name).is_none());
        let kept = record
            .headers()
            .filter(|(name, _)| !name.starts_with(headers::DEAD_PREFIX))
            .map(|(name, value)| (name, value.map(|value| &value[..])));
        let added = own.iter().chain(missing);
        let added = added.map(|(name, value)| (*name, Some(value.as_bytes())));
        let headers: Vec<_> = kept.chain(added).collect();
        let (key, value) = (record.key(), record.value());
        builder.push(
            record.timestamp(),
            key.map(|key| &key[..]),
            value.map(|value| &value[..]),
            &headers,
        )
    }
}
