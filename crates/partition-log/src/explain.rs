//! What an append would be answered, and by which row of the table in [`crate::producer`].
//!
//! The decision is that of [`ProducerTable::admit`], asked with a header that holds nothing else:
//! the two cannot disagree.

use record_batch::{Attributes, BatchHeader, ProducerIdentity};

use crate::producer::{Admission, Fresh, OutOfOrderKind, Rejection};
use crate::producers::{ProducerTable, ProducerView, WindowEntry};

/// What a batch would be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Decision {
    /// It would be appended.
    Append,
    /// It is in the log; the first answer again.
    Duplicate,
    /// Refused: its sequences do not continue the log.
    OutOfOrder,
    /// Refused: a newer instance of the producer has written, or took the name over.
    Fenced,
    /// Refused: the producer is not known here, and the batch is not its first.
    Unknown,
    /// Refused: the producer may have been forgotten here (I18).
    Forgotten,
    /// Refused: it has the sequences of a batch in the log, and other content.
    SequenceReuse,
    /// Refused: a producer id without a usable epoch or sequence.
    Invalid,
    /// Refused: a transaction is open, and the batch is not part of one.
    TransactionOpen,
}

impl Decision {
    /// Its name, for programs: `append`, `out_of_order` and so on.
    pub fn name(self) -> &'static str {
        match self {
            Decision::Append => "append",
            Decision::Duplicate => "duplicate",
            Decision::OutOfOrder => "out_of_order",
            Decision::Fenced => "fenced",
            Decision::Unknown => "unknown",
            Decision::Forgotten => "forgotten",
            Decision::SequenceReuse => "sequence_reuse",
            Decision::Invalid => "invalid",
            Decision::TransactionOpen => "transaction_open",
        }
    }
}

/// What an append would be answered, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// What the batch would be answered.
    pub decision: Decision,
    /// The row that decides, `D0` to `D15`; `I18` for producers that may have been forgotten.
    pub rule: &'static str,
    /// Offset of the first record of the batch that has these sequences, for
    /// [`Decision::Duplicate`] and [`Decision::SequenceReuse`].
    pub offset: Option<u64>,
    /// The only first sequence that would be appended; `None` where none would be, or any.
    pub expected_sequence: Option<i32>,
    /// The refusal, where it is one.
    pub rejection: Option<Rejection>,
    /// Highest epoch of the producer here; `None` when it is not known.
    pub epoch: Option<i16>,
    /// The batches that are recognised when they come again, oldest first.
    pub window: Vec<WindowEntry>,
}

impl ProducerTable {
    /// What a batch with this identity and `count` records (1 to 2^31 - 1) would be answered, not
    /// being part of a transaction. Where the window has a batch with just these sequences, it is
    /// taken to be that one again. Changes nothing.
    pub fn explain(&self, identity: ProducerIdentity, count: u32) -> Explanation {
        let known = self.get(identity.producer_id);
        let same = known
            .as_ref()
            .and_then(|view| batch_of(view, &identity, count));
        let header = header(&identity, count);
        let fingerprint = same.map_or(0, |batch| batch.fingerprint);
        let judged = self.admit(&header, fingerprint);
        let (decision, rule, offset) = match &judged {
            Ok(Admission::Unchecked) => (Decision::Append, "D0", None),
            Ok(Admission::Duplicate(original)) => {
                (Decision::Duplicate, "D2", Some(original.base_offset))
            }
            Ok(Admission::Fresh(fresh)) => (Decision::Append, row_of(fresh, &identity), None),
            Err(rejection) => refusal(rejection),
        };
        let expected_sequence = match &judged {
            Ok(Admission::Unchecked) => None,
            Ok(Admission::Fresh(fresh)) if fresh.accepted_unknown => None,
            Ok(Admission::Fresh(_)) | Err(Rejection::TransactionOpen { .. }) => {
                Some(identity.base_sequence)
            }
            Ok(Admission::Duplicate(_)) | Err(Rejection::SequenceReuse { .. }) => {
                known.as_ref().and_then(next_sequence)
            }
            Err(Rejection::OutOfOrder { expected, .. }) => Some(*expected),
            Err(Rejection::UnknownProducer { .. }) => Some(0),
            Err(_) => None,
        };
        Explanation {
            decision,
            rule,
            offset,
            expected_sequence,
            rejection: judged.err(),
            epoch: known.as_ref().map(|view| view.epoch),
            window: known.map(|view| view.window).unwrap_or_default(),
        }
    }
}

fn header(identity: &ProducerIdentity, count: u32) -> BatchHeader {
    let record_count = i32::try_from(count.max(1)).unwrap_or(i32::MAX);
    BatchHeader {
        base_offset: 0,
        batch_length: 0,
        leader_epoch: -1,
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: record_count - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: identity.producer_id,
        producer_epoch: identity.producer_epoch,
        base_sequence: identity.base_sequence,
        record_count,
    }
}

fn batch_of(view: &ProducerView, identity: &ProducerIdentity, count: u32) -> Option<WindowEntry> {
    let wanted = (identity.base_sequence, count.max(1));
    let is_wanted = |batch: &&WindowEntry| (batch.first_sequence, batch.count) == wanted;
    view.window.iter().find(is_wanted).copied()
}

fn next_sequence(view: &ProducerView) -> Option<i32> {
    let last = i64::from(view.window.last()?.last_sequence);
    i32::try_from((last + 1) & i64::from(i32::MAX)).ok()
}

fn row_of(fresh: &Fresh, identity: &ProducerIdentity) -> &'static str {
    match fresh.slot {
        None => "D6",
        Some(_) if fresh.judged.epoch < 0 => "D6",
        Some(_) if identity.producer_epoch > fresh.judged.epoch => "D7",
        Some(_) if fresh.judged.next.is_none() => "D9",
        Some(_) => "D11",
    }
}

fn refusal(rejection: &Rejection) -> (Decision, &'static str, Option<u64>) {
    match rejection {
        Rejection::OutOfOrder { kind, .. } => {
            let rule = match kind {
                OutOfOrderKind::Gap => "D12",
                OutOfOrderKind::Overlap => "D13",
                OutOfOrderKind::OlderThanWindow => "D14",
                OutOfOrderKind::EpochBump => "D8",
                OutOfOrderKind::EmptyWindow => "D10",
            };
            (Decision::OutOfOrder, rule, None)
        }
        Rejection::Fenced { .. } => (Decision::Fenced, "D4", None),
        Rejection::UnknownProducer { .. } => (Decision::Unknown, "D6", None),
        Rejection::Forgotten { .. } => (Decision::Forgotten, "I18", None),
        Rejection::SequenceReuse {
            original_offset, ..
        } => (Decision::SequenceReuse, "D2", Some(*original_offset)),
        Rejection::Identity { .. } => (Decision::Invalid, "D1", None),
        Rejection::TransactionOpen { .. } => (Decision::TransactionOpen, "D15", None),
    }
}
