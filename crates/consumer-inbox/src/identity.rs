//! Who a record is to a consumer: scope, business id, position, and digests of them.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

/// What the keys of records without a business id begin with; no business id may.
const POSITION_PREFIX: &[u8] = b"\0position\0";

/// What dedup records belong to: a consumer group, and the business meaning of what it consumes.
/// Records of one scope never answer for another (E14).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// The consumer group.
    pub group: Arc<str>,
    /// The business meaning, "create-order"; the topic's name unless the record says otherwise.
    pub scenario: Arc<str>,
}

impl Scope {
    /// The scope of a group and a scenario.
    pub fn new(group: impl Into<Arc<str>>, scenario: impl Into<Arc<str>>) -> Scope {
        Scope {
            group: group.into(),
            scenario: scenario.into(),
        }
    }

    /// 128 bits that stand for the scope: for the names of keys. Digests are not identity.
    pub fn digest(&self) -> [u8; 16] {
        let parts = [self.group.as_bytes(), self.scenario.as_bytes()];
        shortened(digest_of("oncelog scope", &parts))
    }
}

/// A business id: 1 to 512 bytes, opaque, compared bytewise, unique in its scenario.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BizId(Bytes);

impl BizId {
    /// The most bytes of an id.
    pub const MAX_BYTES: usize = 512;

    /// The id of these bytes, which are copied.
    ///
    /// # Errors
    /// [`IdError::Length`] below 1 or above 512 bytes, [`IdError::Reserved`] for bytes that begin
    /// like the key of a position.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<BizId, IdError> {
        let bytes = bytes.as_ref();
        match bytes.len() {
            1..=BizId::MAX_BYTES if bytes.starts_with(POSITION_PREFIX) => Err(IdError::Reserved),
            1..=BizId::MAX_BYTES => Ok(BizId(Bytes::copy_from_slice(bytes))),
            bytes => Err(IdError::Length { bytes }),
        }
    }

    /// The id of a record that has none: its position, under bytes that no business id can have.
    pub fn of_position(at: Position<'_>) -> BizId {
        let mut bytes = BytesMut::with_capacity(POSITION_PREFIX.len() + 12 + at.topic.len());
        bytes.put_slice(POSITION_PREFIX);
        bytes.put_u32(at.partition);
        bytes.put_u64(at.offset);
        bytes.put_slice(at.topic.as_bytes());
        BizId(bytes.freeze())
    }

    /// Whether it stands for a position, not for a business fact.
    pub fn is_position(&self) -> bool {
        self.0.starts_with(POSITION_PREFIX)
    }

    /// The id whose bytes a store kept.
    #[cfg(feature = "redis")]
    pub(crate) fn stored(bytes: impl Into<Bytes>) -> BizId {
        BizId(bytes.into())
    }

    /// The bytes, as stores keep them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for BizId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BizId(b\"{}\")", self.0.escape_ascii())
    }
}

/// Why bytes are no business id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Too short or too long.
    #[error(
        "a business id has 1 to 512 bytes, this one has {bytes}: send a shorter one, a digest of it say"
    )]
    Length {
        /// Bytes that it has.
        bytes: usize,
    },
    /// It would be taken for a position.
    #[error(
        "a business id must not begin with the bytes \"\\0position\\0\", which stand for records without one"
    )]
    Reserved,
    /// The record has none, and the policy asks for one.
    #[error(
        "the record at {topic}-{partition}, offset {offset}, has no business id: send one in the header `biz-id`, or let `IdPolicy::UsePosition` name it"
    )]
    Missing {
        /// Its topic.
        topic: Arc<str>,
        /// Its partition.
        partition: u32,
        /// Its offset.
        offset: u64,
    },
    /// It was asked for as text.
    #[error("the business id is not UTF-8: read its bytes")]
    NotText,
}

/// What names a record that has no business id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdPolicy {
    /// Its position: a redelivery is recognised, the same fact in another record is not.
    #[default]
    UsePosition,
    /// Nothing: it goes to the dead-letter topic.
    Park,
    /// Nothing: the consumer stops.
    Fail,
}

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
}

/// A partition as a group consumes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part {
    /// The group.
    pub group: Arc<str>,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
}

impl Part {
    /// A partition of a topic, to a group.
    pub fn new(group: impl Into<Arc<str>>, topic: impl Into<Arc<str>>, partition: u32) -> Part {
        Part {
            group: group.into(),
            topic: topic.into(),
            partition,
        }
    }
}

/// What a dedup record is found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DedupKey {
    /// Group and scenario.
    pub scope: Scope,
    /// The business id in it.
    pub id: BizId,
}

impl DedupKey {
    /// The key of an id in a scope.
    pub fn new(scope: Scope, id: BizId) -> DedupKey {
        DedupKey { scope, id }
    }

    /// BLAKE3 of group, scenario and id, each behind its length (E14).
    pub fn digest(&self) -> [u8; 32] {
        let scope = &self.scope;
        let parts = [
            scope.group.as_bytes(),
            scope.scenario.as_bytes(),
            self.id.as_bytes(),
        ];
        digest_of("oncelog dedup key", &parts)
    }

    /// The first half of [`digest`](DedupKey::digest): for indexes, which confirm a hit by the key.
    pub fn digest128(&self) -> u128 {
        u128::from_be_bytes(shortened(self.digest()))
    }

    /// 64 hex digits to hand to a remote service: the same at each attempt and each delivery.
    pub fn idempotency_key(&self) -> String {
        hex(&self.digest())
    }

    /// The same for one of several remote calls of a handler.
    pub fn step_key(&self, step: &str) -> String {
        hex(&digest_of(
            "oncelog step",
            &[&self.digest(), step.as_bytes()],
        ))
    }
}

/// What a payload is recognised by: BLAKE3, cut to 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 16]);

impl Fingerprint {
    /// Of a record without a value.
    pub const TOMBSTONE: Fingerprint = Fingerprint([0; 16]);

    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Fingerprint {
        Fingerprint(shortened(*blake3::hash(bytes).as_bytes()))
    }

    /// Of a record's value; none and an empty one differ.
    pub fn of_value(value: Option<&[u8]>) -> Fingerprint {
        value.map_or(Fingerprint::TOMBSTONE, Fingerprint::of)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({})", hex(&self.0))
    }
}

// Each part behind its length, so that "a" + "b:c" and "a:b" + "c" differ (E14).
fn digest_of(purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in [&[purpose.as_bytes()], parts].concat() {
        // A usize fits.
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

fn shortened(digest: [u8; 32]) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
