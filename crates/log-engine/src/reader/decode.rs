//! Takes batches apart into records.

use bytes::Bytes;
use record_batch::{Batch, BatchHeader, Record, Records, SOURCE_HEADER, SourcePosition};

/// Takes the first batch off a run. On failure the batch is taken off all the same, and its last
/// offset returned.
pub(crate) fn decode_first(
    rest: &mut Bytes,
    mut each: impl FnMut(&BatchHeader, Option<u64>, Record),
) -> Result<(), (u64, record_batch::BatchError)> {
    // The storage has checked every batch of the run, so a header that does not parse ends it.
    let header = match BatchHeader::read(rest) {
        Ok(header) => header,
        Err(error) => {
            rest.clear();
            return Err((0, error));
        }
    };
    let batch = rest.split_to(header.size().min(rest.len()));
    let last_offset = u64::try_from(header.last_offset()).unwrap_or(0);
    if header.attributes.is_control() {
        return Ok(());
    }
    debug_assert!(
        Batch::parse(&batch).is_ok(),
        "I21: checked when it was read"
    );
    let mut source = None;
    for record in Records::of(&batch).map_err(|e| (last_offset, e))? {
        let mut record = record.map_err(|e| (last_offset, e))?;
        if header.attributes.has_source() && source.is_none() {
            source = take_source(&mut record);
        }
        each(&header, source, record);
    }
    Ok(())
}

// The header that carries it is the log's, not the record's.
fn take_source(record: &mut Record) -> Option<u64> {
    let header = record
        .headers
        .pop_if(|header| header.key.as_str() == SOURCE_HEADER)?;
    Some(SourcePosition::decode(&header.value?)?.last)
}
