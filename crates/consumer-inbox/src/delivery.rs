//! What a store and a handler need to know about one hand-over of a record.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use log_engine::ConsumedRecord;

use crate::dedup_store::ClaimRequest;
use crate::identity::{BizId, DedupKey, Fingerprint, IdError, IdPolicy, Part, Position, Scope};

/// One hand-over of a record to a consumer. A record may be delivered many times.
#[derive(Debug, Clone)]
pub struct Delivery {
    part: Part,
    offset: u64,
    epoch: u64,
    deliveries: u32,
    key: DedupKey,
    fingerprint: Fingerprint,
    ordering_key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(Arc<str>, Option<Bytes>)>,
    origin_ms: Option<u64>,
    redrive: bool,
}

/// What a group knows about a delivery beside its record.
#[derive(Debug, Clone, Default)]
pub struct Arrival {
    /// The partition's epoch in the group: from 1.
    pub epoch: u64,
    /// How often the record was delivered, this time included.
    pub deliveries: u32,
    /// Its scenario; the topic's name if none.
    pub scenario: Option<Arc<str>>,
    /// When a log first stored it, ms since 1970.
    pub origin_ms: Option<u64>,
    /// Whether it comes from the dead-letter topic, on purpose.
    pub redrive: bool,
}

impl Arrival {
    fn of(delivery: &log_engine::Delivery) -> Arrival {
        Arrival {
            epoch: delivery.receipt().epoch,
            deliveries: delivery.deliveries(),
            scenario: Some(delivery.scenario().into()),
            origin_ms: u64::try_from(delivery.origin_ms()).ok(),
            redrive: delivery.is_redrive(),
        }
    }
}

impl Delivery {
    /// A record of the log, as a group delivers it.
    ///
    /// # Errors
    /// [`IdError::Missing`] unless the policy names records by their position; what is wrong with the id otherwise.
    pub fn of_record(
        group: impl Into<Arc<str>>,
        record: &ConsumedRecord,
        arrival: Arrival,
        ids: IdPolicy,
    ) -> Result<Delivery, IdError> {
        let at = Position {
            topic: record.topic(),
            partition: record.partition(),
            offset: record.offset(),
        };
        let id = match (record.biz_id(), ids) {
            (Some(id), _) => BizId::new(id)?,
            (None, IdPolicy::UsePosition) => BizId::of_position(at),
            (None, IdPolicy::Park | IdPolicy::Fail) => {
                return Err(IdError::Missing {
                    topic: at.topic.into(),
                    partition: at.partition,
                    offset: at.offset,
                });
            }
        };
        Ok(Delivery::of_named(group.into(), record, arrival, id))
    }

    fn of_named(group: Arc<str>, record: &ConsumedRecord, arrival: Arrival, id: BizId) -> Delivery {
        let at = Position {
            topic: record.topic(),
            partition: record.partition(),
            offset: record.offset(),
        };
        let headers = record
            .headers()
            .map(|(name, value)| (name.into(), value.cloned()));
        let mut delivery = Delivery::new(group, at, id, record.value().cloned());
        delivery.ordering_key = record.key().cloned();
        delivery.headers = headers.collect();
        delivery.epoch = arrival.epoch;
        delivery.deliveries = arrival.deliveries;
        delivery.origin_ms = arrival.origin_ms;
        delivery.redrive = arrival.redrive;
        if let Some(scenario) = arrival.scenario {
            delivery.key.scope.scenario = scenario;
        }
        delivery
    }

    /// What a group of the engine delivered.
    ///
    /// # Errors
    /// As of [`of_record`](Delivery::of_record).
    pub fn of_group(
        group: impl Into<Arc<str>>,
        delivery: &log_engine::Delivery,
        ids: IdPolicy,
    ) -> Result<Delivery, IdError> {
        Delivery::of_record(group, delivery.record(), Arrival::of(delivery), ids)
    }

    /// The same, under its position, whatever id it carries.
    #[cfg(feature = "runner")]
    pub(crate) fn of_group_by_position(
        group: impl Into<Arc<str>>,
        delivery: &log_engine::Delivery,
    ) -> Delivery {
        let record = delivery.record();
        let id = BizId::of_position(Position {
            topic: record.topic(),
            partition: record.partition(),
            offset: record.offset(),
        });
        Delivery::of_named(group.into(), record, Arrival::of(delivery), id)
    }

    /// The same delivery, with its position for its id.
    #[cfg(feature = "runner")]
    pub(crate) fn by_position(&self) -> Delivery {
        let mut named = self.clone();
        named.key.id = BizId::of_position(self.position());
        // Of the id that it has, not of its place.
        named.redrive = false;
        named
    }

