//! Giving a record up. The dead letter is the acknowledgement: it is one batch, durable before
//! anything else happens, and a group that is opened takes it for the ack that a crash has lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::coordinator::Group;
use super::dead_letter::{DeadLetters, Given, Put};
use super::delivery::Receipt;
use super::error::GroupError;
use super::event::{Change, Run};
use super::journal;
use super::member::Context;
use super::state::{Key, Progress};
use crate::consumed_record::ConsumedRecord;
use crate::core::Core;

impl Context {
    pub(super) async fn park(
        &self,
        (receipt, record): (&Receipt, &ConsumedRecord),
        reason: &str,
        details: &str,
    ) -> Result<(), GroupError> {
        let Some(letters) = &self.dead_letters else {
            let group = self.group.name.clone();
            return Err(GroupError::NoDeadLetterTopic { group });
        };
        // Nobody else gets the record while its dead letter waits for a slow disk.
        let patience = self.core().config.append_timeout.as_millis();
        let patience_ms = u64::try_from(patience).unwrap_or(u64::MAX);
        let until_ms = self.now_ms().saturating_add(patience_ms);
        let Some(before_ms) = self.hide(receipt, until_ms)? else {
            return Ok(());
        };
        let parked = self.bury(letters, (receipt, record), reason, details).await;
        if parked.is_err() {
            self.unhide(receipt, before_ms);
        }
        parked
    }

    async fn bury(
        &self,
        letters: &DeadLetters,
        (receipt, record): (&Receipt, &ConsumedRecord),
        reason: &str,
        details: &str,
    ) -> Result<(), GroupError> {
        let key = (receipt.topic.clone(), receipt.partition);
        let (topic_id, sought) = {
            let inner = self.group.lock();
            let progress = inner.state.partitions.get(&key);
            progress.map_or((0, 0), |progress| (progress.topic_id, progress.sought))
        };
        let given = Given {
            group: &self.group.name,
            topic_id,
            sought,
            receipt,
            record,
            reason,
            details,
        };
        let (state, offset) = loop {
            match letters.put(self.core(), &given)? {
                Put::There(state, offset) => break (state, offset),
                Put::NoRoom(state, seen) => journal::room(&self.engine, &state, seen)
                    .await
                    .map_err(|e| letters.failed(e))?,
            }
        };
        journal::durable(&self.engine, &state, offset)
            .await
            .map_err(|e| letters.failed(e))?;
        self.with_room(|| self.take_as_acked((&key, topic_id), receipt))
            .await
    }

    // The dead letter is durable, so the record is acknowledged, whoever has it by now; unless the
    // group was sought in between, which begins anew.
    fn take_as_acked(
        &self,
        (key, topic_id): (&Key, u128),
        receipt: &Receipt,
    ) -> Result<(), GroupError> {
        let mut inner = self.group.lock();
        let progress = inner.state.partitions.get(key);
        let same = progress.filter(|p| p.topic_id == topic_id && p.sought <= receipt.epoch);
        let Some(progress) = same else {
            return Err(GroupError::Fenced {
                topic: key.0.clone(),
                partition: key.1,
                epoch: receipt.epoch,
                current: progress.map_or(0, |progress| progress.epoch),
            });
        };
        let Some(change) = acked(key, progress, [receipt.offset].into()) else {
            return Ok(());
        };
        self.group.write(self.core(), &mut inner, &[change], false)
    }
}

// What of these offsets is not acknowledged, acknowledged.
fn acked(key: &Key, progress: &Progress, offsets: BTreeSet<u64>) -> Option<Change> {
    let is_open = |offset: &u64| {
        progress.delivered.contains_key(offset)
            || *offset >= progress.next && !progress.acked.contains(offset)
    };
    let runs = Run::of(offsets.into_iter().filter(is_open));
    (!runs.is_empty()).then(|| Change::Acked {
        topic: key.0.to_string(),
        partition: key.1,
        epoch: progress.epoch,
        runs,
    })
}

impl Group {
    /// Takes what a dead-letter topic has of the group as acknowledged, as far as it came after the
    /// last seek.
    ///
    /// # Errors
    /// [`GroupError`]; without room nothing was taken, and may be tried again.
    pub(super) fn take_dead_letters(
        &self,
        core: &Arc<Core>,
        letters: &DeadLetters,
    ) -> Result<(), GroupError> {
        let found = letters.of_group(core, &self.name)?;
        let mut inner = self.lock();
        let mut offsets: BTreeMap<Key, BTreeSet<u64>> = BTreeMap::new();
        for (name, epoch) in found {
            let key: Key = (name.topic.into(), name.partition);
            let progress = inner.state.partitions.get(&key);
            if progress.is_some_and(|p| p.topic_id == name.topic_id && p.sought <= epoch) {
                offsets.entry(key).or_default().insert(name.offset);
            }
        }
        let changes = offsets.into_iter().filter_map(|(key, offsets)| {
            let progress = inner.state.partitions.get(&key)?;
            acked(&key, progress, offsets)
        });
        let changes: Vec<_> = changes.collect();
        self.write(core, &mut inner, &changes, false)
    }
}
