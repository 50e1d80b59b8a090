//! Reading a log's records one after the other, on this thread, to its present end.

use std::sync::Arc;

use segment_storage::Cursor;

use crate::consumed_record::ConsumedRecord;
use crate::error::ReadError;
use crate::partition::{PartitionState, Source};
use crate::reader::decode_first;

/// Bytes of batches that are read at once.
const STEP_BYTES: usize = 1 << 20;

/// Calls `each` for every record from offset `from` to the high watermark, and returns where the
/// next call goes on.
///
/// # Errors
/// [`ReadError`], or what `each` says.
pub(super) fn each<E: From<ReadError>>(
    state: &Arc<PartitionState>,
    from: u64,
    mut each: impl FnMut(ConsumedRecord) -> Result<(), E>,
) -> Result<u64, E> {
    match &state.source {
        Source::Damaged(corruption) => return Err(ReadError::Damaged(corruption.clone()).into()),
        Source::Follower(follower) => follower
            .refresh()
            .map_err(|e| ReadError::Open(Arc::new(partition_log::OpenError::from(e))))?,
        Source::Writer(_) => {}
    }
    let least = from.max(state.reader.log_start_offset());
    let mut cursor = Cursor::at(least);
    loop {
        let end = state.reader.high_watermark();
        let run = state.reader.read(&mut cursor, STEP_BYTES);
        let Some(run) = run.map_err(ReadError::from)? else {
            // Between the cursor and the end there may be a gap that a crash left (I9).
            return Ok(cursor.offset.max(end).max(least));
        };
        let mut rest = run.bytes;
        while !rest.is_empty() {
            let mut records = Vec::new();
            let decoded = decode_first(&mut rest, |header, source, record| {
                let record =
                    ConsumedRecord::new(&state.topic, state.index, (header, source), record);
                records.push(record);
            });
            decoded.map_err(|(offset, source)| ReadError::Malformed {
                topic: state.topic.clone(),
                partition: state.index,
                offset,
                source,
            })?;
            for record in records.into_iter().filter(|r| r.offset() >= least) {
                each(record)?;
            }
        }
    }
}
