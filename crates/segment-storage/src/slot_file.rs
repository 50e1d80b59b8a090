//! A file of pairs of slots, for numbers that are rewritten in place (R14, R18).
//!
//! ```text
//! pair 0: slot 0 (512 bytes) | slot 1 (512 bytes) | pair 1: slot 0 | slot 1 | ...
//! slot:   frame of (sequence number u64, value), padded with zeros
//! ```
//!
//! The newest value has the highest sequence number. Writes take the slot that does not hold the last
//! *synced* value, and change over when a sync has succeeded: whatever becomes of unsynced
//! writes, in a power cut or after a failed sync (R6), the last synced value stays. Both slots
//! damaged is corruption and never "no value". The file keeps its size: rewriting works on a
//! full disk (I13).

use std::fmt;
use std::io;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sync::Mutex;

use crate::codec::{self, CodecError};
use crate::disk::{Disk, DiskFile, join};
use crate::state_file;

/// Bytes of a slot: a sector, which a device writes whole or tears.
pub const SLOT_BYTES: usize = 512;

/// Layout of a slot.
const VERSION: u16 = 1;

const PAIR_BYTES: usize = 2 * SLOT_BYTES;

/// How many times a reader looks at a pair with an invalid slot: in another process it may see one
/// while it is being written.
const LOOKS: usize = 3;

/// Why a value cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// Neither slot holds a value: more than a crash can do.
    #[error(
        "{file} is damaged: both slots of pair {pair} are invalid; run `oncelog verify`, then `oncelog repair`"
    )]
    Damaged {
        /// The file.
        file: String,
        /// Which pair, from 0.
        pair: usize,
    },
    /// A slot is undamaged, but of another release.
    #[error("{file}, pair {pair}: {source}")]
    Codec {
        /// The file.
        file: String,
        /// Which pair, from 0.
        pair: usize,
        /// What is wrong in it.
        source: CodecError,
    },
    /// What the system says; `NotFound` when there is no file.
    #[error("{file} cannot be read: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Slot<T> {
    sequence: u64,
    value: T,
}

/// An open file of slot pairs. Each pair holds one type, which the caller knows.
pub struct SlotFile {
    file: Arc<dyn DiskFile>,
    /// For error texts.
    name: String,
    magic: [u8; 4],
    pairs: usize,
    /// Whether a pair of zeros was not written yet; in an opened file it is a damaged one.
    being_made: bool,
    /// Held during a write, so that writers do not take the same slot and readers see whole slots.
    writing: Mutex<Vec<Pair>>,
}

/// What is known of a pair beyond what the file shows.
#[derive(Debug, Clone, Default)]
struct Pair {
    /// The slot with the last synced value, never written; `None` before the first write.
    synced: Option<usize>,
    /// Writes so far.
    writes: u64,
    /// So many of the writes are synced, or lost by a sync that failed.
    settled: u64,
}

impl fmt::Debug for SlotFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SlotFile")
            .field("name", &self.name)
            .field("pairs", &self.pairs)
            .finish_non_exhaustive()
    }
}

impl SlotFile {
    /// Makes the file, or puts a new one in its place, durably and as a whole; `fill` writes the
    /// first value of each pair.
    ///
    /// # Errors
    /// What the disk says; `InvalidInput` when `fill` leaves out a pair.
    pub fn create(
        disk: &Arc<dyn Disk>,
        directory: &str,
        name: &str,
        magic: [u8; 4],
        pairs: usize,
        fill: impl FnOnce(&SlotFile) -> io::Result<()>,
    ) -> io::Result<SlotFile> {
        let display = disk.display(&join(directory, name));
        let over = |file: &Arc<dyn DiskFile>, being_made| SlotFile {
            file: Arc::clone(file),
            name: display.clone(),
            magic,
            pairs,
            being_made,
            writing: Mutex::new(vec![Pair::default(); pairs]),
        };
        let file = state_file::replace(&**disk, directory, name, |file| {
            file.write_at(&vec![0; pairs * PAIR_BYTES], &[], 0)?;
            let slots = over(file, true);
            fill(&slots)?;
            for pair in 0..pairs {
                if slots.newest(pair)?.is_none() {
                    return Err(refused("a pair of slots has no first value"));
                }
            }
            Ok(())
        })?;
        Ok(over(&file, false))
    }

