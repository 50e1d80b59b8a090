//! The file of producers that are not in memory: frames, back to back, each one producer.

use std::io;
use std::sync::Arc;

use segment_storage::{DiskFile, codec};

use crate::producers::ProducerView;
use crate::snapshot::Producer;
use crate::spill::index::Location;

/// Magic of each frame.
pub(crate) const MAGIC: [u8; 4] = *b"OLEP";
/// Version of each frame.
pub(crate) const VERSION: u16 = 1;

/// Bytes at the beginning of a frame that tell its length.
const HEAD: usize = 10;
/// Bytes that are read at once where many producers are.
const CHUNK: usize = 1 << 20;

/// An open file, of which `from..end` may be read.
#[derive(Clone)]
pub(crate) struct SpillFile {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) from: u64,
    pub(crate) end: u64,
    /// Longest frame there can be, in bytes: what a damaged length must not exceed.
    pub(crate) frame_bytes_max: usize,
}

/// Longest frame of a producer that has at most `window` batches.
pub(crate) fn frame_bytes_max(window: u32) -> usize {
    let window = usize::try_from(window).unwrap_or(usize::MAX);
    window.saturating_mul(20).saturating_add(128)
}

/// Appends a producer's frame, padded to where the next one may begin.
pub(crate) fn encode(view: ProducerView, into: &mut Vec<u8>) {
    into.extend(codec::encode(MAGIC, VERSION, &Producer::from(view)));
    into.resize(padded(into.len()), 0);
}

