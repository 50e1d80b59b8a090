//! Ack, nack and extend.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::coordinator::{Inner, Shown};
use super::delivery::Receipt;
use super::error::GroupError;
use super::event::{Change, Run};
use super::member::{Context, checked_ms};
use super::state::Standing;

impl Context {
    /// Whether a receipt is of its record's last delivery; `false`: the record is acknowledged.
    pub(super) fn is_open(&self, inner: &Inner, receipt: &Receipt) -> Result<bool, GroupError> {
        let (topic, partition, offset) = (receipt.topic.clone(), receipt.partition, receipt.offset);
        let progress = inner.state.get(&topic, partition);
        let standing = progress.map_or(Standing::Unknown, |progress| {
            progress.standing(offset, receipt.epoch, receipt.delivery)
        });
        match standing {
            Standing::Current => Ok(true),
            Standing::Acked => Ok(false),
            Standing::Fenced { epoch: current } => Err(GroupError::Fenced {
                topic,
                partition,
                epoch: receipt.epoch,
                current,
            }),
            Standing::Superseded { delivery: current } => Err(GroupError::Superseded {
                topic,
                partition,
                offset,
                delivery: receipt.delivery,
                current,
            }),
            Standing::Unknown => Err(GroupError::NotDelivered {
                topic,
                partition,
                offset,
            }),
        }
    }

    pub(super) async fn ack(&self, receipts: &[Receipt]) -> Result<(), GroupError> {
        self.with_room(|| self.try_ack(receipts)).await
    }

    fn try_ack(&self, receipts: &[Receipt]) -> Result<(), GroupError> {
        let mut inner = self.group.lock();
        if self.core().is_closed() {
            return Err(GroupError::Closed);
        }
        inner.touch(self.id, self.now_ms());
        let mut open: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
        for receipt in receipts {
            if self.is_open(&inner, receipt)? {
                let key = (&receipt.topic, receipt.partition, receipt.epoch);
                open.entry(key).or_default().insert(receipt.offset);
            }
        }
        let changes = open
            .into_iter()
            .map(|((topic, partition, epoch), offsets)| Change::Acked {
                topic: topic.to_string(),
                partition,
                epoch,
                runs: Run::of(offsets),
            });
        let changes: Vec<_> = changes.collect();
        self.group.write(self.core(), &mut inner, &changes, false)
    }

    // Sets when a delivery is over. `false`: its record is acknowledged.
    fn show(&self, receipt: &Receipt, ms: u64, is_nacked: bool) -> Result<bool, GroupError> {
        let now_ms = self.now_ms();
        let mut inner = self.group.lock();
        inner.touch(self.id, now_ms);
        if !self.is_open(&inner, receipt)? {
            return Ok(false);
        }
        let key = (receipt.topic.clone(), receipt.partition);
        let shown = &mut inner.runtime.entry(key).or_default().shown;
        let is_given_back = shown.get(&receipt.offset).is_some_and(|s| s.is_nacked);
        if is_given_back && !is_nacked {
            return Err(GroupError::NotDelivered {
                topic: receipt.topic.clone(),
                partition: receipt.partition,
                offset: receipt.offset,
            });
        }
        let due_ms = now_ms.saturating_add(ms);
        shown.insert(receipt.offset, Shown { due_ms, is_nacked });
        drop(inner);
        self.core().groups.wake_at(due_ms);
        Ok(true)
    }

    pub(super) fn nack(&self, receipt: &Receipt, delay: Duration) -> Result<(), GroupError> {
        let delay_ms = checked_ms("delay", delay)?;
        if self.show(receipt, delay_ms, true)? && delay_ms == 0 {
            self.group.wake();
        }
        Ok(())
    }

    pub(super) fn extend(&self, receipt: &Receipt, by: Duration) -> Result<(), GroupError> {
        let visibility_ms = checked_ms("visibility", by)?;
        self.show(receipt, visibility_ms, false).map(drop)
    }

    /// Hides a record that is being parked from polls, and returns until when it was hidden.
    pub(super) fn hide(&self, receipt: &Receipt, due_ms: u64) -> Result<Option<u64>, GroupError> {
        let mut inner = self.group.lock();
        inner.touch(self.id, self.now_ms());
        if self.core().is_closed() {
            return Err(GroupError::Closed);
        }
        if !self.is_open(&inner, receipt)? {
            return Ok(None);
        }
        let key = (receipt.topic.clone(), receipt.partition);
        let runtime = inner.runtime.entry(key).or_default();
        let before = runtime.due_ms(receipt.offset);
        let shown = Shown {
            due_ms: before.max(due_ms),
            is_nacked: false,
        };
        runtime.shown.insert(receipt.offset, shown);
        Ok(Some(before))
    }

    /// Shows a record again that was not parked after all.
    pub(super) fn unhide(&self, receipt: &Receipt, due_ms: u64) {
        let mut inner = self.group.lock();
        if matches!(self.is_open(&inner, receipt), Ok(true)) {
            let key = (receipt.topic.clone(), receipt.partition);
            let shown = Shown {
                due_ms,
                is_nacked: false,
            };
            let runtime = inner.runtime.entry(key).or_default();
            runtime.shown.insert(receipt.offset, shown);
        }
        drop(inner);
        self.group.wake();
    }
}