    /// Opens a file of `pairs` pairs. Values are checked when they are read. Who is going to write
    /// calls [`SlotFile::settle`] first.
    ///
    /// # Errors
    /// [`SlotError::Io`]; [`SlotError::Damaged`] when the file is too short for its last pair.
    pub fn open(
        disk: &Arc<dyn Disk>,
        directory: &str,
        name: &str,
        magic: [u8; 4],
        pairs: usize,
    ) -> Result<SlotFile, SlotError> {
        let name = join(directory, name);
        let display = disk.display(&name);
        let file = match disk.open(&name) {
            Ok(file) => file,
            Err(source) => {
                return Err(SlotError::Io {
                    file: display,
                    source,
                });
            }
        };
        if file.len() < (pairs * PAIR_BYTES) as u64 {
            return Err(SlotError::Damaged {
                file: display,
                pair: pairs.saturating_sub(1),
            });
        }
        Ok(SlotFile {
            file,
            name: display,
            magic,
            pairs,
            being_made: false,
            writing: Mutex::new(vec![Pair::default(); pairs]),
        })
    }

    /// The newest value of a pair, read from the file: what another process wrote counts too.
    ///
    /// # Errors
    /// [`SlotError`].
    ///
    /// # Panics
    /// If the file has no such pair.
    pub fn read<T: DeserializeOwned>(&self, pair: usize) -> Result<T, SlotError> {
        let file = || self.name.clone();
        let mut newest: Option<Slot<T>> = None;
        for _ in 0..LOOKS {
            let slots = {
                let _whole = self.writing.lock();
                self.load(pair)
            };
            let slots = slots.map_err(|source| SlotError::Io {
                file: file(),
                source,
            })?;
            let mut valid = 0;
            for slot in slots.as_chunks::<SLOT_BYTES>().0 {
                match codec::decode_prefix::<Slot<T>>(self.magic, VERSION, slot) {
                    Ok(found) => {
                        valid += 1;
                        if newest
                            .as_ref()
                            .is_none_or(|newest| newest.sequence < found.sequence)
                        {
                            newest = Some(found);
                        }
                    }
                    // The CRC held, so this is no damage, and which slot is newer is not known.
                    Err(
                        source @ (CodecError::NewerVersion { .. }
                        | CodecError::OlderVersion { .. }
                        | CodecError::Body(_)),
                    ) => {
                        return Err(SlotError::Codec {
                            file: file(),
                            pair,
                            source,
                        });
                    }
                    Err(_damaged) => {}
                }
            }
            if valid == 2 {
                break;
            }
        }
        if let Some(newest) = newest {
            return Ok(newest.value);
        }
        Err(SlotError::Damaged {
            file: self.name.clone(),
            pair,
        })
    }

    /// The value that the last successful sync made durable, whatever was written since. A power cut
    /// leaves this one or a newer one, for a slot that is being written may be torn. In a file that
    /// was opened and [settled](SlotFile::settle), and not written since, that is the newest.
    ///
    /// # Errors
    /// [`SlotError`].
    ///
    /// # Panics
    /// If the file has no such pair.
    pub fn read_synced<T: DeserializeOwned>(&self, pair: usize) -> Result<T, SlotError> {
        let known = self.writing.lock();
        let Some(synced) = known[pair].synced else {
            drop(known);
            return self.read(pair);
        };
        let file = || self.name.clone();
        let slots = self.load(pair).map_err(|source| SlotError::Io {
            file: file(),
            source,
        })?;
        let slot = &slots.as_chunks::<SLOT_BYTES>().0[synced];
        codec::decode_prefix::<Slot<T>>(self.magic, VERSION, slot)
            .map(|slot| slot.value)
            .map_err(|source| SlotError::Codec {
                file: file(),
                pair,
                source,
            })
    }