/// The next multiple of [`Location::STEP`].
fn padded(bytes: usize) -> usize {
    const { assert!(Location::STEP == 16) };
    bytes.next_multiple_of(16)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl SpillFile {
    /// The producer at a position.
    ///
    /// # Errors
    /// `InvalidData` when that one is not there, whole; what the disk says.
    pub(crate) fn read(&self, position: u64, producer_id: i64) -> io::Result<ProducerView> {
        let left = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
        // A window of five fits.
        let mut bytes = vec![0; left.min(192)];
        self.file.read_at(&mut bytes, position)?;
        let len = self.frame_bytes(&bytes)?;
        if len > left {
            return Err(invalid("the file ends within a producer"));
        }
        let read = bytes.len();
        bytes.resize(len, 0);
        if len > read {
            let rest = position + u64::try_from(read).unwrap_or(0);
            self.file.read_at(&mut bytes[read..], rest)?;
        }
        let view = decode(&bytes)?;
        if view.producer_id == producer_id {
            Ok(view)
        } else {
            Err(invalid("another producer is there"))
        }
    }

    /// All producers whose frames begin in a range that a frame begins and another ends, each with
    /// its position.
    ///
    /// # Errors
    /// `InvalidData` when one of them is damaged; what the disk says.
    pub(crate) fn scan(
        &self,
        from: u64,
        to: u64,
        mut found: impl FnMut(u64, ProducerView),
    ) -> io::Result<()> {
        let mut position = from;
        let mut bytes = Vec::new();
        while position < to {
            let left = usize::try_from(to - position).unwrap_or(usize::MAX);
            bytes.resize(left.min(CHUNK.max(padded(self.frame_bytes_max))), 0);
            self.file.read_at(&mut bytes, position)?;
            let mut at = 0;
            while at < bytes.len() {
                // Frames and what is read are multiples of 16 bytes long, so a length is there whole.
                let len = self.frame_bytes(&bytes[at..])?;
                let Some(frame) = bytes.get(at..at + len) else {
                    // Cut by the end of what was read: from its beginning again.
                    break;
                };
                found(position + u64::try_from(at).unwrap_or(0), decode(frame)?);
                at += padded(len);
            }
            if at == 0 {
                return Err(invalid("the file ends within a producer"));
            }
            position += u64::try_from(at).unwrap_or(0);
        }
        Ok(())
    }

    // The length of the frame that begins here.
    fn frame_bytes(&self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.get(HEAD - 4..HEAD).and_then(|l| l.try_into().ok());
        let length = length.map(u32::from_be_bytes);
        let length = length.and_then(|l| usize::try_from(l).ok());
        match length.map(|length| length.saturating_add(codec::OVERHEAD)) {
            Some(length) if length <= self.frame_bytes_max => Ok(length),
            Some(length) => Err(invalid(format!("a producer of {length} bytes"))),
            None => Err(invalid("the file ends within a producer")),
        }
    }
}

fn decode(frame: &[u8]) -> io::Result<ProducerView> {
    let producer: Producer = codec::decode(MAGIC, VERSION, frame).map_err(invalid)?;
    Ok(producer.into())
}

#[cfg(test)]
mod tests {
    use segment_storage::{Disk, MemoryDisk};

    use super::*;
    use crate::producers::WindowEntry;

    fn view(producer_id: i64, batches: i32) -> ProducerView {
        let batch = |n: i32| WindowEntry {
            first_sequence: n,
            last_sequence: n,
            base_offset: 7 + u64::from(n.unsigned_abs()),
            count: 1,
            fingerprint: n.cast_unsigned(),
        };
        ProducerView {
            producer_id,
            epoch: 3,
            window: (0..batches).map(batch).collect(),
            last_append_ms: 11,
            coordinator_epoch: -1,
            open_transaction_offset: None,
        }
    }

    fn file(views: &[ProducerView], window: u32) -> (MemoryDisk, SpillFile, Vec<u64>) {
        let disk = MemoryDisk::new();
        let file = disk.create("evicted", 0).unwrap();
        let (mut bytes, mut positions) = (Vec::new(), Vec::new());
        for view in views {
            positions.push(u64::try_from(bytes.len()).unwrap());
            encode(view.clone(), &mut bytes);
        }
        file.write_at(&bytes, &[], 0).unwrap();
        let file = SpillFile {
            file,
            from: 0,
            end: u64::try_from(bytes.len()).unwrap(),
            frame_bytes_max: frame_bytes_max(window),
        };
        (disk, file, positions)
    }

    #[test]
    fn producers_come_back_one_by_one_and_all_together() {
        for (window, producers) in [(5, 12_000), (1_000, 160), (65_536, 4)] {
            // Of every length up to the longest, over several chunks.
            let longest = i32::try_from(window).unwrap();
            let views: Vec<_> = (0..producers)
                .map(|n| view(n, longest - i32::try_from(n).unwrap() % longest.min(7)))
                .collect();
            let (_disk, file, positions) = file(&views, window);
            assert!(file.end > 1 << 20, "{window}: {} bytes", file.end);
            for (view, &position) in views.iter().zip(&positions).step_by(37) {
                assert_eq!(&file.read(position, view.producer_id).unwrap(), view);
                assert!(file.read(position, view.producer_id + 1).is_err());
                assert!(file.read(position + 16, view.producer_id).is_err());
            }
            let mut found = Vec::new();
            file.scan(0, file.end, |at, view| found.push((at, view)))
                .unwrap();
            let expected: Vec<_> = positions.iter().copied().zip(views).collect();
            assert!(found == expected, "window {window}");
        }
    }

    #[test]
    fn a_length_that_is_damaged_asks_for_no_memory() {
        let (disk, file, _) = file(&[view(0, 1), view(1, 1)], 5);
        for byte in 6..10 {
            disk.corrupt("evicted", byte, 0xff).unwrap();
            for error in [
                file.read(0, 0).unwrap_err(),
                file.scan(0, file.end, |_, _| {}).unwrap_err(),
            ] {
                // Refused for its length alone, where that is longer than can be.
                let is_refused = error.to_string().starts_with("a producer of ");
                assert!(is_refused || byte == 9, "byte {byte}: {error}");
            }
            disk.corrupt("evicted", byte, 0xff).unwrap();
        }
        assert!(file.read(0, 0).is_ok());
    }
}
