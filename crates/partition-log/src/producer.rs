//! What happens to a producer's batch: appended, recognised as a retry, or refused.
//!
//! A producer numbers its records per partition; its id, epoch and sequences are in the batch
//! header. Two promises follow. Nothing is appended twice (I2), and what is appended has no gap
//! (I3). A batch that was appended already is answered with the offsets of the first time (I5).
//! The decision changes nothing, so a refused batch leaves no trace (I6).
//!
//! With `E` the epoch known here, `e` the batch's, and `f..=l` its sequences:
//!
//! | row | condition | answer |
//! | --- | --- | --- |
//! | D0 | no producer id | append unchecked |
//! | D1 | epoch or sequence is negative | 87 |
//! | D2 | `e = E`, `f..=l` is exactly a batch of the window | duplicate (other content: 87 or duplicate, by [`SequenceReusePolicy`]) |
//! | D4 | `e < E` | 47 fenced, be it a duplicate or not |
//! | D6 | producer unknown | by [`UnknownProducerPolicy`] |
//! | D7, D8 | `e > E` | append if `f = 0`, else 45 |
//! | D9, D10 | `e = E`, no batch of this epoch known | append if `f = 0`, else 45 |
//! | D11 | `e = E`, `f` is the next sequence | append |
//! | D12-D14 | anything else: gap, overlap, older than the window | 45 |
//! | D15 | to be appended, not transactional, but a transaction is open | 48 |
//!
//! The numbers are those of Kafka's broker; D3 and D5 belong to the verification of transactions.

use std::cmp::Ordering;
use std::fmt;

use record_batch::BatchHeader;

use crate::producers::Slot;
use crate::producers::line::Standing;
use crate::sequence::Sequence;

/// What a first batch with a sequence other than 0 gets when its producer is not known here (I18).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum UnknownProducerPolicy {
    /// Refused, and so is any batch of an id that was forgotten: whether it was appended before
    /// can no longer be told.
    #[default]
    Strict,
    /// Accepted and counted, as Kafka's broker does: a late retry of a forgotten producer is
    /// appended again.
    Kafka,
}

/// What a batch gets that carries the id, epoch and sequences of an appended one, but other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SequenceReusePolicy {
    /// Refused: somebody numbered two different batches alike, and one of them would be lost.
    #[default]
    Refuse,
    /// Answered as a duplicate, as Kafka's broker does, which compares no content.
    Duplicate,
}

/// How a [`crate::ProducerTable`] judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProducerConfig {
    /// Batches of each producer that are recognised when sent again, 5 to 65,536; values outside
    /// are brought into this range. Kafka has 5, which is what a client keeps in flight.
    pub window: u32,
    /// For producers that are not known here.
    pub unknown: UnknownProducerPolicy,
    /// For sequences that come again with other content.
    pub reuse: SequenceReusePolicy,
}

impl Default for ProducerConfig {
    /// A window of 5, and the strict policies.
    fn default() -> Self {
        ProducerConfig {
            window: 5,
            unknown: UnknownProducerPolicy::default(),
            reuse: SequenceReusePolicy::default(),
        }
    }
}

/// A batch that may go on.
#[derive(Debug)]
#[must_use]
pub enum Admission {
    /// It has no producer id: append it, there is nothing to apply.
    Unchecked,
    /// It is new: append it, then hand this to [`crate::ProducerTable::apply`].
    Fresh(Fresh),
    /// It was appended before: append nothing, answer with these offsets.
    Duplicate(Original),
}

/// Where a duplicate's original lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Original {
    /// Offset of its first record.
    pub base_offset: u64,
    /// Records in it, counted by offsets: what compaction removed still counts.
    pub count: u32,
    /// Whether it is the producer's newest batch here.
    pub newest: bool,
}

/// Proof that a batch was admitted. Only [`crate::ProducerTable::admit`] makes one, and applying
/// uses it up; throwing it away is what happens to a batch whose bytes could not be written (R19).
#[derive(Debug)]
#[must_use = "the batch is not remembered, and its retry not recognised, before this is applied"]
pub struct Fresh {
    pub(crate) producer_id: i64,
    /// Where the producer was found, so that applying need not look for it again.
    pub(crate) slot: Option<Slot>,
    /// What was known of the producer; the decision holds as long as this does.
    pub(crate) judged: Judged,
    /// Accepted by [`UnknownProducerPolicy::Kafka`] alone.
    pub(crate) accepted_unknown: bool,
}

/// The part of a producer's state which every accepted batch changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) epoch: i16,
    pub(crate) next: Option<Sequence>,
}

