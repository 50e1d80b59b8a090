//! Cleaning: what is alive in the oldest records is copied to the end, then the log's start moves.

use super::event::{Event, Row, copied_row};
use super::ledger::{Ledger, Stop};
use super::opening::records_of;
use super::state::State;
use crate::error::StoreError;

/// Bytes that are looked at in one piece, for which others wait at most.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// Each so many batches, whoever wrote the last one cleans a piece.
const PASSING: u64 = 64;

/// Records in the log for each thing alive, above which it is cleaned. A claim and its settlement are two.
const RECORDS_EACH: u64 = 3;

/// How far the log is cleaned. Held by whoever cleans.
#[derive(Debug)]
pub(super) struct Cleaner {
    /// Everything alive below it was copied.
    below: u64,
    /// Behind the last copy: what must be durable before the start moves.
    copies_end: u64,
    /// Bytes cleaned since the start moved.
    bytes: u64,
}

impl Cleaner {
    pub(super) fn at(start: u64) -> Cleaner {
        Cleaner {
            below: start,
            copies_end: 0,
            bytes: 0,
        }
    }
}

/// What came of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Done,
    /// Nothing is due, or somebody else cleans.
    Idle,
    /// There is no room for copies now.
    NoRoom,
}

impl Ledger {
    fn is_cleaning_due(&self, state: &State, below: u64) -> bool {
        let records = self.events.end().saturating_sub(below);
        let alive = u64::try_from(state.alive()).unwrap_or(u64::MAX);
        records > alive.saturating_mul(RECORDS_EACH) + self.settings.clean_above
    }

    /// Cleans a piece now and then. What fails is tried again by the next, and told by [`Ledger::tidy`].
    pub(super) fn clean_in_passing(&self) {
        let is_turn = {
            let mut state = self.state.lock();
            let is_turn = state.writes >= PASSING;
            if is_turn {
                state.writes = 0;
            }
            is_turn
        };
        if is_turn {
            let _ = self.clean_piece();
        }
    }

    /// Cleans until nothing is due, then writes a snapshot if that is.
    pub(super) async fn tidy(&self) -> Result<(), StoreError> {
        loop {
            let turns = self.events.turns();
            match self.clean_piece()? {
                // Between the pieces others have their turn, and copies are not ahead of the disk.
                Piece::Done => self.wait_for(self.events.end()).await?,
                Piece::NoRoom => {
                    let room = self.events.room(turns).await;
                    room.map_err(super::ledger::refused)?;
                }
                Piece::Idle => break,
            }
        }
        if self.is_snapshot_due() {
            self.snapshot().await?;
        }
        Ok(())
    }

    pub(super) async fn wait_for(&self, end: u64) -> Result<(), StoreError> {
        let durable = self.events.durable(end).await;
        durable.map_err(|_| StoreError::Unknown)
    }

    fn clean_piece(&self) -> Result<Piece, StoreError> {
        let Some(mut cleaner) = self.cleaner.try_lock() else {
            return Ok(Piece::Idle);
        };
        let is_due = self.is_cleaning_due(&self.state.lock(), cleaner.below);
        self.move_start(&mut cleaner, !is_due)?;
        if !is_due {
            return Ok(Piece::Idle);
        }
        let read = self.events.read(cleaner.below, PIECE_BYTES);
        let Some((bytes, next)) = read.map_err(|source| self.unreadable(source))? else {
            return Ok(Piece::Idle);
        };
        let size = bytes.len();
        let mut read = Vec::new();
        for record in records_of(&self.topic, cleaner.below, bytes)? {
            let event = record.event(&self.topic)?;
            read.push((record, event));
        }
        let mut state = self.locked();
        let mut copies = Vec::new();
        let mut moves = Vec::new();
        for (record, event) in read {
            let at = record.offset;
            match (record.digest, event) {
                (Some(digest), Event::Row(row)) => {
                    if !state.index.contains(digest, at) {
                        continue;
                    }
                    let copy = copied_row(&record.value, at);
                    let copy = copy.ok_or(StoreError::Misuse("a row that is cut off"))?;
                    copies.push((Some(digest), copy));
                    moves.push(Move::Row(digest, at, row));
                }
                (_, event) if state.is_alive(at, &event) => {
                    let copy = copied(event, at);
                    copies.push((None, copy.encode()));
                    moves.push(Move::Other(copy));
                }
                _ => {}
            }
        }
        if !copies.is_empty() {
            let first = match Ledger::write(&self.events, &copies) {
                Ok(first) => first,
                Err(Stop::Failed(error)) => return Err(error),
                Err(_) => return Ok(Piece::NoRoom),
            };
            for (to, moved) in (first..).zip(moves) {
                match moved {
                    Move::Row(digest, from, row) => state.move_row(digest, from, to, row),
                    Move::Other(event) => state.apply(to, event),
                }
                cleaner.copies_end = to + 1;
            }
        }
        drop(state);
        cleaner.below = next;
        cleaner.bytes += u64::try_from(size).unwrap_or(u64::MAX);
        Ok(Piece::Done)
    }

