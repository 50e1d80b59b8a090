//! One store's log and what is known of it: every call decides under one lock, and waits without it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use log_engine::{AppendError, BatchBuilder, Engine, InternalLog, Producer, ReadError};
use parking_lot::{Mutex, MutexGuard};

use super::cleaning::Cleaner;
use super::error::EmbeddedError;
use super::event::{Event, Row, key_bytes, token_at};
use super::opening::records_of;
use super::state::{Owned, State};
use crate::admission::Token;
use crate::error::StoreError;
use crate::id_row::{IdRow, IdState};
use crate::identity::{DedupKey, Part, Scope};

/// How a store in the log is kept.
#[derive(Debug, Clone)]
pub struct EmbeddedSettings {
    /// Bytes of the log's files, when it is made: 64 KiB to 2 GiB.
    pub segment_bytes: u64,
    /// Records that may be in the log beyond three for each thing alive before it is cleaned.
    pub clean_above: u64,
    /// Records behind the last snapshot at which [`tidy`](crate::EmbeddedStore::tidy) writes another one; at least a quarter
    /// of what is alive.
    pub snapshot_after: u64,
    /// What keys are found by, for tests of keys that cannot be told apart by it.
    #[doc(hidden)]
    pub digest: fn(&DedupKey) -> u128,
}

impl Default for EmbeddedSettings {
    fn default() -> EmbeddedSettings {
        EmbeddedSettings {
            segment_bytes: 32 << 20,
            clean_above: 65_536,
            snapshot_after: 200_000,
            digest: DedupKey::digest128,
        }
    }
}

/// What a store in the log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmbeddedCounts {
    /// Ids, in whatever state.
    pub ids: usize,
    /// Bytes of memory of their index.
    pub index_bytes: usize,
    /// Records in the log, dead ones too.
    pub records: u64,
    /// Outgoing records that were not forwarded.
    pub outputs: usize,
}

/// A store, shared by all handles on it.
pub(super) struct Ledger {
    pub(super) engine: Engine,
    pub(super) topic: String,
    pub(super) settings: EmbeddedSettings,
    pub(super) events: InternalLog,
    pub(super) snapshots: InternalLog,
    pub(super) state: Mutex<State>,
    pub(super) cleaner: Mutex<Cleaner>,
    pub(super) is_snapshotting: AtomicBool,
    pub(super) snapshot_at: std::sync::atomic::AtomicU64,
    /// The producer that forwards, and the last number that it was given.
    pub(super) forwarder: Mutex<Option<(Producer, u64)>>,
    pub(super) is_forwarding: AtomicBool,
}

/// Why a decision is not made yet, or not at all.
pub(super) enum Stop {
    /// The row at an offset must be read first.
    Read(u64),
    /// There is no room in the log at the moment.
    NoRoom,
    /// It is refused.
    Failed(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        Stop::Failed(error)
    }
}

/// Rows read from the log for one decision.
pub(super) type Known = HashMap<u64, Row>;

/// What a decision works on, under the lock.
pub(super) struct Work<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) state: &'a mut State,
    known: &'a Known,
    /// What must be durable before the answer is given.
    needs: u64,
}

/// An id that was looked up.
pub(super) struct Found {
    pub(super) digest: u128,
    pub(super) key: Bytes,
    /// Its row, and the row's offset.
    pub(super) row: Option<(u64, IdRow)>,
}

impl Found {
    pub(super) fn row(&self) -> Option<&IdRow> {
        self.row.as_ref().map(|(_, row)| row)
    }
}

impl Ledger {
    pub(super) fn now_ms(&self) -> u64 {
        self.engine.elapsed_ms()
    }

    pub(super) fn locked(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        state.cool(self.events.durable_end());
        state
    }