/// Why sequences do not continue what is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutOfOrderKind {
    /// D12: sequences before it are missing.
    Gap,
    /// D13: some of its sequences are in the log, but not as this batch.
    Overlap,
    /// D14: it lies before the batches that are remembered.
    OlderThanWindow,
    /// D8: the first batch of a higher epoch does not begin at 0.
    EpochBump,
    /// D10: no batch of the epoch is known here, and this one does not begin at 0.
    EmptyWindow,
}

impl fmt::Display for OutOfOrderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OutOfOrderKind::Gap => {
                "the batches before it did not arrive; send those first, then this one again"
            }
            OutOfOrderKind::Overlap => {
                "it overlaps batches of the log without being one of them; send each batch again \
                 with the first and last sequence it had"
            }
            OutOfOrderKind::OlderThanWindow => {
                "it lies before the batches remembered here, so whether it was appended cannot be \
                 told; raise the epoch and begin at 0, or widen the window"
            }
            OutOfOrderKind::EpochBump => {
                "the first batch of a new epoch begins at 0; number the batches again from there"
            }
            OutOfOrderKind::EmptyWindow => {
                "no batch of this epoch is in the log yet, the first one begins at 0"
            }
        })
    }
}

/// Why a batch is refused. It is not in the log and never will be, and a corrected retry is judged
/// as if it had not come (I6).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The sequences do not continue the log (D8, D10, D12 to D14).
    #[error(
        "producer {producer_id}, epoch {epoch}: expected sequence {expected}, got {got}: {kind}"
    )]
    OutOfOrder {
        /// Producer id of the batch.
        producer_id: i64,
        /// Epoch of the batch.
        epoch: i16,
        /// The only first sequence that would have been appended.
        expected: i32,
        /// First sequence of the batch.
        got: i32,
        /// What exactly is wrong.
        kind: OutOfOrderKind,
    },
    /// A newer instance of the producer has written here (D4).
    #[error(
        "producer {producer_id} is fenced: the batch has epoch {given}, epoch {current} has \
         written since; stop this instance, or open a new session"
    )]
    Fenced {
        /// Producer id of the batch.
        producer_id: i64,
        /// Epoch of the batch.
        given: i16,
        /// Highest epoch here.
        current: i16,
    },
    /// Unknown here, and not at the beginning (D6, strict).
    #[error(
        "producer {producer_id} is unknown here or was forgotten: expected sequence 0, got {got}; \
         start again at 0 with a new session"
    )]
    UnknownProducer {
        /// Producer id of the batch.
        producer_id: i64,
        /// First sequence of the batch.
        got: i32,
    },
    /// Unknown here, but ids up to a higher one were forgotten, so this may be a late retry
    /// (D6, strict).
    #[error(
        "producer {producer_id} may have been forgotten here: ids up to {forgotten_below} have \
         expired, so a first batch cannot be told from a late retry; open a new session"
    )]
    Forgotten {
        /// Producer id of the batch.
        producer_id: i64,
        /// Highest id that was ever forgotten here.
        forgotten_below: i64,
    },
    /// The sequences of an appended batch, with other content (D2).
    #[error(
        "producer {producer_id} sent sequences {first} to {last} again with other content; the \
         batch at offset {original_offset} has them; give different records different sequences"
    )]
    SequenceReuse {
        /// Producer id of the batch.
        producer_id: i64,
        /// First sequence of both.
        first: i32,
        /// Last sequence of both.
        last: i32,
        /// Offset of the batch in the log.
        original_offset: u64,
    },
    /// A producer id without a usable epoch or sequence (D1).
    #[error(
        "producer {producer_id} sent epoch {epoch} and first sequence {sequence}: neither may be \
         negative; number the batch, or leave out the producer id"
    )]
    Identity {
        /// Producer id of the batch.
        producer_id: i64,
        /// Epoch of the batch.
        epoch: i16,
        /// First sequence of the batch.
        sequence: i32,
    },
    /// Plain data while a transaction of the producer is open (D15).
    #[error(
        "producer {producer_id} has a transaction open since offset {first_offset}, the batch is \
         not part of one; end the transaction first"
    )]
    TransactionOpen {
        /// Producer id of the batch.
        producer_id: i64,
        /// First offset of the open transaction.
        first_offset: u64,
    },
}

