//! Record batches as the model reads them: its own few lines, for the engine's reader may be wrong.

/// What matters of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenBatch {
    pub(crate) base_offset: u64,
    pub(crate) count: u32,
    /// Producer id, epoch, first sequence; an id of -1 is none.
    pub(crate) identity: (i64, i16, i32),
    /// Of all that the producer made.
    pub(crate) hash: u64,
    /// What the values of its records begin with.
    pub(crate) contents: Vec<u64>,
}

impl SeenBatch {
    /// One uncompressed batch, and what follows it. `None` for bytes that are none.
    pub(crate) fn read(bytes: &[u8]) -> Option<(SeenBatch, &[u8])> {
        let length = usize::try_from(i32::from_be_bytes(array(bytes, 8)?)).ok()?;
        let (batch, rest) = bytes.split_at_checked(length + 12)?;
        let last_delta = u32::try_from(i32::from_be_bytes(array(batch, 23)?)).ok()?;
        let made = batch.get(21..)?;
        let seen = SeenBatch {
            base_offset: u64::from_be_bytes(array(batch, 0)?),
            count: last_delta + 1,
            identity: (
                i64::from_be_bytes(array(batch, 43)?),
                i16::from_be_bytes(array(batch, 51)?),
                i32::from_be_bytes(array(batch, 53)?),
            ),
            hash: hash(made),
            contents: contents(batch.get(61..)?)?,
        };
        Some((seen, rest))
    }
}

/// FNV-1a.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The value of a record: its content, and something that depends on it up to a length.
pub(crate) fn value(content: u64, bytes: u64) -> Vec<u8> {
    let mut value = content.to_be_bytes().to_vec();
    let filler = content.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let end = usize::try_from(bytes).unwrap_or(8).max(8);
    value.extend(filler.iter().cycle().take(end - 8));
    value
}

/// The content of a value, if the value is what it says.
pub(crate) fn content(found: &[u8]) -> Option<u64> {
    let content = u64::from_be_bytes(array(found, 0)?);
    (value(content, found.len() as u64) == found).then_some(content)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn contents(mut bytes: &[u8]) -> Option<Vec<u64>> {
    let mut contents = Vec::new();
    while !bytes.is_empty() {
        let length = usize::try_from(varint(&mut bytes)?).ok()?;
        let (mut record, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        // Attributes, timestamp and offset.
        record = record.get(1..)?;
        varint(&mut record)?;
        varint(&mut record)?;
        if let Ok(key) = usize::try_from(varint(&mut record)?) {
            record = record.get(key..)?;
        }
        let value = usize::try_from(varint(&mut record)?).ok()?;
        contents.push(content(record.get(..value)?)?);
    }
    Some(contents)
}

// Zig-zag, base 128, least significant group first.
fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            let sign = if value & 1 == 1 { -1 } else { 0 };
            return Some((value >> 1).cast_signed() ^ sign);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use oncelog::{BatchBuilder, ProducerIdentity};

    use super::*;

    #[test]
    fn what_the_engine_builds_is_read_the_same() {
        let mut builder = BatchBuilder::new();
        for (n, key) in [(5_u64, Some(&b"key"[..])), (6, None), (1 << 40, Some(b""))] {
            let value = value(n, 300 * n.min(2));
            builder
                .push(7_000 + n.cast_signed(), key, Some(&value), &[])
                .unwrap();
        }
        let identity = ProducerIdentity {
            producer_id: 9,
            producer_epoch: 2,
            base_sequence: 77,
        };
        let mut bytes = builder.build(Some(identity)).unwrap().to_vec();
        let end = bytes.len();
        bytes.extend(b"more");
        let (seen, rest) = SeenBatch::read(&bytes).unwrap();
        assert_eq!(rest, b"more");
        assert_eq!((seen.base_offset, seen.count), (0, 3));
        assert_eq!(seen.identity, (9, 2, 77));
        assert_eq!(seen.contents, [5, 6, 1 << 40]);
        assert_eq!(seen.hash, hash(&bytes[21..end]));
        // A value that is not what it should be is no content.
        bytes[end - 2] ^= 1;
        assert_eq!(SeenBatch::read(&bytes), None);
    }
}
