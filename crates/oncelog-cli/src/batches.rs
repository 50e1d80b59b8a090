//! From what a reader gives, whole batches, to records.

use oncelog::{BatchError, BatchHeader, Batches, Records};

/// The batches of a run that hold records of producers, one by one, with their records.
pub(crate) fn of(
    run: &Batches,
) -> impl Iterator<Item = Result<(BatchHeader, Records), BatchError>> + use<> {
    let mut rest = run.bytes.clone();
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let header = match BatchHeader::read(&rest) {
                Ok(header) => header,
                Err(error) => {
                    rest.clear();
                    return Some(Err(error));
                }
            };
            let batch = rest.split_to(header.size().min(rest.len()));
            if !header.attributes.is_control() {
                return Some(Records::of(&batch).map(|records| (header, records)));
            }
        }
        None
    })
}

/// An offset of a record in the log, which is never negative.
pub(crate) fn offset(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or(0)
}