impl Rejection {
    /// The error code of Kafka's protocol: 45 `OUT_OF_ORDER_SEQUENCE_NUMBER`,
    /// 47 `INVALID_PRODUCER_EPOCH`, 48 `INVALID_TXN_STATE`, 87 `INVALID_RECORD`.
    pub fn kafka_code(&self) -> i16 {
        match self {
            Rejection::OutOfOrder { .. }
            | Rejection::UnknownProducer { .. }
            | Rejection::Forgotten { .. } => 45,
            Rejection::Fenced { .. } => 47,
            Rejection::TransactionOpen { .. } => 48,
            Rejection::SequenceReuse { .. } | Rejection::Identity { .. } => 87,
        }
    }
}

/// What a batch claims to be, as its header says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) first: Sequence,
    /// Sequences in it, at least 1.
    pub(crate) count: u32,
    pub(crate) fingerprint: u32,
    pub(crate) transactional: bool,
}

impl Claim {
    /// `None` when the header has no sequence. The epoch may be negative.
    pub(crate) fn of(header: &BatchHeader, fingerprint: u32) -> Option<Claim> {
        Some(Claim {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            first: Sequence::new(header.base_sequence)?,
            count: header.last_offset_delta.max(0).cast_unsigned() + 1,
            fingerprint,
            transactional: header.attributes.is_transactional(),
        })
    }

    /// The sequence after the batch.
    pub(crate) fn next(&self) -> Sequence {
        self.first.advance(self.count)
    }

    fn out_of_order(&self, expected: Sequence, kind: OutOfOrderKind) -> Rejection {
        Rejection::OutOfOrder {
            producer_id: self.producer_id,
            epoch: self.epoch,
            expected: expected.get(),
            got: self.first.get(),
            kind,
        }
    }

    /// Rows D2, D4 and D7 to D15: the batch of a producer that is known. `None`: append it.
    #[inline]
    pub(crate) fn judge(
        &self,
        known: &Standing<'_>,
        reuse: SequenceReusePolicy,
    ) -> Result<Option<Original>, Rejection> {
        match self.epoch.cmp(&known.epoch()) {
            Ordering::Less => {
                return Err(Rejection::Fenced {
                    producer_id: self.producer_id,
                    given: self.epoch,
                    current: known.epoch(),
                });
            }
            Ordering::Equal => match known.next() {
                Some(next) if next == self.first => {}
                Some(next) => return self.judge_earlier(known, next, reuse).map(Some),
                None if self.first == Sequence::ZERO => {}
                None => return Err(self.out_of_order(Sequence::ZERO, OutOfOrderKind::EmptyWindow)),
            },
            Ordering::Greater if self.first == Sequence::ZERO => {}
            Ordering::Greater => {
                return Err(self.out_of_order(Sequence::ZERO, OutOfOrderKind::EpochBump));
            }
        }
        match known.open_transaction() {
            Some(first_offset) if !self.transactional => Err(Rejection::TransactionOpen {
                producer_id: self.producer_id,
                first_offset,
            }),
            _ => Ok(None),
        }
    }

    /// Rows D2 and D12 to D14: same epoch, but not the next sequence.
    #[cold]
    fn judge_earlier(
        &self,
        known: &Standing<'_>,
        next: Sequence,
        reuse: SequenceReusePolicy,
    ) -> Result<Original, Rejection> {
        if let Some((original, fingerprint)) = known.find(self.first, self.count) {
            return if fingerprint == self.fingerprint || reuse == SequenceReusePolicy::Duplicate {
                Ok(original)
            } else {
                Err(Rejection::SequenceReuse {
                    producer_id: self.producer_id,
                    first: self.first.get(),
                    last: self.next().retreat(1).get(),
                    original_offset: original.base_offset,
                })
            };
        }
        // On a circle everything lies both behind and ahead. What is nearer is what happened.
        let behind = self.first.distance(next);
        let kind = if behind > Sequence::COUNT / 2 {
            OutOfOrderKind::Gap
        } else if behind.saturating_sub(self.count) < known.span() {
            OutOfOrderKind::Overlap
        } else {
            OutOfOrderKind::OlderThanWindow
        };
        Err(self.out_of_order(next, kind))
    }

    /// Row D6: the batch of a producer that is not known. `Ok(true)`: only policy `kafka` took it.
    pub(crate) fn judge_unknown(
        &self,
        strict: bool,
        forgotten_below: i64,
    ) -> Result<bool, Rejection> {
        let begins = self.first == Sequence::ZERO;
        if strict && self.producer_id <= forgotten_below {
            let producer_id = self.producer_id;
            Err(Rejection::Forgotten {
                producer_id,
                forgotten_below,
            })
        } else if strict && !begins {
            let got = self.first.get();
            Err(Rejection::UnknownProducer {
                producer_id: self.producer_id,
                got,
            })
        } else {
            Ok(!begins)
        }
    }
}
