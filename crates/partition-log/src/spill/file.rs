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
                let len = match self.frame_bytes(&bytes[at..]) {
                    // Cut by the end of what was read: from its beginning again.
                    Err(_) if at > 0 && bytes.len() - at < HEAD => break,
                    len => len?,
                };
                let Some(frame) = bytes.get(at..at + len) else {
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
