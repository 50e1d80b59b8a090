//! Kafka's own producer snapshots (`ProducerSnapshot.json`, version 1), so that a partition folder
//! taken over from Kafka keeps its producers.

use record_batch::crc32c;
use segment_storage::Place;

use crate::producers::{ProducerView, WindowEntry};
use crate::snapshot::NOT_KNOWN;

const ENTRY_BYTES: usize = 46;
const ENTRIES: usize = 10;

/// The producers in the file, or `None` when it is not a whole snapshot of that version. Each has
/// at most its newest batch, and no content to compare a repeat with: Kafka stores none.
pub(super) fn read(place: &Place, path: &str) -> Option<Vec<ProducerView>> {
    let file = place.disk.open(path).ok()?;
    let mut bytes = vec![0; usize::try_from(file.len()).ok()?];
    file.read_at(&mut bytes, 0).ok()?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Option<Vec<ProducerView>> {
    let version = i16::from_be_bytes(bytes.get(0..2)?.try_into().ok()?);
    let crc = u32::from_be_bytes(bytes.get(2..6)?.try_into().ok()?);
    if version != 1 || crc32c(bytes.get(6..)?) != crc {
        return None;
    }
    let count =
        usize::try_from(i32::from_be_bytes(bytes.get(6..ENTRIES)?.try_into().ok()?)).ok()?;
    let entries = bytes.get(ENTRIES..)?;
    if entries.len() != count.checked_mul(ENTRY_BYTES)? {
        return None;
    }
    entries.chunks_exact(ENTRY_BYTES).map(entry).collect()
}

fn entry(bytes: &[u8]) -> Option<ProducerView> {
    let i64_at = |at: usize| Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let i32_at = |at: usize| Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let last_sequence = i32_at(10)?;
    let (last_offset, delta) = (i64_at(14)?, i32_at(22)?);
    let mut window = Vec::new();
    if last_sequence >= 0 && delta >= 0 {
        let first = (i64::from(last_sequence) - i64::from(delta)) & i64::from(i32::MAX);
        window.push(WindowEntry {
            first_sequence: i32::try_from(first).ok()?,
            last_sequence,
            base_offset: u64::try_from(last_offset.checked_sub(i64::from(delta))?).ok()?,
            count: u32::try_from(delta).ok()?.checked_add(1)?,
            fingerprint: 0,
        });
    }
    Some(ProducerView {
        producer_id: i64_at(0)?,
        epoch: i16::from_be_bytes(bytes.get(8..10)?.try_into().ok()?),
        window,
        last_append_ms: NOT_KNOWN,
        coordinator_epoch: i32_at(34)?,
        open_transaction_offset: u64::try_from(i64_at(38)?).ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(entries: &[[u8; ENTRY_BYTES]]) -> Vec<u8> {
        let mut body = i32::try_from(entries.len()).unwrap().to_be_bytes().to_vec();
        body.extend(entries.concat());
        let mut file = 1i16.to_be_bytes().to_vec();
        file.extend(crc32c(&body).to_be_bytes());
        file.extend(body);
        file
    }

    fn one() -> [u8; ENTRY_BYTES] {
        let mut entry = Vec::new();
        entry.extend(7i64.to_be_bytes());
        entry.extend(2i16.to_be_bytes());
        entry.extend(1i32.to_be_bytes());
        entry.extend(41i64.to_be_bytes());
        entry.extend(4i32.to_be_bytes());
        entry.extend(1_000i64.to_be_bytes());
        entry.extend(3i32.to_be_bytes());
        entry.extend((-1i64).to_be_bytes());
        entry.try_into().unwrap()
    }

    #[test]
    fn one_batch_entries_load_across_the_wrap() {
        let views = parse(&file(&[one()])).unwrap();
        assert_eq!(views.len(), 1);
        assert_eq!(
            (
                views[0].producer_id,
                views[0].epoch,
                views[0].coordinator_epoch
            ),
            (7, 2, 3)
        );
        let batch = views[0].window[0];
        assert_eq!(
            (batch.first_sequence, batch.last_sequence),
            (i32::MAX - 2, 1)
        );
        assert_eq!((batch.base_offset, batch.count), (37, 5));
        assert_eq!(views[0].open_transaction_offset, None);
    }

    // As Kafka writes a producer whose batches are all gone, or that has only sent a marker.
    #[test]
    fn entry_without_a_batch_has_an_empty_window() {
        let mut entry = one();
        entry[10..14].copy_from_slice(&(-1i32).to_be_bytes());
        entry[14..22].copy_from_slice(&(-1i64).to_be_bytes());
        entry[22..26].copy_from_slice(&0i32.to_be_bytes());
        let views = parse(&file(&[entry])).unwrap();
        assert_eq!((views[0].producer_id, views[0].window.len()), (7, 0));
    }

    #[test]
    fn damage_at_any_byte_is_noticed() {
        let good = file(&[one(), one()]);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(parse(&bad), None, "byte {at}");
            assert_eq!(parse(&good[..at]), None, "cut at {at}");
        }
    }
}
