//! What happens to groups, as it is stored: one event is the value of one record of the internal
//! topic. A frame of the small codec, so a version that this release does not know is refused by
//! its number.

use std::collections::{BTreeMap, BTreeSet};

use segment_storage::codec::{self, CodecError};
use serde::{Deserialize, Serialize};

use super::state::Progress;

const MAGIC: [u8; 4] = *b"OLGE";
/// A new kind of change, or another layout of one, is a new version.
const VERSION: u16 = 1;

/// Neighbouring offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) count: u32,
}

impl Run {
    /// Offsets, in ascending order, as runs.
    pub(crate) fn of(offsets: impl IntoIterator<Item = u64>) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for offset in offsets {
            match runs.last_mut() {
                Some(run) if run.first + u64::from(run.count) == offset && run.count < u32::MAX => {
                    run.count += 1;
                }
                _ => runs.push(Run {
                    first: offset,
                    count: 1,
                }),
            }
        }
        runs
    }

    /// All offsets of some runs.
    pub(crate) fn offsets(runs: &[Run]) -> impl Iterator<Item = u64> + '_ {
        let all = |run: &Run| run.first..run.first.saturating_add(u64::from(run.count));
        runs.iter().flat_map(all)
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// Epochs and member ids go on from here, whatever becomes of the groups that had them.
    Numbers { next: u64 },
    /// Of one group.
    Group { name: String, change: Change },
}

/// What happened to one group. What does not fit the group's state changes nothing, so a replay
/// may begin anywhere before a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    /// A partition has an owner, in a new epoch. A group that has not met this log before begins at
    /// `start`.
    Assigned {
        topic: String,
        topic_id: u128,
        partition: u32,
        epoch: u64,
        member: u64,
        start: u64,
    },
    /// The owner is gone.
    Released {
        topic: String,
        partition: u32,
        epoch: u64,
    },
    /// Records were handed out, once more each; those below `next` that exist were by now.
    Delivered {
        topic: String,
        partition: u32,
        epoch: u64,
        runs: Vec<Run>,
        next: u64,
    },
    /// Records are done.
    Acked {
        topic: String,
        partition: u32,
        epoch: u64,
        runs: Vec<Run>,
    },
    /// The group goes on at another position, in a new epoch, and forgets deliveries.
    Sought {
        topic: String,
        partition: u32,
        epoch: u64,
        position: u64,
    },
    /// The log ends at `end`, below what the group knew of it.
    Clamped {
        topic: String,
        partition: u32,
        end: u64,
    },
    /// Nothing from that offset on is deleted by size, age or consumption; `None`: no hold.
    Held {
        topic: String,
        topic_id: u128,
        partition: u32,
        offset: Option<u64>,
    },
    /// The topic is gone, and what the group knew of the partition with it.
    Dropped { topic: String, partition: u32 },
    /// The group is gone.
    Deleted,
    /// All of one partition, which takes the place of what was known.
    Checkpoint {
        topic: String,
        partition: u32,
        progress: StoredProgress,
    },
}

/// A partition's progress, as a checkpoint has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredProgress {
    topic_id: u128,
    epoch: u64,
    sought: u64,
    member: Option<u64>,
    next: u64,
    delivered: Vec<(u64, u32)>,
    acked: Vec<Run>,
    lost: Option<u64>,
}

impl From<&Progress> for StoredProgress {
    fn from(progress: &Progress) -> StoredProgress {
        StoredProgress {
            topic_id: progress.topic_id,
            epoch: progress.epoch,
            sought: progress.sought,
            member: progress.member,
            next: progress.next,
            delivered: progress.delivered.iter().map(|(o, n)| (*o, *n)).collect(),
            acked: Run::of(progress.acked.iter().copied()),
            lost: progress.lost,
        }
    }
}

impl From<&StoredProgress> for Progress {
    fn from(stored: &StoredProgress) -> Progress {
        Progress {
            topic_id: stored.topic_id,
            epoch: stored.epoch,
            sought: stored.sought,
            member: stored.member,
            next: stored.next,
            delivered: BTreeMap::from_iter(stored.delivered.iter().copied()),
            acked: BTreeSet::from_iter(Run::offsets(&stored.acked)),
            lost: stored.lost,
        }
    }
}

impl Event {
    /// The bytes of an event.
    pub(crate) fn encode(&self) -> Vec<u8> {
        codec::encode(MAGIC, VERSION, self)
    }

    /// The event that bytes are.
    ///
    /// # Errors
    /// [`CodecError`]: a newer release's, or none.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Event, CodecError> {
        codec::decode(MAGIC, VERSION, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acked(offsets: &[u64]) -> Event {
        Event::Group {
            name: "billing".to_owned(),
            change: Change::Acked {
                topic: "orders".to_owned(),
                partition: 3,
                epoch: 9,
                runs: Run::of(offsets.iter().copied()),
            },
        }
    }

    #[test]
    fn an_event_comes_back_as_it_was_stored() {
        let event = acked(&[1, 2, 3, 7]);
        let Event::Group {
            change: Change::Acked { runs, .. },
            ..
        } = &event
        else {
            unreachable!()
        };
        assert_eq!(runs.len(), 2);
        assert_eq!(Run::offsets(runs).collect::<Vec<_>>(), [1, 2, 3, 7]);
        assert_eq!(Event::decode(&event.encode()).unwrap(), event);
    }

    #[test]
    fn an_event_of_a_newer_release_is_refused_by_its_version() {
        let newer = codec::encode(MAGIC, VERSION + 1, &acked(&[1]));
        let error = Event::decode(&newer).unwrap_err();
        assert!(matches!(error, CodecError::NewerVersion { found: 2, .. }));
        assert!(error.to_string().contains("newer"), "{error}");
    }

    #[test]
    fn damage_is_no_event() {
        let mut bytes = acked(&[1]).encode();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(matches!(Event::decode(&bytes), Err(CodecError::Crc { .. })));
    }
}
