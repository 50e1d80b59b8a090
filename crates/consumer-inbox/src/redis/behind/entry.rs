//! What a transaction tells the database: big-endian numbers, and parts behind their lengths.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use crate::entity::EntityRow;
use crate::error::StoreError;
use crate::id_row::Origin;
use crate::identity::{BizId, DedupKey, Fingerprint, Part, Scope};
use crate::inbox::Outgoing;
use crate::redis::server::unexpected;

/// The first byte of an entry.
const VERSION: u8 = 1;

/// An id that a transaction settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) is_done: bool,
    /// Whether it was parked before.
    pub(super) was_parked: bool,
    pub(super) fingerprint: Fingerprint,
    pub(super) origin: Origin,
    pub(super) result: Option<Bytes>,
}

/// A committed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) part: Part,
    pub(super) next: u64,
    pub(super) entities: Vec<(Vec<u8>, EntityRow)>,
    pub(super) ids: Vec<(DedupKey, Settled)>,
    pub(super) seen: Vec<(DedupKey, Origin)>,
    pub(super) outgoing: Vec<Outgoing>,
}

impl Entry {
    pub(super) fn encode(&self) -> Result<Vec<u8>, StoreError> {
        let mut out = Out(vec![VERSION]);
        out.part(self.part.group.as_bytes())?;
        out.part(self.part.topic.as_bytes())?;
        out.0.put_u32(self.part.partition);
        out.0.put_u64(self.next);
        out.count(self.entities.len())?;
        for (id, row) in &self.entities {
            out.part(id)?;
            out.0.put_u64(row.version);
            out.0.put_i64(row.amount);
            out.optional(row.value.as_deref())?;
        }
        out.count(self.ids.len())?;
        for (key, id) in &self.ids {
            out.key(key)?;
            out.0.put_u8(u8::from(id.is_done));
            out.0.put_slice(&id.fingerprint.0);
            out.origin(&id.origin)?;
            out.optional(id.result.as_deref())?;
        }
        out.count(self.seen.len())?;
        for (key, origin) in &self.seen {
            out.key(key)?;
            out.origin(origin)?;
        }
        out.count(self.outgoing.len())?;
        for record in &self.outgoing {
            out.part(record.topic.as_bytes())?;
            out.optional(record.key.as_deref())?;
            out.optional(record.value.as_deref())?;
            out.count(record.headers.len())?;
            for (name, value) in &record.headers {
                out.part(name.as_bytes())?;
                out.optional(value.as_deref())?;
            }
        }
        Ok(out.0)
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Entry, StoreError> {
        let mut bytes = In(bytes);
        let entry = bytes.entry().ok_or_else(unexpected)?;
        match bytes.0.is_empty() {
            true => Ok(entry),
            false => Err(unexpected()),
        }
    }
}

struct Out(Vec<u8>);

impl Out {
    fn count(&mut self, count: usize) -> Result<(), StoreError> {
        let count = u32::try_from(count)
            .map_err(|_| StoreError::Misuse("a part of a transaction is shorter than 4 GiB"))?;
        self.0.put_u32(count);
        Ok(())
    }

    fn part(&mut self, part: &[u8]) -> Result<(), StoreError> {
        self.count(part.len())?;
        self.0.put_slice(part);
        Ok(())
    }

    fn optional(&mut self, part: Option<&[u8]>) -> Result<(), StoreError> {
        self.0.put_u8(u8::from(part.is_some()));
        part.map_or(Ok(()), |part| self.part(part))
    }

    fn key(&mut self, key: &DedupKey) -> Result<(), StoreError> {
        self.part(key.scope.group.as_bytes())?;
        self.part(key.scope.scenario.as_bytes())?;
        self.part(key.id.as_bytes())
    }

    fn origin(&mut self, origin: &Origin) -> Result<(), StoreError> {
        self.0.put_u8(u8::from(origin.ms.is_some()));
        self.0.put_u64(origin.ms.unwrap_or(0));
        self.0.put_u8(u8::from(origin.position.is_some()));
        if let Some((topic, partition, offset)) = &origin.position {
            self.part(topic.as_bytes())?;
            self.0.put_u32(*partition);
            self.0.put_u64(*offset);
        }
        Ok(())
    }
}

struct In(Bytes);

impl In {
    fn entry(&mut self) -> Option<Entry> {
        if self.0.try_get_u8().ok()? != VERSION {
            return None;
        }
        let (group, topic) = (self.text()?, self.text()?);
        let part = Part::new(group, topic, self.0.try_get_u32().ok()?);
        let next = self.0.try_get_u64().ok()?;
        Some(Entry {
            part,
            next,
            entities: self.all(In::entity)?,
            ids: self.all(In::id)?,
            seen: self.all(|bytes| Some((bytes.key()?, bytes.origin()?)))?,
            outgoing: self.all(In::record)?,
        })
    }