    // Once for each quarter of a file, and at the end.
    fn move_start(&self, cleaner: &mut Cleaner, is_last: bool) -> Result<(), StoreError> {
        let is_worth_it = is_last || cleaner.bytes >= self.settings.segment_bytes / 4;
        let is_durable = self.events.durable_end() >= cleaner.copies_end;
        if cleaner.below > self.events.start() && is_worth_it && is_durable {
            let moved = self.events.delete_before(cleaner.below);
            moved.map_err(StoreError::backend)?;
            cleaner.bytes = 0;
        }
        Ok(())
    }
}

enum Move {
    Row(u128, u64, Row),
    Other(Event),
}

// What a copy says: an output its number, and of a floor the floor alone.
fn copied(event: Event, at: u64) -> Event {
    match event {
        Event::Output { number, record } => Event::Output {
            number: Some(number.unwrap_or(at + 1)),
            record,
        },
        Event::Forgotten {
            scope, floor_ms, ..
        } => Event::Forgotten {
            scope,
            floor_ms,
            rows: Vec::new(),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use log_engine::{Engine, Env};

    use super::*;
    use crate::admission::Settlement;
    use crate::conformance::block_on;
    use crate::dedup_store::{ClaimRequest, DedupStore};
    use crate::embedded::opening::open;
    use crate::embedded::{EmbeddedSettings, EmbeddedStore};
    use crate::identity::{BizId, DedupKey, Fingerprint, Scope};

    /// What would be lost with a power cut in between.
    #[test]
    fn the_start_moves_only_when_the_copies_are_durable() {
        // Nothing is synced here but by calls that wait.
        let engine = Engine::with_env(Env::memory()).driven().open().unwrap();
        let settings = EmbeddedSettings {
            segment_bytes: 1 << 16,
            clean_above: 10,
            ..EmbeddedSettings::default()
        };
        let store = EmbeddedStore::open_with(&engine, "ids", settings.clone()).unwrap();
        let ledger = open(&engine, "ids", settings).unwrap();
        block_on(async {
            let id = |n: u32| BizId::new(format!("order {n}")).unwrap();
            let key = |n| DedupKey::new(Scope::new("billing", "orders"), id(n));
            // Fewer than 64 writes, so that none cleans in passing.
            for n in [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1] {
                let (key, body) = (key(n), Fingerprint::of(b"body"));
                let request = ClaimRequest::new(&key, 1, body, Duration::from_secs(60));
                let held = store.claim(request).await.unwrap().granted().unwrap();
                let how = match n {
                    0 => Settlement::Done(None),
                    _ => Settlement::Released,
                };
                store.settle(&held, how).await.unwrap();
            }
        });
        let end = ledger.events.end();
        assert_eq!(ledger.clean_piece().unwrap(), Piece::Done);
        assert_eq!(ledger.events.end(), end + 2, "two copies");
        for _ in 0..3 {
            assert_eq!(ledger.clean_piece().unwrap(), Piece::Idle);
            assert_eq!(ledger.events.start(), 0, "the copies are not durable");
        }
        block_on(ledger.wait_for(end + 2)).unwrap();
        assert_eq!(ledger.clean_piece().unwrap(), Piece::Idle);
        assert_eq!(ledger.events.start(), end);
    }
}
