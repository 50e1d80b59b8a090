//! Opening a name: fence whoever had it before, then read where to go on.

use std::collections::BTreeMap;
use std::sync::Arc;

use record_batch::SourcePosition;

use crate::core::Core;
use crate::ends::State as PartitionStatus;
use crate::error::SendError;
use crate::names::Identity;
use crate::partition::PartitionState;

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// What a named producer knows of its source.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) identity: Identity,
    /// Last position stored, per topic and partition.
    pub(super) stored: BTreeMap<(u128, u32), u64>,
    /// Lowest position that may be missing anywhere.
    pub(super) resume_from: u64,
    /// The last position handed over; the next must be higher.
    pub(super) last: Option<u64>,
    /// Topics whose number of partitions may differ from before.
    pub(super) repartition: bool,
}

impl Source {
    /// Whether a record was stored by an earlier run.
    pub(super) fn is_stored(&self, topic: u128, partition: u32, position: u64) -> bool {
        self.stored
            .get(&(topic, partition))
            .is_some_and(|&last| position <= last)
    }

    /// The position below which everything is durable in all partitions, when the lowest one that
    /// is not is `undurable`.
    pub(super) fn floor(&self, undurable: Option<u64>) -> u64 {
        undurable.unwrap_or_else(|| self.last.map_or(self.resume_from, |last| last + 1))
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
            Some(&before) if !self.repartition => {
                let (name, topic) = (self.name.as_str().into(), topic.name().into());
                return Err(SendError::Repartitioned {
                    name,
                    topic,
                    before,
                    now,
                });
            }
            _ => {}
        }
        self.identity.partitions.insert(topic.id(), now);
        let Some(names) = &core.names else {
            return Err(SendError::Closed);
        };
        names
            .store(&self.name, self.identity.clone())
            .map_err(|source| SendError::Io {
                file: core.disk.display(crate::names::FILE).into(),
                source,
            })
    }
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
    let io = |source: std::io::Error| SendError::Io {
        file: core.disk.display(crate::names::FILE).into(),
        source,
    };
    let mut identity = match names.identity(name) {
        None => Identity {
            producer_id: core.allocate_producer_id()?,
            producer_epoch: 0,
            partitions: BTreeMap::new(),
            carried: Vec::new(),
        },
        Some(identity) if identity.is_exhausted() => renewed(core, identity)?,
        Some(identity) => Identity {
            producer_epoch: identity.producer_epoch + 1,
            ..identity
        },
    };
    if repartition {
        identity.partitions.clear();
    }
    names.store(name, identity.clone()).map_err(io)?;
    let mut stored = BTreeMap::new();
    let mut resume_from = 0;
    for (topic, partition) in partitions(core) {
        let position = fence(core, &partition, &identity)?;
        let carried = identity.carried(topic, partition.index);
        for position in [position, carried].into_iter().flatten() {
            let last = stored
                .entry((topic, partition.index))
                .or_insert(position.last);
            *last = position.last.max(*last);
            resume_from = resume_from.max(position.floor);
        }
    }
    Ok(Source {
        name: name.to_owned(),
        identity,
        stored,
        resume_from,
        last: None,
        repartition,
    })
}

fn partitions(core: &Core) -> Vec<(u128, Arc<PartitionState>)> {
    let topics = core.topics.read();
    let of = |topic: &Arc<crate::topics::TopicState>| {
        let id = topic.entry.id;
        topic
            .partitions
            .iter()
            .map(move |p| (id, p.clone()))
            .collect::<Vec<_>>()
    };
    topics.values().flat_map(of).collect()
}

// The epochs of an id are used up: another id, which remembers how far the old one got.
fn renewed(core: &Core, old: Identity) -> Result<Identity, SendError> {
    let mut carried = Vec::new();
    for (topic, partition) in partitions(core) {
        let log = partition.log();
        let here = log.and_then(|log| log.producers().sources().position(old.producer_id));
        let before = old.carried(topic, partition.index);
        let newest = [here, before]
            .into_iter()
            .flatten()
            .reduce(|a, b| SourcePosition {
                last: a.last.max(b.last),
                floor: a.floor.max(b.floor),
            });
        carried.extend(newest.map(|p| (topic, partition.index, p.last, p.floor)));
    }
    let producer_id = core.allocate_producer_id()?;
    Ok(Identity {
        producer_id,
        producer_epoch: 0,
        partitions: old.partitions,
        carried,
    })
}

fn fence(
    core: &Core,
    partition: &Arc<PartitionState>,
    identity: &Identity,
) -> Result<Option<SourcePosition>, SendError> {
    let Some(mut log) = partition.log() else {
        return Ok(None);
    };
    let id = identity.producer_id;
    if log.is_history_lost() && !log.producers().sources().positions().any(|(p, _)| p == id) {
        return Err(SendError::HistoryLost {
            log: partition.name().into(),
        });
    }
    log.producers_mut().keep(id);
    log.producers_mut()
        .sources_mut()
        .fence(id, identity.producer_epoch);
    let position = log.producers().sources().position(id);
    let end = log.next_offset();
    let wrote = log.producers().get(id).is_some();
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
