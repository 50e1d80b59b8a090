//! What is stored: one event is one record. The key of a row's record is the digest of the id's key; of all
//! others there is none.

use std::sync::Arc;

use bytes::{BufMut, Bytes};

use super::wire::{Input, WireError, put_number, put_optional, put_part};
use crate::admission::{Prior, Token};
use crate::id_row::{IdRow, IdState, Origin};
use crate::identity::{DedupKey, Fingerprint, Part, Scope};
use crate::inbox::Outgoing;

const VERSION: u8 = 1;

const ROW: u8 = 1;
const FORGOTTEN: u8 = 2;
const PART: u8 = 3;
const OUTPUT: u8 = 4;
const FORWARDED: u8 = 5;
const BEGIN: u8 = 6;
const ENTRIES: u8 = 7;
const END: u8 = 8;
const STATED: u8 = 9;
const OUTPUTS: u8 = 10;

/// Where in a row's value the offset of the row before is, and behind it the token: what a copy changes.
const REPLACES_AT: usize = 2;
const BODY_AT: usize = REPLACES_AT + 16;
/// The token is that of the record's own offset.
const OWN: u64 = u64::MAX;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// An id's row, whole.
    Row(Row),
    /// Ids of a scope were forgotten, and up to when they may have been (E11).
    Forgotten {
        scope: Scope,
        floor_ms: Option<u64>,
        rows: Vec<(u128, u64)>,
    },
    /// A partition's owner and position.
    Part { part: Part, epoch: u64, next: u64 },
    /// A record to be forwarded. Its number is its offset + 1, unless it is a copy.
    Output {
        number: Option<u64>,
        record: Outgoing,
    },
    /// The outputs up to a number are in their topics.
    Forwarded { through: u64 },
    /// A snapshot begins, which has what is alive below an offset.
    Begin { covers: u64, ids: u64 },
    /// Entries of a snapshot: digest and offset.
    Entries(Vec<(u128, u64)>),
    /// In a snapshot: an event that still counts, and its offset.
    Stated { at: u64, event: Box<Event> },
    /// In a snapshot: outputs that were not forwarded, number and offset.
    Outputs(Vec<(u128, u64)>),
    /// The snapshot that began at an offset is whole.
    End { begin: u64 },
}

/// A row and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The offset of the row that it replaces.
    pub(super) replaces: Option<u64>,
    /// Whether its token is that of its own offset, so that the row's does not count.
    pub(super) grants: bool,
    /// Group, scenario and id, each behind its length.
    pub(super) key: Bytes,
    pub(super) row: IdRow,
}

/// A key as it is stored.
pub(super) fn key_bytes(key: &DedupKey) -> Bytes {
    let mut bytes = scope_bytes(&key.scope);
    put_part(&mut bytes, key.id.as_bytes());
    bytes.into()
}

/// What the keys of a scope begin with.
pub(super) fn scope_bytes(scope: &Scope) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_part(&mut bytes, scope.group.as_bytes());
    put_part(&mut bytes, scope.scenario.as_bytes());
    bytes
}

/// The token of a claim whose record is at an offset.
pub(super) fn token_at(offset: u64) -> Option<Token> {
    offset.checked_add(1).and_then(Token::new)
}

/// What replaying needs of a row's value: the offset of the row that it replaces. None if it is no row.
pub(super) fn replaced_by_row(value: &[u8]) -> Result<Option<Option<u64>>, WireError> {
    match (value.first(), value.get(1)) {
        (Some(&VERSION), Some(&ROW)) => {
            let said = value.get(REPLACES_AT..).and_then(<[u8]>::first_chunk);
            let said = said.ok_or(WireError::Short)?;
            Ok(Some(u64::from_be_bytes(*said).checked_sub(1)))
        }
        // Of a newer version, too: whoever decodes it whole says so.
        _ => Ok(None),
    }
}

/// The value of a row's copy: the same but for what it replaces, and for the token, which is said.
pub(super) fn copied_row(value: &[u8], offset: u64) -> Option<Vec<u8>> {
    let mut copy = value.to_vec();
    let token = match u64::from_be_bytes(*value.get(REPLACES_AT + 8..)?.first_chunk()?) {
        OWN => token_at(offset)?.get(),
        said => said,
    };
    let said = [offset + 1, token].map(u64::to_be_bytes);
    copy.get_mut(REPLACES_AT..BODY_AT)?
        .copy_from_slice(said.as_flattened());
    Some(copy)
}

