//! Which partition a record goes to.

use std::time::Duration;

use super::builder::Settings;
use super::lane::{Lane, LaneSettings};
use super::shared::{ProducerCore, State};
use crate::ends::State as PartitionStatus;
use crate::engine::Engine;
use crate::error::{SendError, TopicError};
use crate::partitioner::partition_for_key;
use crate::record::Record;
use crate::topic::Topic;

/// Where the records of a topic go.
pub(super) struct Route {
    topic: Topic,
    lanes: Vec<Option<usize>>,
    /// Partition of records without a key, until its batch is full.
    sticky: u32,
    sticky_bytes: usize,
    sticky_records: usize,
}

impl Route {
    fn to(topic: Topic) -> Route {
        Route {
            lanes: (0..topic.partitions()).map(|_| None).collect(),
            topic,
            sticky: 0,
            sticky_bytes: 0,
            sticky_records: 0,
        }
    }

    fn is_deleted(&self) -> bool {
        let first = self.topic.state.partitions.first();
        first.is_some_and(|partition| partition.ends.state() == PartitionStatus::Deleted)
    }

    fn next_sticky(&mut self, bytes: usize, settings: &Settings) -> u32 {
        let is_full = self.sticky_bytes.saturating_add(bytes) > settings.batch_bytes
            || self.sticky_records >= settings.batch_records;
        if self.sticky_records > 0 && is_full {
            self.sticky = (self.sticky + 1) % self.topic.partitions().max(1);
            (self.sticky_bytes, self.sticky_records) = (0, 0);
        }
        self.sticky_bytes += bytes;
        self.sticky_records += 1;
        self.sticky
    }
}

/// Where a named producer's record goes: a function of the record alone, so that it is the same in
/// every run. Sticky would send it to another partition after a restart, where it is new.
pub(super) fn partition_in_every_run(record: &Record<'_>, partitions: u32) -> u32 {
    match record.key_bytes() {
        Some(key) => partition_for_key(key, partitions),
        None => {
            let position = record.source_position().unwrap_or(0);
            u32::try_from(position % u64::from(partitions.max(1))).unwrap_or(0)
        }
    }
}

// A retry must find its producer known. A log that takes unknown ones would store it twice; one that
// does not refuses it. A lane uses its id for half of the time until the log forgets it, and the
// last batch that it begins then may be tried for the other half. Named producers are not forgotten.
fn check_patience(settings: &Settings, topic: &Topic) -> Result<(), SendError> {
    let config = topic.config();
    let expiry_ms = config.producer_expiry_ms();
    let timeout_ms = u64::try_from(settings.delivery_timeout.as_millis()).unwrap_or(u64::MAX);
    if config.takes_unknown_producers() && timeout_ms > expiry_ms / 2 {
        return Err(SendError::Expiry {
            topic: topic.name().into(),
            delivery_timeout_ms: timeout_ms,
            expiry_ms,
        });
    }
    Ok(())
}

impl ProducerCore {
    /// The lane of the record's partition; made when it is the first to go there.
    pub(super) fn lane_for(
        &self,
        state: &mut State,
        name: &str,
        record: &Record<'_>,
        bytes: usize,
    ) -> Result<usize, SendError> {
        if state.topics.get(name).is_some_and(Route::is_deleted) {
            self.leave(state, name)?;
        }
        if !state.topics.contains_key(name) {
            let topic = self.topic(name)?;
            match &mut state.source {
                Some(source) => source.pin(&self.engine.core, &topic)?,
                None => check_patience(&self.settings, &topic)?,
            }
            state.topics.insert(name.to_owned(), Route::to(topic));
        }
        let is_named = state.source.is_some();
        let Some(route) = state.topics.get_mut(name) else {
            return Err(SendError::NoTopic);
        };
        let partition = match record.key_bytes() {
            None if !is_named => route.next_sticky(bytes, &self.settings),
            _ => partition_in_every_run(record, route.topic.partitions()),
        };
        let slot = usize::try_from(partition).unwrap_or(usize::MAX);
        if let Some(Some(at)) = route.lanes.get(slot) {
            return Ok(*at);
        }
        let mut handle = route.topic.partition(partition)?;
        if let Some(ack) = self.settings.ack {
            handle = handle
                .raise_ack(ack)
                .map_err(|e| SendError::Stopped(Box::new(e)))?;
        }
        let window = usize::try_from(route.topic.config().producer_window()).unwrap_or(5);
        let milliseconds = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let settings = LaneSettings {
            compression: self.settings.compression,
            batch_bytes: self.settings.batch_bytes,
            batch_records: self.settings.batch_records,
            linger_ms: milliseconds(self.settings.linger),
            in_flight_max: self.settings.max_in_flight.min(window),
            delivery_timeout_ms: milliseconds(self.settings.delivery_timeout),
            retry_backoff_max_ms: milliseconds(self.settings.retry_backoff_max),
            is_named,
        };
        let place = (handle, route.topic.id());
        if is_named && let Some(mut log) = place.0.state.log() {
            log.producers_mut().keep(state.identity.0);
        }
        let lane = Lane::new(place, settings, state.identity, state.identity_ms);
        let at = state.lanes.len();
        if let Some(place) = route.lanes.get_mut(slot) {
            *place = Some(at);
        }
        state.lanes.push(lane);
        Ok(at)
    }

    // A topic that is made again is another one. Its records get another producer id, so that the
    // append ids of the old one's never name them. A named producer has one id, and stops.
    fn leave(&self, state: &mut State, name: &str) -> Result<(), SendError> {
        if state.source.is_none() {
            state.identity = (self.engine.core.allocate_producer_id()?, 0);
            state.identity_ms = self.now_ms();
            state.topics.remove(name);
        }
        Ok(())
    }

    fn topic(&self, name: &str) -> Result<Topic, SendError> {
        let engine = Engine::from_handle(self.engine.clone());
        match (engine.topic(name), self.settings.create_partitions) {
            (Err(TopicError::UnknownTopic { .. }), Some(partitions)) => {
                Ok(engine.ensure_topic(name, partitions)?)
            }
            (found, _) => Ok(found?),
        }
    }
}
