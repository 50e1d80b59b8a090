//! Opening a name: fence whoever had it before, then read where to go on.

use std::collections::BTreeMap;
use std::sync::Arc;

use record_batch::SourcePosition;

use super::route::partition_in_every_run;
use crate::core::Core;
use crate::ends::State as PartitionStatus;
use crate::error::SendError;
use crate::names::{Carried, Identity};
use crate::partition::PartitionState;
use crate::record::Record;

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// What a named producer knows of its source.
pub(super) struct Source {
    name: String,
    pub(super) identity: Identity,
    /// Last position that the present id stored, per topic and partition.
    stored: BTreeMap<(u128, u32), u64>,
    /// Lowest position that may be missing anywhere.
    pub(super) resume_from: u64,
    /// The last position handed over; the next must be higher.
    pub(super) last: Option<u64>,
}

impl Source {
    /// Whether a record was stored by an earlier run: in the partition where it goes now, or in the
    /// one where an earlier id of the name sent it.
    pub(super) fn is_stored(
        &self,
        (topic, partition): (u128, u32),
        record: &Record<'_>,
        position: u64,
    ) -> bool {
        let reaches = |last: u64| position <= last;
        let now = self.stored.get(&(topic, partition)).copied();
        let went_there = |c: &Carried| partition_in_every_run(record, c.partitions) == c.partition;
        let mut earlier = self.identity.carried.iter();
        now.is_some_and(reaches)
            || earlier.any(|c| c.topic == topic && reaches(c.last) && went_there(c))
    }

    /// The position below which everything is durable in all partitions, when the lowest one that
    /// is not is `undurable`.
    pub(super) fn floor(&self, undurable: Option<u64>) -> u64 {
        let next = |last: u64| last.saturating_add(1);
        undurable.unwrap_or_else(|| self.last.map_or(self.resume_from, next))
    }

    /// Notes that the name routes by this number of partitions of a topic, durably, before the
    /// first record goes there.
    ///
    /// # Errors
    /// [`SendError::Repartitioned`] when it was another number before.
    pub(super) fn pin(
        &mut self,
        core: &Core,
        topic: &crate::topic::Topic,
    ) -> Result<(), SendError> {
        let now = topic.partitions();
        match self.identity.partitions.get(&topic.id()) {
            Some(&before) if before == now => return Ok(()),
            Some(&before) => {
                let (name, topic) = (self.name.as_str().into(), topic.name().into());
                return Err(SendError::Repartitioned {
                    name,
                    topic,
                    before,
                    now,
                });
            }
            None => {}
        }
        let mut identity = self.identity.clone();
        identity.partitions.insert(topic.id(), now);
        store(core, &self.name, &identity)?;
        self.identity = identity;
        Ok(())
    }
}

fn store(core: &Core, name: &str, identity: &Identity) -> Result<(), SendError> {
    let names = core.names.as_ref().ok_or(SendError::Closed)?;
    let stored = names.store(name, identity.clone());
    stored.map_err(|source| SendError::Io {
        file: core.disk.display(crate::names::FILE).into(),
        source,
    })
}

/// Takes a name: gives its next epoch, durably, fences every earlier holder in every partition,
/// waits until what those wrote is durable, and only then reads the positions.
///
/// # Errors
/// [`SendError`]; the name is as it was, or free with a higher epoch.
pub(super) fn take(core: &Core, name: &str, repartition: bool) -> Result<Source, SendError> {
    let names = core.names.as_ref().ok_or(SendError::Closed)?;
    let legal = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains('\0');
    if !legal {
        return Err(SendError::IllegalName { name: name.into() });
    }
    let partitions = partitions(core);
    let before = names.identity(name);
    let identity = match &before {
        None => Identity {
            producer_id: core.allocate_producer_id()?,
            ..Identity::default()
        },
        Some(before)
            if before.is_exhausted() || (repartition && is_repartitioned(core, before)) =>
        {
            renewed(core, &partitions, before, repartition)?
        }
        Some(before) => Identity {
            producer_epoch: before.producer_epoch + 1,
            ..before.clone()
        },
    };
    store(core, name, &identity)?;
    if let Some(old) = before.as_ref().map(|before| before.producer_id)
        && old != identity.producer_id
    {
        give_up(&partitions, old);
    }
    let mut stored = BTreeMap::new();
    let mut resume_from = identity.carried.iter().map(|c| c.floor).max().unwrap_or(0);
    for (topic, partition) in &partitions {
        let holder = (identity.producer_id, identity.producer_epoch);
        check_history(before.as_ref(), *topic, partition)?;
        if let Some(position) = fence(core, partition, holder)? {
            stored.insert((*topic, partition.index), position.last);
            resume_from = resume_from.max(position.floor);
        }
    }
    Ok(Source {
        name: name.to_owned(),
        identity,
        stored,
        resume_from,
        last: None,
    })
}

type Partitions = Vec<(u128, Arc<PartitionState>)>;