    fn all<T>(&mut self, one: impl Fn(&mut In) -> Option<T>) -> Option<Vec<T>> {
        let count = self.0.try_get_u32().ok()?;
        (0..count).map(|_| one(self)).collect()
    }

    fn entity(&mut self) -> Option<(Vec<u8>, EntityRow)> {
        let id = self.part()?.to_vec();
        let row = EntityRow {
            version: self.0.try_get_u64().ok()?,
            amount: self.0.try_get_i64().ok()?,
            value: self.optional()?,
        };
        Some((id, row))
    }

    fn id(&mut self) -> Option<(DedupKey, Settled)> {
        let key = self.key()?;
        let is_done = self.0.try_get_u8().ok()? == 1;
        let mut fingerprint = Fingerprint([0; 16]);
        self.0.try_copy_to_slice(&mut fingerprint.0).ok()?;
        let settled = Settled {
            is_done,
            was_parked: false,
            fingerprint,
            origin: self.origin()?,
            result: self.optional()?,
        };
        Some((key, settled))
    }

    fn record(&mut self) -> Option<Outgoing> {
        Some(Outgoing {
            topic: self.text()?,
            key: self.optional()?,
            value: self.optional()?,
            headers: self.all(|bytes| Some((bytes.text()?, bytes.optional()?)))?,
        })
    }

    fn key(&mut self) -> Option<DedupKey> {
        let scope = Scope::new(self.text()?, self.text()?);
        Some(DedupKey::new(scope, BizId::stored(self.part()?)))
    }

    fn origin(&mut self) -> Option<Origin> {
        let has_ms = self.0.try_get_u8().ok()? == 1;
        let ms = self.0.try_get_u64().ok()?;
        let position = match self.0.try_get_u8().ok()? {
            0 => None,
            _ => Some((
                self.text()?,
                self.0.try_get_u32().ok()?,
                self.0.try_get_u64().ok()?,
            )),
        };
        Some(Origin {
            ms: has_ms.then_some(ms),
            position,
        })
    }

    fn part(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.0.try_get_u32().ok()?).ok()?;
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    fn text(&mut self) -> Option<Arc<str>> {
        let part = self.part()?;
        std::str::from_utf8(&part).ok().map(Into::into)
    }

    // The outer one: whether it is as written at all.
    fn optional(&mut self) -> Option<Option<Bytes>> {
        match self.0.try_get_u8().ok()? {
            0 => Some(None),
            _ => self.part().map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_cut_ones_do_not() {
        let key = |id: &str| {
            let scope = Scope::new("billing", "orders");
            DedupKey::new(scope, BizId::new(id).unwrap())
        };
        let origin = |ms| Origin {
            ms,
            position: Some(("orders".into(), 3, 7)),
        };
        let entry = Entry {
            part: Part::new("billing", "orders", 3),
            next: 8,
            entities: vec![(
                b"A-1".to_vec(),
                EntityRow {
                    version: 2,
                    amount: -5,
                    value: Some(Bytes::new()),
                },
            )],
            ids: vec![(
                key("x"),
                Settled {
                    is_done: true,
                    was_parked: false,
                    fingerprint: Fingerprint::of(b"payload"),
                    origin: origin(None),
                    result: Some(Bytes::from_static(b"\0r")),
                },
            )],
            seen: vec![(key("y"), origin(Some(0))), (key("z"), Origin::default())],
            outgoing: vec![Outgoing {
                topic: "out".into(),
                key: None,
                value: Some(Bytes::from_static(b"v")),
                headers: vec![("h".into(), None)],
            }],
        };
        let bytes = Bytes::from(entry.encode().unwrap());
        assert_eq!(Entry::decode(bytes.clone()).unwrap(), entry);
        for length in 0..bytes.len() {
            assert!(Entry::decode(bytes.slice(..length)).is_err(), "{length}");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert!(Entry::decode(longer.into()).is_err());
    }
}