    /// A record of another log, Kafka say: no oncelog engine is needed. It is at epoch 1, delivered once, of the topic's
    /// scenario and of unknown origin time, until told otherwise. No payload is a tombstone.
    ///
    /// # Errors
    /// What is wrong with the id.
    pub fn foreign<'p>(
        group: impl Into<Arc<str>>,
        at: Position<'_>,
        id: &(impl AsRef<[u8]> + ?Sized),
        payload: impl Into<Option<&'p [u8]>>,
    ) -> Result<Delivery, IdError> {
        let payload = payload.into().map(Bytes::copy_from_slice);
        Ok(Delivery::new(group.into(), at, BizId::new(id)?, payload))
    }

    fn new(group: Arc<str>, at: Position<'_>, id: BizId, value: Option<Bytes>) -> Delivery {
        let part = Part::new(group.clone(), at.topic, at.partition);
        Delivery {
            key: DedupKey::new(Scope::new(group, part.topic.clone()), id),
            part,
            offset: at.offset,
            epoch: 1,
            deliveries: 1,
            fingerprint: Fingerprint::of_value(value.as_deref()),
            ordering_key: None,
            value,
            headers: Vec::new(),
            origin_ms: None,
            redrive: false,
        }
    }

    /// Sets the epoch: that of the generation in which a foreign group was given the partition.
    #[must_use]
    pub fn at_epoch(mut self, epoch: u64) -> Delivery {
        self.epoch = epoch;
        self
    }

    /// Sets how often it was delivered, this time included.
    #[must_use]
    pub fn delivered(mut self, times: u32) -> Delivery {
        self.deliveries = times;
        self
    }

    /// Sets the scenario, which is the topic's name otherwise.
    #[must_use]
    pub fn in_scenario(mut self, scenario: impl Into<Arc<str>>) -> Delivery {
        self.key.scope.scenario = scenario.into();
        self
    }

    /// Sets the ordering key.
    #[must_use]
    pub fn keyed(mut self, key: impl AsRef<[u8]>) -> Delivery {
        self.ordering_key = Some(Bytes::copy_from_slice(key.as_ref()));
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<Arc<str>>, value: Option<&[u8]>) -> Delivery {
        let value = value.map(Bytes::copy_from_slice);
        self.headers.push((name.into(), value));
        self
    }

    /// Sets when the log first stored the record, ms since 1970.
    #[must_use]
    pub fn stored_at(mut self, origin_ms: u64) -> Delivery {
        self.origin_ms = Some(origin_ms);
        self
    }

    /// Says that it comes from the dead-letter topic, on purpose.
    #[must_use]
    pub fn redriven(mut self) -> Delivery {
        self.redrive = true;
        self
    }

    /// Takes the fingerprint of these bytes instead of the payload's: of what stays the same when a sender stamps each try
    /// anew.
    #[must_use]
    pub fn fingerprint_of(mut self, bytes: &[u8]) -> Delivery {
        self.fingerprint = Fingerprint::of(bytes);
        self
    }

    /// The partition, to the group.
    pub fn part(&self) -> &Part {
        &self.part
    }

    /// Where the record is.
    pub fn position(&self) -> Position<'_> {
        Position {
            topic: &self.part.topic,
            partition: self.part.partition,
            offset: self.offset,
        }
    }

    /// The record's offset.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The partition's epoch in the group.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How often the record was delivered, this time included.
    pub fn deliveries(&self) -> u32 {
        self.deliveries
    }

    /// What its dedup record is found by.
    pub fn dedup_key(&self) -> &DedupKey {
        &self.key
    }

    /// The business meaning.
    pub fn scenario(&self) -> &str {
        &self.key.scope.scenario
    }

    /// The business id; none if the position stands for it.
    pub fn biz_id(&self) -> Option<&[u8]> {
        let id = &self.key.id;
        (!id.is_position()).then(|| id.as_bytes())
    }

    /// The business id as text.
    ///
    /// # Errors
    /// [`IdError::NotText`], and [`IdError::Missing`] if there is none.
    pub fn biz_id_str(&self) -> Result<&str, IdError> {
        let missing = || IdError::Missing {
            topic: self.part.topic.clone(),
            partition: self.part.partition,
            offset: self.offset,
        };
        let id = self.biz_id().ok_or_else(missing)?;
        std::str::from_utf8(id).map_err(|_| IdError::NotText)
    }

    /// What its payload is recognised by.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The record's key. Records of one are worked on in order.
    pub fn ordering_key(&self) -> Option<&Bytes> {
        self.ordering_key.as_ref()
    }

    /// The payload; empty for a tombstone, too.
    pub fn payload(&self) -> &[u8] {
        self.value.as_deref().unwrap_or_default()
    }

    /// The record's value; none is a tombstone.
    pub fn value(&self) -> Option<&Bytes> {
        self.value.as_ref()
    }

    /// The headers, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&Bytes>)> {
        self.headers
            .iter()
            .map(|(name, value)| (&**name, value.as_ref()))
    }

    /// The value of the last header of that name, if that has one.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        let named = self.headers.iter().rev().find(|(key, _)| &**key == name);
        named.and_then(|(_, value)| value.as_ref())
    }

    /// When a log first stored it, ms since 1970; the same in dead letters, re-drives and copies.
    pub fn origin_ms(&self) -> Option<u64> {
        self.origin_ms
    }

    /// Whether it comes from the dead-letter topic, on purpose.
    pub fn is_redrive(&self) -> bool {
        self.redrive
    }

    /// A claim on its id.
    pub fn claim(&self, owner: u128, lease: Duration) -> ClaimRequest<'_> {
        ClaimRequest {
            redrive: self.redrive,
            origin_ms: self.origin_ms,
            position: Some(self.position()),
            ..ClaimRequest::new(&self.key, owner, self.fingerprint, lease)
        }
    }
}