fn partitions(core: &Core) -> Partitions {
    let topics = core.topics.read();
    let of = |topic: &Arc<crate::topics::TopicState>| {
        let id = topic.entry.id;
        let with_id = move |p: &Arc<PartitionState>| (id, p.clone());
        topic.partitions.iter().map(with_id).collect::<Vec<_>>()
    };
    topics.values().flat_map(of).collect()
}

// Partitions of each topic, by its identity.
fn counts(core: &Core) -> BTreeMap<u128, u32> {
    let topics = core.topics.read();
    let count = |t: &Arc<crate::topics::TopicState>| (t.entry.id, t.entry.partitions);
    topics.values().map(count).collect()
}

fn is_repartitioned(core: &Core, identity: &Identity) -> bool {
    let now = counts(core);
    let differs = |(topic, before): (&u128, &u32)| now.get(topic).is_some_and(|n| n != before);
    identity.partitions.iter().any(differs)
}

// Another id, which remembers how far the old one got and by how many partitions it routed: when
// the epochs of an id are used up, and when a topic got more partitions.
fn renewed(
    core: &Core,
    partitions: &Partitions,
    old: &Identity,
    repartition: bool,
) -> Result<Identity, SendError> {
    let now = counts(core);
    let mut carried: Vec<Carried> = old.carried.clone();
    carried.retain(|c| now.contains_key(&c.topic));
    for (topic, partition) in partitions {
        // Whoever has the old id is over; what it wrote must be durable before the names file says
        // so. If that cannot be stored, the name goes on in the next epoch.
        let over = (old.producer_id, old.producer_epoch.saturating_add(1));
        check_history(Some(old), *topic, partition)?;
        // What a damaged log knows of the id would be lost with it.
        if old.wrote_to(*topic) && is_damaged(partition) {
            return Err(SendError::HistoryLost {
                log: partition.name().into(),
            });
        }
        let position = fence(core, partition, over)?;
        let by = old.partitions.get(topic).copied();
        if let (Some(SourcePosition { last, floor }), Some(by)) = (position, by) {
            carried.push(Carried {
                topic: *topic,
                partitions: by,
                partition: partition.index,
                last,
                floor,
            });
        }
    }
    let mut routes = old.partitions.clone();
    routes.retain(|topic, by| match now.get(topic) {
        Some(now) => now == by || !repartition,
        None => false,
    });
    Ok(Identity {
        producer_id: core.allocate_producer_id()?,
        producer_epoch: 0,
        partitions: routes,
        carried: merged(carried),
        ..Identity::default()
    })
}

fn is_damaged(partition: &PartitionState) -> bool {
    let log = partition.log();
    log.is_none_or(|log| log.corruption().is_some())
}

// Every epoch of the old id is fenced, so no batch of it can come again; and how far it got is stored
// with the name. Names that are renewed often would leave many of them.
fn give_up(partitions: &Partitions, old: i64) {
    for (_, partition) in partitions {
        if let Some(mut log) = partition.log() {
            log.producers_mut().release(old);
            log.retire_producer(old);
        }
    }
}

// Of each partition that was routed to, the highest; so the list does not grow with renewals.
fn merged(carried: Vec<Carried>) -> Vec<Carried> {
    let mut newest: BTreeMap<(u128, u32, u32), Carried> = BTreeMap::new();
    for c in carried {
        let known = newest
            .entry((c.topic, c.partitions, c.partition))
            .or_insert(c);
        known.last = known.last.max(c.last);
        known.floor = known.floor.max(c.floor);
    }
    newest.into_values().collect()
}

// A log that lost what it knew of the name cannot tell what is stored there. Where the name never
// wrote, nothing of it can be lost.
fn check_history(
    identity: Option<&Identity>,
    topic: u128,
    partition: &PartitionState,
) -> Result<(), SendError> {
    let Some(identity) = identity.filter(|identity| identity.wrote_to(topic)) else {
        return Ok(());
    };
    let id = identity.producer_id;
    let is_unknown = partition.log().is_some_and(|log| {
        log.is_history_lost() && log.producers().sources().position(id).is_none()
    });
    if is_unknown || identity.lost.contains(&(topic, partition.index)) {
        return Err(SendError::HistoryLost {
            log: partition.name().into(),
        });
    }
    Ok(())
}

// Refuses lower epochs of an id from now on, waits until what it wrote is durable, and says how far
// its source is stored here.
fn fence(
    core: &Core,
    partition: &Arc<PartitionState>,
    (id, epoch): (i64, i16),
) -> Result<Option<SourcePosition>, SendError> {
    let Some(mut log) = partition.log() else {
        return Ok(None);
    };
    let position = log.producers().sources().position(id);
    log.producers_mut().keep(id);
    log.producers_mut().sources_mut().fence(id, epoch);
    let end = log.next_offset();
    let wrote = position.is_some() || log.is_known(id);
    drop(log);
    if wrote && partition.ends.synced() < end {
        core.commit_now(partition);
        if partition.ends.synced() < end && partition.ends.state() == PartitionStatus::Fenced {
            return Err(SendError::LogFenced {
                log: partition.name().into(),
            });
        }
    }
    Ok(position)
}
