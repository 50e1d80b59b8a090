//! Snapshots of the index, so that an opening need not read the whole log.

use std::sync::atomic::Ordering;

use super::event::Event;
use super::ledger::{Ledger, Stop, refused};
use crate::error::StoreError;

/// Entries of one record: about 1 MiB.
const ENTRIES_MAX: usize = 43_000;

impl Ledger {
    pub(super) fn is_snapshot_due(&self) -> bool {
        let behind = self.snapshot_at.load(Ordering::Relaxed);
        let behind = self.events.end().saturating_sub(behind);
        let alive = u64::try_from(self.state.lock().alive()).unwrap_or(u64::MAX);
        behind > self.settings.snapshot_after.max(alive / 4)
    }

    /// Writes a snapshot, and deletes the ones before when it is durable.
    pub(super) async fn snapshot(&self) -> Result<bool, StoreError> {
        if self.is_snapshotting.swap(true, Ordering::AcqRel) {
            return Ok(false);
        }
        // Also when this future is dropped.
        let _running = Running(self);
        let (covers, first) = {
            let state = self.locked();
            let covers = self.events.end();
            let ids = u64::try_from(state.index.len()).unwrap_or(0);
            let mut first = vec![Event::Begin { covers, ids }];
            let floors = state.floors.iter().map(|(scope, floor)| Event::Stated {
                at: floor.at,
                event: Box::new(Event::Forgotten {
                    scope: scope.clone(),
                    floor_ms: Some(floor.ms),
                    rows: Vec::new(),
                }),
            });
            first.extend(floors);
            first.extend(state.parts.iter().map(|(part, owned)| Event::Stated {
                at: owned.at,
                event: Box::new(Event::Part {
                    part: part.clone(),
                    epoch: owned.epoch,
                    next: owned.next,
                }),
            }));
            let outputs = state.outputs.iter().map(|(n, at)| (u128::from(*n), *at));
            let outputs: Vec<_> = outputs.collect();
            let outputs = outputs.chunks(self.entries_max());
            first.extend(outputs.map(|some| Event::Outputs(some.to_vec())));
            (covers, first)
        };
        // A snapshot must not know more than the log.
        self.wait_for(covers).await?;
        let begin = self.say(&first[..1]).await?;
        for event in &first[1..] {
            self.say(std::slice::from_ref(event)).await?;
        }
        let mut entries = Vec::new();
        let shards = self.state.lock().index.shards();
        for shard in 0..shards {
            {
                let state = self.state.lock();
                let below = state.index.entries(shard).filter(|e| e.offset() < covers);
                entries.extend(below.map(|e| (e.digest(), e.offset())));
            }
            while entries.len() >= self.entries_max() {
                let rest = entries.split_off(self.entries_max());
                self.say(&[Event::Entries(std::mem::replace(&mut entries, rest))])
                    .await?;
            }
        }
        if !entries.is_empty() {
            self.say(&[Event::Entries(entries)]).await?;
        }
        let end = self.say(&[Event::End { begin }]).await?;
        let durable = self.snapshots.durable(end + 1).await;
        durable.map_err(|_| StoreError::Unknown)?;
        self.snapshot_at.store(covers, Ordering::Relaxed);
        let deleted = self.snapshots.delete_before(begin);
        deleted.map_err(StoreError::backend)?;
        Ok(true)
    }

    fn entries_max(&self) -> usize {
        let fits = self.settings.segment_bytes / 128;
        usize::try_from(fits).map_or(ENTRIES_MAX, |fits| ENTRIES_MAX.min(fits))
    }

    // Writes to the log of snapshots; the offset of the first record.
    async fn say(&self, events: &[Event]) -> Result<u64, StoreError> {
        let records: Vec<_> = events.iter().map(|event| (None, event.encode())).collect();
        loop {
            let turns = self.snapshots.turns();
            match Ledger::write(&self.snapshots, &records) {
                Ok(first) => return Ok(first),
                Err(Stop::Failed(error)) => return Err(error),
                Err(_) => self.snapshots.room(turns).await.map_err(refused)?,
            }
        }
    }
}

struct Running<'a>(&'a Ledger);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.is_snapshotting.store(false, Ordering::Release);
    }
}