    /// How many slots of a pair hold neither a value nor the zeros of a slot that was never written:
    /// torn by a crash, or damaged. Which value they held is not known. Nor is it where both have the
    /// same sequence number: no write leaves that, one is a copy of the other.
    ///
    /// # Errors
    /// [`SlotError::Io`].
    ///
    /// # Panics
    /// If the file has no such pair.
    pub fn damaged_slots(&self, pair: usize) -> Result<usize, SlotError> {
        let is_damaged = |slot: &[u8; SLOT_BYTES]| {
            slot.iter().any(|&byte| byte != 0) && sequence_of(self.magic, slot).is_none()
        };
        let mut fewest = 2;
        for _ in 0..LOOKS {
            let slots = {
                let _whole = self.writing.lock();
                self.load(pair)
            };
            let slots = slots.map_err(|source| SlotError::Io {
                file: self.name.clone(),
                source,
            })?;
            let slots = slots.as_chunks::<SLOT_BYTES>().0;
            let damaged = slots.iter().filter(|slot| is_damaged(slot)).count();
            fewest = fewest.min(damaged + usize::from(is_copied(self.magic, slots)));
            if fewest == 0 {
                break;
            }
        }
        Ok(fewest)
    }

    /// How many of a pair's two slots hold a value of their own: one before the second write, and
    /// after damage.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn valid_slots(&self, pair: usize) -> io::Result<usize> {
        let _whole = self.writing.lock();
        let slots = self.load(pair)?;
        let slots = slots.as_chunks::<SLOT_BYTES>().0;
        let valid = slots
            .iter()
            .filter_map(|slot| sequence_of(self.magic, slot));
        Ok(valid.count() - usize::from(is_copied(self.magic, slots)))
    }

    /// Writes a value, unsynced, into the slot that does not hold the last synced one.
    ///
    /// # Errors
    /// What the disk says; `InvalidInput` when the value does not fit into a slot; `InvalidData`
    /// when both slots are damaged (nothing may be built upon them).
    ///
    /// # Panics
    /// If the file has no such pair.
    pub fn write<T: Serialize>(&self, pair: usize, value: &T) -> io::Result<()> {
        let mut known = self.writing.lock();
        let (newest, last) = self.newest(pair)?.unzip();
        let next = last.unwrap_or(0).checked_add(1);
        let sequence = next.ok_or_else(|| damaged("no sequence number is left"))?;
        let synced = known[pair].synced.or(newest);
        let slot = synced.map_or(0, |synced| 1 - synced);
        let mut frame = codec::encode(self.magic, VERSION, &Slot { sequence, value });
        if frame.len() > SLOT_BYTES {
            return Err(refused("the value does not fit into a slot"));
        }
        frame.resize(SLOT_BYTES, 0);
        let position = pair * PAIR_BYTES + slot * SLOT_BYTES;
        known[pair].synced = synced;
        known[pair].writes += 1;
        self.file.write_at(&frame, &[], position as u64)
    }

    /// Makes all that was written durable.
    ///
    /// # Errors
    /// What the disk says. The values of the last sync that succeeded are still there then.
    pub fn sync(&self) -> io::Result<()> {
        let begun = self.writing.lock().clone();
        if let Err(error) = self.file.sync() {
            // What was written is perhaps in the page cache alone, and no later sync writes it: it does
            // not count until it is written again (R6).
            for known in self.writing.lock().iter_mut() {
                known.settled = known.writes;
            }
            return Err(error);
        }
        for (known, begun) in self.writing.lock().iter_mut().zip(begun) {
            // A slot written again during the sync may be torn: it is not the one to rely on.
            // Another sync that ran at the same time may have said so already.
            if known.writes == begun.writes && begun.writes > known.settled {
                known.synced = known.synced.map(|slot| 1 - slot);
                known.settled = begun.writes;
            }
        }
        Ok(())
    }

    /// Writes the newest value of a pair into the other slot, too, if the newest is synced and the
    /// other one holds something else: damage at rest takes one slot, and then nothing is lost. Needs
    /// no sync of its own; what becomes of it, the synced slot stays. So does a slot that is undamaged
    /// and yet holds no `T`, for nobody knows whether it is the older one.
    ///
    /// # Errors
    /// What the disk says, or that the pair cannot be read.
    ///
    /// # Panics
    /// If the file has no such pair.
    pub fn repeat<T: DeserializeOwned>(&self, pair: usize) -> io::Result<()> {
        self.read::<T>(pair).map_err(|error| match error {
            SlotError::Io { source, .. } => source,
            unreadable => io::Error::new(io::ErrorKind::InvalidData, unreadable),
        })?;
        let mut known = self.writing.lock();
        let slots = self.load(pair)?;
        let slots = slots.as_chunks::<SLOT_BYTES>().0;
        let Some((newest, sequence)) = self.newest(pair)? else {
            return Ok(());
        };
        if known[pair].writes > known[pair].settled
            || known[pair].synced.is_some_and(|synced| synced != newest)
        {
            return Ok(());
        }
        // Behind the sequence number.
        let value = |slot: usize| {
            let body = codec::open_prefix(self.magic, VERSION, &slots[slot]);
            body.ok().and_then(|body| body.get(size_of::<u64>()..))
        };
        if value(newest) == value(1 - newest) && !is_copied(self.magic, slots) {
            return Ok(());
        }
        let body = value(newest).unwrap_or_default();
        let next = sequence.checked_add(1);
        let sequence = next.ok_or_else(|| damaged("no sequence number is left"))?;
        let body = [&sequence.to_be_bytes(), body].concat();
        let mut frame = codec::frame(self.magic, VERSION, &body);
        frame.resize(SLOT_BYTES, 0);
        known[pair].synced = Some(newest);
        known[pair].writes += 1;
        let position = pair * PAIR_BYTES + (1 - newest) * SLOT_BYTES;
        self.file.write_at(&frame, &[], position as u64)
    }

    /// Syncs, then has the next read ask the device: what an earlier process wrote and could not
    /// sync may be in the page cache only (R7).
    ///
    /// # Errors
    /// What the disk says.
    pub fn settle(&self) -> io::Result<()> {
        self.file.drop_cache()
    }

    fn load(&self, pair: usize) -> io::Result<[u8; PAIR_BYTES]> {
        assert!(
            pair < self.pairs,
            "pair {pair} of {} in {}",
            self.pairs,
            self.name
        );
        let mut slots = [0; PAIR_BYTES];
        self.file.read_at(&mut slots, (pair * PAIR_BYTES) as u64)?;
        Ok(slots)
    }

    /// The slot with the highest sequence number, and that number; `None` in a pair that was never
    /// written. Read from the file each time, for there is nothing to remember that is not there.
    fn newest(&self, pair: usize) -> io::Result<Option<(usize, u64)>> {
        let slots = self.load(pair)?;
        let mut newest = None;
        for (slot, bytes) in slots.as_chunks::<SLOT_BYTES>().0.iter().enumerate() {
            match codec::open_prefix(self.magic, VERSION, bytes) {
                // Of two with one number the first, as `read` takes it.
                Ok(_) => {
                    let found = sequence_of(self.magic, bytes);
                    if found > newest.map(|(sequence, _)| sequence) {
                        newest = found.map(|sequence| (sequence, slot));
                    }
                }
                Err(CodecError::NewerVersion { .. } | CodecError::OlderVersion { .. }) => {
                    return Err(damaged("a slot is of another release"));
                }
                Err(_damaged) => {}
            }
        }
        match newest {
            Some((sequence, slot)) => Ok(Some((slot, sequence))),
            None if self.being_made && slots == [0; PAIR_BYTES] => Ok(None),
            None => Err(damaged("both slots are damaged")),
        }
    }
}

// The first field of a valid slot, as the codec stores it.
fn sequence_of(magic: [u8; 4], slot: &[u8]) -> Option<u64> {
    let body = codec::open_prefix(magic, VERSION, slot).ok()?;
    body.first_chunk::<8>()
        .map(|bytes| u64::from_be_bytes(*bytes))
}

// Whether both slots are valid and have the same sequence number.
fn is_copied(magic: [u8; 4], slots: &[[u8; SLOT_BYTES]]) -> bool {
    let sequences = |slot: &[u8; SLOT_BYTES]| sequence_of(magic, slot);
    match slots {
        [one, other] => sequences(one).is_some() && sequences(one) == sequences(other),
        _ => false,
    }
}

fn damaged(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn refused(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

#[cfg(test)]
mod tests;
