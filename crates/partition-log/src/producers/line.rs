//! One producer of a partition: 64 bytes, so that looking at it costs one cache line.

use crate::producer::{Claim, Judged, Original};
use crate::producers::view::{ProducerView, WindowEntry};
use crate::producers::window::{Entry, Handle, OlderBatches};
use crate::sequence::Sequence;

/// What is known of a producer. The newest batch is in here, the others lie in [`OlderBatches`].
///
/// The window is one stretch of sequences without a hole, all of the line's epoch, and spans fewer
/// than 2^31 of them, so that a sequence is in one batch of it at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Line {
    /// [`Line::FREE`] where there is no producer.
    pub(crate) producer_id: i64,
    /// The engine's elapsed time, milliseconds.
    pub(crate) last_append_ms: u64,
    /// First offset of the open transaction, or `NO_TRANSACTION`.
    open_transaction: u64,
    newest: Entry,
    /// The sequence after the newest batch.
    next: Sequence,
    pub(crate) coordinator_epoch: i32,
    older: Handle,
    /// Highest epoch accepted; -1 only where a foreign log or snapshot said so.
    epoch: i16,
    /// Whether `newest` and `next` mean anything: not when only a marker has set the epoch.
    has_batch: bool,
}

const _: () = assert!(size_of::<Line>() == 64);

const NO_TRANSACTION: u64 = u64::MAX;

impl Line {
    pub(crate) const FREE: i64 = -1;

    pub(crate) const EMPTY: Line = Line::new(Line::FREE, -1);

    /// A producer of which no batch is known.
    pub(crate) const fn new(producer_id: i64, epoch: i16) -> Line {
        Line {
            producer_id,
            last_append_ms: 0,
            open_transaction: NO_TRANSACTION,
            newest: Entry {
                base_offset: 0,
                first: Sequence::ZERO,
                fingerprint: 0,
            },
            next: Sequence::ZERO,
            coordinator_epoch: -1,
            older: Handle::NONE,
            epoch,
            has_batch: false,
        }
    }

    pub(crate) fn is_free(&self) -> bool {
        self.producer_id == Line::FREE
    }

    pub(crate) fn judged(&self) -> Judged {
        Judged {
            epoch: self.epoch,
            next: self.next(),
        }
    }

    fn next(&self) -> Option<Sequence> {
        self.has_batch.then_some(self.next)
    }

    pub(crate) fn open_transaction(&self) -> Option<u64> {
        (self.open_transaction != NO_TRANSACTION).then_some(self.open_transaction)
    }

    pub(crate) fn set_open_transaction(&mut self, first_offset: Option<u64>) {
        self.open_transaction = first_offset.unwrap_or(NO_TRANSACTION);
    }

    /// Offset of the newest batch.
    pub(crate) fn newest_offset(&self) -> Option<u64> {
        self.has_batch.then_some(self.newest.base_offset)
    }

    /// Forgets the batches, not the producer.
    pub(crate) fn clear_window(&mut self, older: &mut OlderBatches) {
        older.clear(&mut self.older);
        self.has_batch = false;
    }

    /// Another epoch than before begins with an empty window.
    pub(crate) fn set_epoch(&mut self, older: &mut OlderBatches, epoch: i16) {
        if self.epoch != epoch {
            self.clear_window(older);
            self.epoch = epoch;
        }
    }

    pub(crate) fn epoch(&self) -> i16 {
        self.epoch
    }

    /// Takes a batch in as the newest. What does not continue the window ends it: an admitted
    /// batch of the same epoch always does, a replayed one need not.
    #[inline]
    pub(crate) fn push(&mut self, older: &mut OlderBatches, batch: &Claim, base_offset: u64) {
        self.set_epoch(older, batch.epoch);
        if self.has_batch && self.next == batch.first {
            older.push(&mut self.older, self.newest, self.next, batch.count);
        } else {
            self.clear_window(older);
        }
        let fingerprint = batch.fingerprint;
        self.newest = Entry {
            base_offset,
            first: batch.first,
            fingerprint,
        };
        self.next = batch.next();
        self.has_batch = true;
    }
}

/// A producer together with its older batches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing<'a> {
    pub(crate) line: &'a Line,
    pub(crate) older: &'a OlderBatches,
}

impl Standing<'_> {
    pub(crate) fn epoch(&self) -> i16 {
        self.line.epoch
    }

    /// The sequence after the newest batch; `None` when no batch of the epoch is known.
    pub(crate) fn next(&self) -> Option<Sequence> {
        self.line.next()
    }

    pub(crate) fn open_transaction(&self) -> Option<u64> {
        self.line.open_transaction()
    }

    /// Batches in the window.
    fn len(&self) -> u32 {
        if self.line.has_batch {
            self.line.older.len() + 1
        } else {
            0
        }
    }

    /// Sequences in the window, fewer than 2^31.
    pub(crate) fn span(&self) -> u32 {
        if self.line.has_batch {
            self.entry(0).first.distance(self.line.next)
        } else {
            0
        }
    }

    /// Batch number `at` of the window, 0 being the oldest.
    fn entry(&self, at: u32) -> Entry {
        if at == self.line.older.len() {
            self.line.newest
        } else {
            self.older.get(self.line.older, at)
        }
    }

    /// Sequences of batch number `at`: up to the next batch.
    fn count(&self, at: u32) -> u32 {
        let end = if at + 1 == self.len() {
            self.line.next
        } else {
            self.entry(at + 1).first
        };
        self.entry(at).first.distance(end)
    }

    /// The batch of the window with exactly these sequences, and its fingerprint.
    pub(crate) fn find(&self, first: Sequence, count: u32) -> Option<(Original, u32)> {
        let newest = self.line.newest;
        let behind = first.distance(self.line.next);
        if self.line.has_batch && newest.first == first && behind == count {
            let original = Original {
                base_offset: newest.base_offset,
                count,
                newest: true,
            };
            return Some((original, newest.fingerprint));
        }
        if behind == 0 || behind > self.span() {
            return None;
        }
        // The last batch that begins at `first` or before.
        let (mut low, mut high) = (0, self.line.older.len());
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.entry(middle).first.distance(self.line.next) >= behind {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        let entry = self.entry(low);
        (entry.first == first && self.count(low) == count).then(|| {
            let newest = low + 1 == self.len();
            (
                Original {
                    base_offset: entry.base_offset,
                    count,
                    newest,
                },
                entry.fingerprint,
            )
        })
    }

    pub(crate) fn view(&self) -> ProducerView {
        let window = (0..self.len()).map(|at| {
            let (entry, count) = (self.entry(at), self.count(at));
            WindowEntry {
                first_sequence: entry.first.get(),
                last_sequence: entry.first.advance(count).retreat(1).get(),
                base_offset: entry.base_offset,
                count,
                fingerprint: entry.fingerprint,
            }
        });
        ProducerView {
            producer_id: self.line.producer_id,
            epoch: self.line.epoch,
            window: window.collect(),
            last_append_ms: self.line.last_append_ms,
            coordinator_epoch: self.line.coordinator_epoch,
            open_transaction_offset: self.line.open_transaction(),
        }
    }
}
