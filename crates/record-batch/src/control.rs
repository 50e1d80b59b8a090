//! Control batches: the markers that end transactions (KIP-98).

use crate::builder::{BatchBuilder, ProducerIdentity};
use crate::error::BatchError;
use crate::records::Record;

const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ControlKind {
    /// Its records are void.
    Abort,
    /// Its records count.
    Commit,
}

/// The content of an end-transaction marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlRecord {
    /// How the transaction ended.
    pub kind: ControlKind,
    /// Epoch of the coordinator that wrote the marker; those of older epochs are fenced.
    pub coordinator_epoch: i32,
}

/// The batch that ends a transaction of that producer: one record, no sequence, uncompressed, base
/// offset 0 and leader epoch -1. `timestamp_ms` is in milliseconds since 1970.
pub fn control_batch(
    producer_id: i64,
    producer_epoch: i16,
    marker: ControlRecord,
    timestamp_ms: i64,
) -> Vec<u8> {
    let kind = match marker.kind {
        ControlKind::Abort => ABORT,
        ControlKind::Commit => COMMIT,
    };
    // Both begin with their version, 0.
    let mut key = [0; 4];
    key[2..].copy_from_slice(&kind.to_be_bytes());
    let mut value = [0; 6];
    value[2..].copy_from_slice(&marker.coordinator_epoch.to_be_bytes());
    let mut builder = BatchBuilder::new().transactional(true).control();
    let identity = ProducerIdentity {
        producer_id,
        producer_epoch,
        base_sequence: -1,
    };
    let pushed = builder.push(timestamp_ms, Some(&key), Some(&value), &[]);
    let built = pushed.and_then(|()| builder.build(Some(identity)).map(<[u8]>::to_vec));
    #[expect(
        clippy::expect_used,
        reason = "one record of ten bytes is below every limit"
    )]
    built.expect("a marker always fits a batch")
}

/// Reads the record of a control batch. `None` is a type that ends no transaction (or one not known
/// here), which readers step over. Versions above 0 and bytes behind the known fields are accepted.
///
/// # Errors
/// [`BatchError::ControlRecord`] for a key below 4 bytes, the value of a marker below 6 bytes, or a
/// negative version.
pub fn parse_control(record: &Record) -> Result<Option<ControlRecord>, BatchError> {
    let error = |what| BatchError::ControlRecord { what };
    let key = record.key.as_deref().unwrap_or_default();
    let Some(([v0, v1, t0, t1], _)) = key.split_first_chunk() else {
        return Err(error("its key is shorter than 4 bytes"));
    };
    if i16::from_be_bytes([*v0, *v1]) < 0 {
        return Err(error("its key has a negative version"));
    }
    let kind = match i16::from_be_bytes([*t0, *t1]) {
        ABORT => ControlKind::Abort,
        COMMIT => ControlKind::Commit,
        _ => return Ok(None),
    };
    let value = record.value.as_deref().unwrap_or_default();
    let Some(([v0, v1, epoch @ ..], _)) = value.split_first_chunk::<6>() else {
        return Err(error("its value is shorter than 6 bytes"));
    };
    if i16::from_be_bytes([*v0, *v1]) < 0 {
        return Err(error("its value has a negative version"));
    }
    Ok(Some(ControlRecord {
        kind,
        coordinator_epoch: i32::from_be_bytes(*epoch),
    }))
}