    /// Decides under the lock, reading rows and waiting for room without it and then deciding anew, and answers when
    /// everything is durable that the answer rests on.
    pub(super) async fn run<T>(
        &self,
        mut decide: impl FnMut(&mut Work<'_>) -> Result<T, Stop> + Send,
    ) -> Result<T, StoreError> {
        let mut known = Known::new();
        let mut missing = None;
        loop {
            let turns = self.events.turns();
            match self.decide(&known, &mut decide) {
                Ok((answer, needs)) => {
                    let durable = self.events.durable(needs).await;
                    durable.map_err(|_| StoreError::Unknown)?;
                    self.clean_in_passing();
                    return Ok(answer);
                }
                Err(Stop::Read(at)) => match self.read_row(at) {
                    Ok(row) => {
                        known.insert(at, row);
                    }
                    // It was copied, and its original deleted: the next look finds the copy.
                    Err(EmbeddedError::Read {
                        source: ReadError::Deleted { .. },
                        ..
                    }) if missing != Some(at) => missing = Some(at),
                    Err(error) => return Err(error.into()),
                },
                Err(Stop::NoRoom) => self.events.room(turns).await.map_err(refused)?,
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
    }

    fn decide<T>(
        &self,
        known: &Known,
        decide: &mut impl FnMut(&mut Work<'_>) -> Result<T, Stop>,
    ) -> Result<(T, u64), Stop> {
        let mut state = self.locked();
        let mut work = Work {
            ledger: self,
            state: &mut state,
            known,
            needs: 0,
        };
        let answer = decide(&mut work)?;
        Ok((answer, work.needs))
    }

    fn read_row(&self, at: u64) -> Result<Row, EmbeddedError> {
        match self.read_event(at)? {
            Event::Row(row) => Ok(row),
            _ => Err(self.no_event(at)),
        }
    }

    /// The event at an offset.
    pub(super) fn read_event(&self, at: u64) -> Result<Event, EmbeddedError> {
        let read = self.events.read(at, 0);
        let read = read.map_err(|source| self.unreadable(source))?;
        let (bytes, _) = read.ok_or_else(|| self.no_event(at))?;
        let records = records_of(&self.topic, at, bytes)?;
        let found = records.into_iter().find(|record| record.offset == at);
        let record = found.ok_or_else(|| self.no_event(at))?;
        record.event(&self.topic)
    }

    pub(super) fn unreadable(&self, source: ReadError) -> EmbeddedError {
        let topic = self.topic.clone();
        EmbeddedError::Read { topic, source }
    }

    fn no_event(&self, offset: u64) -> EmbeddedError {
        EmbeddedError::Event {
            topic: self.topic.clone(),
            offset,
            source: super::wire::WireError::Short,
        }
    }

    /// Writes records as one batch, which is not durable then.
    pub(super) fn write(
        log: &InternalLog,
        records: &[(Option<u128>, Vec<u8>)],
    ) -> Result<u64, Stop> {
        let mut builder = BatchBuilder::new();
        for (digest, value) in records {
            let digest = digest.map(u128::to_be_bytes);
            let key = digest.as_ref().map(<[u8; 16]>::as_slice);
            builder
                .push(0, key, Some(value), &[])
                .map_err(StoreError::backend)?;
        }
        let batch = builder.build_batch(None).map_err(StoreError::backend)?;
        log.write(&batch).map_err(|error| match error {
            AppendError::NotReady { .. } => Stop::NoRoom,
            error => Stop::Failed(refused(error)),
        })
    }

    pub(super) fn counts(&self) -> EmbeddedCounts {
        let state = self.locked();
        EmbeddedCounts {
            ids: state.index.len(),
            index_bytes: state.index.bytes(),
            records: self.events.end().saturating_sub(self.events.start()),
            outputs: state.outputs.len(),
        }
    }
}

/// What a batch that was certainly not written means to a caller.
pub(super) fn refused(error: AppendError) -> StoreError {
    match error {
        AppendError::TooLarge { .. } => StoreError::backend(error),
        error if error.is_outcome_unknown() => StoreError::Unknown,
        _ => StoreError::Unavailable,
    }
}

impl Work<'_> {
    pub(super) fn now_ms(&self) -> u64 {
        self.ledger.now_ms()
    }

    /// The answer is given when everything below `end` is durable.
    pub(super) fn needs(&mut self, end: u64) {
        self.needs = self.needs.max(end);
    }

    /// The token that a claim gets now.
    pub(super) fn next_token(&self) -> Result<Token, Stop> {
        token_at(self.ledger.events.end()).ok_or(Stop::Failed(StoreError::Full))
    }

    pub(super) fn floor(&mut self, scope: &Scope) -> Option<u64> {
        self.needs(self.state.forgotten_end);
        self.state.floors.get(scope).map(|floor| floor.ms)
    }

    /// A partition's owner and position, if the owner is the one of that epoch.
    pub(super) fn owned_at(&mut self, part: &Part, held: u64) -> Result<Owned, Stop> {
        let owned = self.state.parts.get(part).copied().unwrap_or_default();
        let current = owned.epoch;
        match current == held {
            true => Ok(owned),
            false => Err(StoreError::Fenced { held, current }.into()),
        }
    }

    /// Looks an id up. Equal digests do not count before the keys are compared.
    pub(super) fn find(&mut self, key: &DedupKey) -> Result<Found, Stop> {
        let digest = (self.ledger.settings.digest)(key);
        let key = key_bytes(key);
        let mut found = None;
        for at in self.state.index.offsets(digest) {
            let stored = match (self.state.warm(at), self.known.get(&at)) {
                (Some(warm), _) => (&warm.key, &warm.row),
                (None, Some(known)) => (&known.key, &known.row),
                (None, None) => return Err(Stop::Read(at)),
            };
            if *stored.0 == key {
                found = Some((at, stored.1.clone()));
                break;
            }
        }
        self.needs(match &found {
            Some((at, _)) => at + 1,
            None => self.state.forgotten_end,
        });
        let row = found;
        Ok(Found { digest, key, row })
    }

    /// Writes an id's row. One that only has a later deadline is kept in memory. Returns its offset.
    pub(super) fn put(&mut self, found: &Found, row: IdRow) -> Result<u64, Stop> {
        if let Some((at, old)) = &found.row
            && is_same_but_for_lease(old, &row)
        {
            self.state.keep_warm(*at, found.key.clone(), row);
            return Ok(*at);
        }
        let grants = Some(row.token) == token_at(self.ledger.events.end());
        self.write(vec![Write::Row(found.digest, found.row_event(row, grants))])
    }

    /// Writes events as one batch and applies them. Returns the offset of the first.
    pub(super) fn write(&mut self, writes: Vec<Write>) -> Result<u64, Stop> {
        let records: Vec<_> = writes.iter().map(Write::record).collect();
        let first = Ledger::write(&self.ledger.events, &records)?;
        self.state.writes += 1;
        for (offset, write) in (first..).zip(writes) {
            match write {
                Write::Row(digest, mut row) => {
                    if row.grants
                        && let Some(token) = token_at(offset)
                    {
                        row.row.token = token;
                    }
                    self.state.put_row(digest, offset, row);
                }
                Write::Other(event) => self.state.apply(offset, event),
            }
            self.needs(offset + 1);
        }
        Ok(first)
    }
}

/// An event to be written.
pub(super) enum Write {
    Row(u128, Row),
    Other(Event),
}

impl Write {
    fn record(&self) -> (Option<u128>, Vec<u8>) {
        match self {
            Write::Row(digest, row) => (Some(*digest), row.value()),
            Write::Other(event) => (None, event.encode()),
        }
    }
}

impl Found {
    /// The event that the id has this row now.
    pub(super) fn row_event(&self, row: IdRow, grants: bool) -> Row {
        Row {
            replaces: self.row.as_ref().map(|(at, _)| *at),
            grants,
            key: self.key.clone(),
            row,
        }
    }
}

fn is_same_but_for_lease(old: &IdRow, new: &IdRow) -> bool {
    let (IdState::Busy { owner, prior, .. }, IdState::Busy { until_ms, .. }) =
        (&old.state, &new.state)
    else {
        return false;
    };
    let state = IdState::Busy {
        owner: *owner,
        until_ms: *until_ms,
        prior: *prior,
    };
    IdRow {
        state,
        ..old.clone()
    } == *new
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

/// A ledger that handles share.
pub(super) type Shared = Arc<Ledger>;

/// Lets other tasks have their turn.
pub(super) async fn pause() {
    let mut paused = false;
    let pause = std::future::poll_fn(|cx| {
        if paused {
            return std::task::Poll::Ready(());
        }
        paused = true;
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    });
    pause.await;
}