fn kind(input: &mut Input) -> Result<u8, WireError> {
    let (found, supported) = (input.u8()?, VERSION);
    if found > supported {
        return Err(WireError::Version { found, supported });
    }
    input.u8()
}

impl Event {
    /// The record's value.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        match self {
            Event::Row(row) => row.encode(&mut out),
            Event::Forgotten {
                scope,
                floor_ms,
                rows,
            } => {
                out.put_u8(FORGOTTEN);
                put_part(&mut out, scope.group.as_bytes());
                put_part(&mut out, scope.scenario.as_bytes());
                put_number(&mut out, *floor_ms);
                put_entries(&mut out, rows);
            }
            Event::Part { part, epoch, next } => {
                out.put_u8(PART);
                put_part(&mut out, part.group.as_bytes());
                put_part(&mut out, part.topic.as_bytes());
                out.put_u32(part.partition);
                out.put_u64(*epoch);
                out.put_u64(*next);
            }
            Event::Output { number, record } => {
                out.put_u8(OUTPUT);
                put_number(&mut out, *number);
                put_part(&mut out, record.topic.as_bytes());
                put_optional(&mut out, record.key.as_deref());
                put_optional(&mut out, record.value.as_deref());
                for (name, value) in &record.headers {
                    out.put_u8(1);
                    put_part(&mut out, name.as_bytes());
                    put_optional(&mut out, value.as_deref());
                }
                out.put_u8(0);
            }
            Event::Forwarded { through } => {
                out.put_u8(FORWARDED);
                out.put_u64(*through);
            }
            Event::Begin { covers, ids } => {
                out.put_u8(BEGIN);
                out.put_u64(*covers);
                out.put_u64(*ids);
            }
            Event::Entries(entries) => {
                out.put_u8(ENTRIES);
                put_entries(&mut out, entries);
            }
            Event::Stated { at, event } => {
                out.put_u8(STATED);
                out.put_u64(*at);
                put_part(&mut out, &event.encode());
            }
            Event::Outputs(entries) => {
                out.put_u8(OUTPUTS);
                put_entries(&mut out, entries);
            }
            Event::End { begin } => {
                out.put_u8(END);
                out.put_u64(*begin);
            }
        }
        out
    }

    /// What the record at an offset says.
    pub(super) fn decode(value: Bytes, offset: u64) -> Result<Event, WireError> {
        let mut input = Input(value);
        let event = match kind(&mut input)? {
            ROW => Event::Row(Row::decode(&mut input, offset)?),
            FORGOTTEN => Event::Forgotten {
                scope: Scope {
                    group: input.text()?,
                    scenario: input.text()?,
                },
                floor_ms: input.number()?,
                rows: entries(&mut input)?,
            },
            PART => Event::Part {
                part: Part {
                    group: input.text()?,
                    topic: input.text()?,
                    partition: input.u32()?,
                },
                epoch: input.u64()?,
                next: input.u64()?,
            },
            OUTPUT => Event::Output {
                number: input.number()?,
                record: Outgoing {
                    topic: input.text()?,
                    key: input.optional()?,
                    value: input.optional()?,
                    headers: headers(&mut input)?,
                },
            },
            FORWARDED => Event::Forwarded {
                through: input.u64()?,
            },
            BEGIN => Event::Begin {
                covers: input.u64()?,
                ids: input.u64()?,
            },
            ENTRIES => Event::Entries(entries(&mut input)?),
            STATED => {
                let at = input.u64()?;
                let event = Box::new(Event::decode(input.part()?, at)?);
                Event::Stated { at, event }
            }
            OUTPUTS => Event::Outputs(entries(&mut input)?),
            END => Event::End {
                begin: input.u64()?,
            },
            found => {
                return Err(WireError::Unknown {
                    what: "event",
                    found,
                });
            }
        };
        input.end()?;
        Ok(event)
    }
}

