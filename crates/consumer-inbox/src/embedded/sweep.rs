//! Sweeping: ids below a horizon are forgotten, oldest first within a window of the log.

use bytes::Bytes;
use log_engine::ReadError;

use super::event::{Event, Row, scope_bytes};
use super::ledger::{Ledger, Work, Write, pause};
use super::opening::records_of;
use crate::dedup_store::Horizon;
use crate::error::StoreError;

/// Bytes of the log that are looked at without a pause.
const PIECE_BYTES: usize = 64 << 10;

/// Bytes of the log whose ids are put in order: all of them, in a small log.
const WINDOW_BYTES: usize = 1 << 20;

/// Ids that are forgotten by one batch, for which others wait.
const BATCH: usize = 1_000;

/// A row that may be forgotten, if it is still the id's newest.
struct Candidate {
    digest: u128,
    at: u64,
    origin_ms: Option<u64>,
}

/// A walk around the log: from some place to the end, then from the start to that place.
struct Round {
    at: u64,
    ranges: Vec<(u64, u64)>,
}

impl Round {
    // Records that are written from now on are of ids that somebody just used.
    fn new(first: u64, end: u64) -> Round {
        let first = first.min(end);
        Round {
            at: first,
            ranges: vec![(0, first), (first, end)],
        }
    }

    fn is_over(&self) -> bool {
        self.ranges.is_empty()
    }

    // The rest of the range that it is in; the next range when that is at its end.
    fn place(&mut self, start: u64) -> Option<u64> {
        while let Some((from, end)) = self.ranges.last().copied() {
            self.at = from.max(start);
            if self.at < end {
                return Some(self.at);
            }
            self.ranges.pop();
        }
        None
    }

    fn go_on(&mut self, next: u64) {
        if let Some(range) = self.ranges.last_mut() {
            range.0 = next;
        }
    }
}

impl Ledger {
    /// Forgets at most `max` ids, going round the log once from where the last sweep of the scope stopped; then tidies up.
    pub(super) async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        let first = self.state.lock().sweeps.get(&below.scope).copied();
        let mut round = Round::new(first.unwrap_or(0), self.events.durable_end());
        let mut gone = 0;
        while gone < max && !round.is_over() {
            let from = round.place(self.events.start());
            let mut candidates = self.window(below, &mut round).await?;
            candidates.sort_by_key(|candidate| candidate.origin_ms);
            let before = gone;
            for batch in candidates.chunks(BATCH) {
                gone += self.forget(below, batch, max - gone).await?;
            }
            // There may be more of them in this window.
            let stopped = match (gone == max && gone > before, from) {
                (true, Some(from)) => from,
                _ => round.at,
            };
            let scope = below.scope.clone();
            self.state.lock().sweeps.insert(scope, stopped);
        }
        self.tidy().await?;
        Ok(gone)
    }

    // What may be forgotten in the next window of the log.
    async fn window(
        &self,
        below: &Horizon,
        round: &mut Round,
    ) -> Result<Vec<Candidate>, StoreError> {
        let mut candidates = Vec::new();
        let mut bytes_left = WINDOW_BYTES;
        while bytes_left > 0
            && let Some(at) = round.place(self.events.start())
        {
            match self.events.read(at, PIECE_BYTES) {
                // The start moved since.
                Err(ReadError::Deleted { .. }) => {}
                Err(error) => return Err(self.unreadable(error).into()),
                Ok(None) => round.go_on(u64::MAX),
                Ok(Some((bytes, next))) => {
                    bytes_left = bytes_left.saturating_sub(bytes.len());
                    self.candidates(below, at, bytes, &mut candidates)?;
                    round.go_on(next);
                }
            }
            pause().await;
        }
        Ok(candidates)
    }

    fn candidates(
        &self,
        below: &Horizon,
        at: u64,
        bytes: Bytes,
        candidates: &mut Vec<Candidate>,
    ) -> Result<(), StoreError> {
        let (scope, now_ms) = (scope_bytes(&below.scope), self.now_ms());
        let mut rows = Vec::new();
        for record in records_of(&self.topic, at, bytes)? {
            let Some(digest) = record.digest else {
                continue;
            };
            if let Event::Row(Row { key, row, .. }) = record.event(&self.topic)?
                && key.starts_with(&scope)
                && row.is_below(below, now_ms)
            {
                rows.push(Candidate {
                    digest,
                    at: record.offset,
                    origin_ms: row.origin.ms,
                });
            }
        }
        let state = self.state.lock();
        rows.retain(|row| state.index.contains(row.digest, row.at));
        candidates.append(&mut rows);
        Ok(())
    }

    // Forgets those of them that are still alive, at most `max`, and raises the floor by the same event.
    async fn forget(
        &self,
        below: &Horizon,
        candidates: &[Candidate],
        max: usize,
    ) -> Result<usize, StoreError> {
        let forget = |work: &mut Work<'_>| {
            let is_alive = |c: &&Candidate| work.state.index.contains(c.digest, c.at);
            let alive = candidates.iter().filter(is_alive).take(max);
            let alive: Vec<&Candidate> = alive.collect();
            if alive.is_empty() {
                return Ok(0);
            }
            let newest = alive.iter().map(|c| c.origin_ms).max().flatten();
            let floor_ms = work.floor(&below.scope).max(newest);
            work.write(vec![Write::Other(Event::Forgotten {
                scope: below.scope.clone(),
                floor_ms,
                rows: alive.iter().map(|c| (c.digest, c.at)).collect(),
            })])?;
            Ok(alive.len())
        };
        self.run(forget).await
    }
}
