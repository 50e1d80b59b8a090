//! Sending dead letters again: each goes to its origin once, with what it had, and a record in the
//! dead-letter topic says that it did.
//!
//! A crash between the two appends has it sent again by the next try. The record has the original's
//! business id, so who recognises ids acts on it once.

use std::collections::BTreeSet;
use std::sync::Arc;

use record_batch::BatchBuilder;
use sync::atomic::Ordering;

use super::dead_letter::{DeadLetter, DeadLetters, Entry, partition};
use super::error::GroupError;
use super::{journal, records};
use crate::blocking;
use crate::config::Ack;
use crate::consumed_record::ConsumedRecord;
use crate::core::Core;
use crate::engine::{Engine, Handle};
use crate::error::{AppendError, ReadError, TopicError};
use crate::headers;
use crate::partition::PartitionState;
use crate::reader::Reader;
use crate::topics::TopicState;

impl Core {
    /// What is known of a dead-letter topic, which need not exist.
    pub(super) fn dead_letters(&self, topic: &str) -> Arc<DeadLetters> {
        let mut all = self.groups.dead_letters.lock();
        let name: Arc<str> = topic.into();
        all.entry(name.clone())
            .or_insert_with(|| Arc::new(DeadLetters::new(name)))
            .clone()
    }
}

impl Engine {
    /// The dead letters of a topic that were not sent again. Works beside a writer, too. Reads the
    /// topic twice: once at the call.
    ///
    /// # Errors
    /// [`GroupError::Topic`], [`GroupError::Read`].
    pub fn dead_letters(
        &self,
        topic: &str,
    ) -> Result<impl Iterator<Item = Result<DeadLetter, ReadError>> + use<>, GroupError> {
        let mut sent_again = BTreeSet::new();
        for state in &self.topic(topic)?.state.partitions {
            records::each::<ReadError>(state, 0, |record| {
                if let Entry::SentAgain { partition, offset } = Entry::of(record) {
                    sent_again.insert((partition, offset));
                }
                Ok(())
            })?;
        }
        let reader = self.reader(topic).open()?;
        Ok(letters(reader, sent_again))
    }

    /// Sends a dead letter again: to the partition it came from, with its original key, value,
    /// headers, business id, scenario and origin time, and with the header `redrive`. Done once,
    /// however often it is called; returns whether this call did it. Durable when this returns.
    ///
    /// A crash, or a failure, between the append to the origin and the note in the dead-letter topic
    /// has the record sent twice when the call is repeated. Both have the same business id.
    ///
    /// # Errors
    /// [`GroupError`]: no such topics, the appends failed, or somebody else is doing it.
    pub async fn redrive(&self, letter: &DeadLetter) -> Result<bool, GroupError> {
        let core = self.core();
        core.check_groups()?;
        let letters = core.dead_letters(letter.record().topic());
        if !letters.begin_sending(core, letter)? {
            return Ok(false);
        }
        let mut sending = Sending {
            letters: &letters,
            letter,
            is_sent: false,
        };
        send(self.handle(), &letters, letter).await?;
        sending.is_sent = true;
        Ok(true)
    }

    /// As [`Engine::redrive`], waiting on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// As [`Engine::redrive`].
    pub fn blocking_redrive(&self, letter: &DeadLetter) -> Result<bool, GroupError> {
        blocking::wait("blocking_redrive", "redrive", self.redrive(letter))
    }
}

fn letters(
    mut reader: Reader,
    sent_again: BTreeSet<(u32, u64)>,
) -> impl Iterator<Item = Result<DeadLetter, ReadError>> {
    let mut has_failed = false;
    std::iter::from_fn(move || {
        while !has_failed {
            match reader.try_next()? {
                Ok(record) => {
                    if let Entry::Letter(letter) = Entry::of(record)
                        && !sent_again.contains(&letter.place())
                    {
                        return Some(Ok(*letter));
                    }
                }
                Err(error) => {
                    has_failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    })
}

/// Keeps others from sending the same dead letter, however the call ends.
struct Sending<'a> {
    letters: &'a DeadLetters,
    letter: &'a DeadLetter,
    is_sent: bool,
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.letters.end_sending(self.letter.place(), self.is_sent);
    }
}

async fn send(
    engine: &Arc<Handle>,
    letters: &DeadLetters,
    letter: &DeadLetter,
) -> Result<(), GroupError> {
    let topic = |name: &str| -> Result<Arc<TopicState>, GroupError> {
        let topics = engine.core.topics.read();
        let unknown = || TopicError::UnknownTopic {
            name: name.to_owned(),
        };
        Ok(topics.get(name).cloned().ok_or_else(unknown)?)
    };
    let (partition_number, offset) = letter.place();
    let origin = topic(letter.topic())?;
    // One that was made again may have fewer.
    let count = u32::try_from(origin.partitions.len()).unwrap_or(1).max(1);
    let to = partition(&origin, letter.partition() % count);
    let dead = topic(&letters.topic)?;
    let note_to = partition(&dead, partition_number);
    let (Some(to), Some(note_to)) = (to, note_to) else {
        return Err(letters.failed(AppendError::Closed));
    };
    let redrive = format!("{}/{partition_number}/{offset}", letters.topic);
    let batch = again(letter.record(), &redrive).map_err(|e| letters.failed(e))?;
    let failed = |source| GroupError::Append {
        topic: letter.topic().into(),
        source: Box::new(source),
    };
    append(engine, &to, batch).await.map_err(failed)?;
    let mut note = BatchBuilder::new();
    let place = format!("{partition_number}/{offset}");
    let headers = [(headers::DEAD_SENT_AGAIN, Some(place.as_bytes()))];
    note.push(engine.core.time.now().wall_ms, None, None, &headers)
        .map_err(|e| letters.failed(AppendError::Invalid(e)))?;
    append(engine, &note_to, note)
        .await
        .map_err(|e| letters.failed(e))
}

fn again(record: &ConsumedRecord, redrive: &str) -> Result<BatchBuilder, AppendError> {
    let is_ours = |name: &str| name.starts_with(headers::DEAD_PREFIX) || name == headers::REDRIVE;
    let mut headers: Vec<_> = record
        .headers()
        .filter(|(name, _)| !is_ours(name))
        .map(|(name, value)| (name, value.map(|value| &value[..])))
        .collect();
    headers.push((headers::REDRIVE, Some(redrive.as_bytes())));
    let mut batch = BatchBuilder::new();
    let (key, value) = (record.key(), record.value());
    batch
        .push(
            record.timestamp(),
            key.map(|key| &key[..]),
            value.map(|value| &value[..]),
            &headers,
        )
        .map_err(AppendError::Invalid)?;
    Ok(batch)
}

// Durable when it returns.
async fn append(
    engine: &Arc<Handle>,
    state: &Arc<PartitionState>,
    mut builder: BatchBuilder,
) -> Result<(), AppendError> {
    let offset = loop {
        let seen = state.feeding.turns.load(Ordering::Acquire);
        let written = {
            let batch = builder.build_batch(None).map_err(AppendError::Invalid)?;
            journal::write(&engine.core, state, &batch, Ack::Synced)
        };
        match written {
            Ok(written) => break written.last_offset,
            Err(AppendError::NotReady { .. }) => journal::room(engine, state, seen).await?,
            Err(error) => return Err(error),
        }
    };
    journal::durable(engine, state, offset).await
}