fn put_entries(out: &mut Vec<u8>, entries: &[(u128, u64)]) {
    out.reserve(4 + 24 * entries.len());
    // Callers keep events below a batch's size.
    out.put_u32(u32::try_from(entries.len()).unwrap_or(u32::MAX));
    for (digest, offset) in entries {
        out.put_u128(*digest);
        out.put_u64(*offset);
    }
}

fn entries(input: &mut Input) -> Result<Vec<(u128, u64)>, WireError> {
    let count = input.u32()?;
    (0..count)
        .map(|_| Ok((input.u128()?, input.u64()?)))
        .collect()
}

type Headers = Vec<(Arc<str>, Option<Bytes>)>;

fn headers(input: &mut Input) -> Result<Headers, WireError> {
    let mut headers = Vec::new();
    while input.u8()? != 0 {
        headers.push((input.text()?, input.optional()?));
    }
    Ok(headers)
}

impl Row {
    /// The record's value.
    pub(super) fn value(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        self.encode(&mut out);
        out
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let row = &self.row;
        out.put_u8(ROW);
        out.put_u64(self.replaces.map_or(0, |offset| offset + 1));
        out.put_u64(match self.grants {
            true => OWN,
            false => row.token.get(),
        });
        put_part(out, &self.key);
        out.put_slice(&row.fingerprint.0);
        out.put_u32(row.attempt);
        put_number(out, row.origin.ms);
        out.put_u8(u8::from(row.origin.position.is_some()));
        if let Some((topic, partition, offset)) = &row.origin.position {
            put_part(out, topic.as_bytes());
            out.put_u32(*partition);
            out.put_u64(*offset);
        }
        match &row.state {
            // Its lease ends with the process.
            IdState::Busy { owner, prior, .. } => {
                out.put_u8(0);
                out.put_u128(*owner);
                out.put_u8(match prior {
                    Prior::New => 0,
                    Prior::Released => 1,
                    Prior::Crashed => 2,
                    Prior::Parked => 3,
                });
            }
            IdState::Free { at_ms } => {
                out.put_u8(1);
                out.put_u64(*at_ms);
            }
            IdState::Done { at_ms, result } => {
                out.put_u8(2);
                out.put_u64(*at_ms);
                put_optional(out, result.as_deref());
            }
            IdState::Parked { at_ms } => {
                out.put_u8(3);
                out.put_u64(*at_ms);
            }
        }
    }

    fn decode(input: &mut Input, offset: u64) -> Result<Row, WireError> {
        let replaces = input.u64()?.checked_sub(1);
        let (grants, token) = match input.u64()? {
            OWN => (true, token_at(offset)),
            said => (false, Token::new(said)),
        };
        let key = input.part()?;
        let fingerprint = Fingerprint(input.u128()?.to_be_bytes());
        let attempt = input.u32()?;
        let ms = input.number()?;
        let position = match input.u8()? {
            0 => None,
            _ => Some((input.text()?, input.u32()?, input.u64()?)),
        };
        let state = match input.u8()? {
            0 => IdState::Busy {
                owner: input.u128()?,
                until_ms: 0,
                prior: prior(input.u8()?)?,
            },
            1 => IdState::Free {
                at_ms: input.u64()?,
            },
            2 => IdState::Done {
                at_ms: input.u64()?,
                result: input.optional()?.map(|r| Bytes::copy_from_slice(&r)),
            },
            3 => IdState::Parked {
                at_ms: input.u64()?,
            },
            found => {
                return Err(WireError::Unknown {
                    what: "state",
                    found,
                });
            }
        };
        let row = IdRow {
            state,
            token: token.ok_or(WireError::Short)?,
            attempt,
            fingerprint,
            origin: Origin { ms, position },
        };
        Ok(Row {
            replaces,
            grants,
            key,
            row,
        })
    }
}

fn prior(found: u8) -> Result<Prior, WireError> {
    match found {
        0 => Ok(Prior::New),
        1 => Ok(Prior::Released),
        2 => Ok(Prior::Crashed),
        3 => Ok(Prior::Parked),
        _ => Err(WireError::Unknown {
            what: "prior",
            found,
        }),
    }
}
