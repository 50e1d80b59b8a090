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

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

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
    /// Writes since that value was synced.
    writes: u64,
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
        self.file.sync()?;
        for (known, begun) in self.writing.lock().iter_mut().zip(begun) {
            // A slot written again during the sync may be torn: it is not the one to rely on.
            if begun.writes > 0 && known.writes == begun.writes {
                *known = Pair {
                    synced: known.synced.map(|slot| 1 - slot),
                    writes: 0,
                };
            }
        }
        Ok(())
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
                // The first field of a slot, as the codec stores it.
                Ok(body) => {
                    let sequence = body
                        .first_chunk::<8>()
                        .map(|bytes| u64::from_be_bytes(*bytes));
                    newest = newest.max(sequence.map(|sequence| (sequence, slot)));
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

fn damaged(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn refused(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::disk::memory::MemoryDisk;

    const MAGIC: [u8; 4] = *b"TEST";

    fn create(disk: &MemoryDisk) -> SlotFile {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        SlotFile::create(&shared, "", "slots", MAGIC, 2, |slots| {
            slots.write(0, &0_u64)?;
            slots.write(1, &"zero")
        })
        .unwrap()
    }

    fn open(disk: &MemoryDisk) -> Result<SlotFile, SlotError> {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        SlotFile::open(&shared, "", "slots", MAGIC, 2)
    }

    fn number(disk: &MemoryDisk) -> Result<u64, SlotError> {
        open(disk)?.read(0)
    }

    #[test]
    fn created_file_is_durable_and_whole() {
        let disk = MemoryDisk::new();
        create(&disk);
        let after = disk.after_power_cut();
        assert_eq!(after.read_file("slots").unwrap().len(), 2048);
        assert_eq!(number(&after).unwrap(), 0);
        assert_eq!(open(&after).unwrap().read::<String>(1).unwrap(), "zero");
        assert_eq!(after.list("").unwrap().len(), 1);
    }

    #[test]
    fn create_without_a_value_for_each_pair_is_refused() {
        let disk = MemoryDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let made = SlotFile::create(&shared, "", "slots", MAGIC, 2, |slots| {
            slots.write(0, &0_u64)
        });
        assert_eq!(made.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(disk.list("").unwrap(), []);
    }

    #[test]
    fn newest_value_is_read_and_survives_after_sync() {
        let disk = MemoryDisk::new();
        let slots = create(&disk);
        for value in 1..=7_u64 {
            slots.write(0, &value).unwrap();
            assert_eq!(slots.read::<u64>(0).unwrap(), value);
            assert_eq!(number(&disk.after_kill()).unwrap(), value);
            assert_eq!(number(&disk.after_power_cut()).unwrap(), 0);
        }
        slots.sync().unwrap();
        assert_eq!(number(&disk.after_power_cut()).unwrap(), 7);
        assert_eq!(slots.read::<String>(1).unwrap(), "zero");
    }

    /// Two handles: the second goes on after what the first wrote, and the other way round.
    #[test]
    fn nothing_is_remembered_that_is_not_in_the_file() {
        let disk = MemoryDisk::new();
        let first = create(&disk);
        let second = open(&disk).unwrap();
        for value in 1..6_u64 {
            let (writer, reader) = if value % 2 == 0 {
                (&first, &second)
            } else {
                (&second, &first)
            };
            writer.write(0, &value).unwrap();
            assert_eq!(reader.read::<u64>(0).unwrap(), value);
        }
    }

    /// Every byte of the slot that is being written, torn or flipped: the value before it is there.
    #[test]
    fn torn_slot_leaves_the_value_before() {
        let disk = MemoryDisk::new();
        let slots = create(&disk);
        slots.write(0, &1_u64).unwrap();
        slots.sync().unwrap();
        let before = disk.read_file("slots").unwrap();
        slots.write(0, &2_u64).unwrap();
        let after = disk.read_file("slots").unwrap();
        let changed: Vec<usize> = (0..before.len())
            .filter(|at| before[*at] != after[*at])
            .collect();
        assert!(changed.last().unwrap() - changed[0] < SLOT_BYTES);
        for torn_at in changed[0]..=*changed.last().unwrap() {
            let mut torn = after.clone();
            torn[torn_at..].copy_from_slice(&before[torn_at..]);
            let disk = MemoryDisk::new();
            disk.write_file("slots", &torn).unwrap();
            assert_eq!(number(&disk).unwrap(), 1, "torn at {torn_at}");
            disk.write_file("slots", &after).unwrap();
            disk.corrupt("slots", torn_at as u64, 0x10).unwrap();
            assert_eq!(number(&disk).unwrap(), 1, "flipped at {torn_at}");
            // The next write takes the damaged slot and not the good one.
            open(&disk).unwrap().write(0, &3_u64).unwrap();
            assert_eq!(number(&disk).unwrap(), 3);
            assert_eq!(
                disk.read_file("slots").unwrap()[512..1024],
                after[512..1024]
            );
        }
    }

    /// After a failed sync the page cache shows a value that the device does not have. The write
    /// after it may be torn; the last synced value must survive both.
    #[test]
    fn last_synced_value_survives_a_failed_sync_and_a_torn_write() {
        let disk = MemoryDisk::new();
        let slots = create(&disk);
        slots.write(0, &1_u64).unwrap();
        slots.sync().unwrap();
        slots.write(0, &2_u64).unwrap();
        disk.fail_syncs(1);
        slots.sync().unwrap_err();
        let before = disk.read_file("slots").unwrap();
        slots.write(0, &3_u64).unwrap();
        assert_eq!(slots.read::<u64>(0).unwrap(), 3);

        let live = disk.read_file("slots").unwrap();
        let changed: Vec<usize> = (0..1024).filter(|at| live[*at] != before[*at]).collect();
        for torn_at in 1..changed.len() {
            let after = disk.after_power_cut();
            let mut torn = after.read_file("slots").unwrap();
            changed[..torn_at]
                .iter()
                .for_each(|at| torn[*at] = live[*at]);
            after.write_file("slots", &torn).unwrap();
            assert_eq!(number(&after).unwrap(), 1, "torn after {torn_at} bytes");
        }
        slots.sync().unwrap();
        assert_eq!(number(&disk.after_power_cut()).unwrap(), 3);
    }

    #[test]
    fn slot_written_again_during_a_sync_is_not_relied_on() {
        let disk = MemoryDisk::new();
        let slots = create(&disk);
        slots.write(0, &1_u64).unwrap();
        let gate = disk.hold_syncs();
        std::thread::scope(|scope| {
            let sync = scope.spawn(|| slots.sync());
            gate.wait_until_syncs_wait(1);
            slots.write(0, &2_u64).unwrap();
            drop(gate);
            sync.join().unwrap().unwrap();
        });
        let first = disk.read_file("slots").unwrap()[..512].to_vec();
        slots.write(0, &3_u64).unwrap();
        assert_eq!(
            disk.read_file("slots").unwrap()[..512],
            first,
            "value 0 is the synced one"
        );
        assert_eq!(slots.read::<u64>(0).unwrap(), 3);
    }

    #[test]
    fn settled_file_shows_what_the_device_has() {
        let disk = MemoryDisk::new();
        let slots = create(&disk);
        slots.write(0, &1_u64).unwrap();
        disk.fail_syncs(1);
        slots.sync().unwrap_err();
        let disk = disk.after_kill();
        let slots = open(&disk).unwrap();
        assert_eq!(slots.read::<u64>(0).unwrap(), 1);
        slots.settle().unwrap();
        assert_eq!(slots.read::<u64>(0).unwrap(), 0);
    }

    #[test]
    fn both_slots_damaged_is_an_error_and_nothing_is_written_over_them() {
        let disk = MemoryDisk::new();
        let slots = create(&disk);
        slots.write(0, &1_u64).unwrap();
        for slot in 0..2 {
            disk.corrupt("slots", slot * 512 + 20, 1).unwrap();
        }
        let error = number(&disk).unwrap_err();
        assert!(
            matches!(error, SlotError::Damaged { pair: 0, .. }),
            "{error}"
        );
        assert!(
            error.to_string().starts_with("memory:slots is damaged"),
            "{error}"
        );
        assert_eq!(
            slots.write(0, &2_u64).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(slots.read::<String>(1).unwrap(), "zero");

        disk.write_file("slots", &[0; 2048]).unwrap();
        assert!(matches!(
            number(&disk),
            Err(SlotError::Damaged { pair: 0, .. })
        ));
        let zeros = open(&disk).unwrap().write(0, &2_u64).unwrap_err();
        assert_eq!(zeros.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn short_or_missing_file_is_an_error() {
        let disk = MemoryDisk::new();
        assert!(matches!(open(&disk), Err(SlotError::Io { .. })));
        disk.write_file("slots", &[0; 2047]).unwrap();
        assert!(matches!(
            open(&disk),
            Err(SlotError::Damaged { pair: 1, .. })
        ));
    }

    #[test]
    fn value_too_large_for_a_slot_is_refused() {
        let disk = MemoryDisk::new();
        let slots = create(&disk);
        let fits = "x".repeat(512 - codec::OVERHEAD - 8 - 8);
        slots.write(1, &fits).unwrap();
        assert_eq!(slots.read::<String>(1).unwrap(), fits);
        let larger = format!("{fits}x");
        assert_eq!(
            slots.write(1, &larger).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert_eq!(slots.read::<String>(1).unwrap(), fits);
    }

    #[test]
    fn other_type_is_an_error_and_not_damage() {
        let disk = MemoryDisk::new();
        let slots = create(&disk);
        assert!(matches!(
            slots.read::<u16>(0),
            Err(SlotError::Codec { pair: 0, .. })
        ));
    }

    #[test]
    fn full_disk_does_not_matter() {
        let disk = MemoryDisk::new();
        let slots = create(&disk);
        disk.set_free_bytes(0);
        slots.write(0, &5_u64).unwrap();
        slots.sync().unwrap();
        assert_eq!(number(&disk.after_power_cut()).unwrap(), 5);
    }

    #[test]
    fn readers_and_writers_side_by_side_see_whole_rising_values() {
        let disk = MemoryDisk::new();
        let slots = create(&disk);
        std::thread::scope(|scope| {
            scope.spawn(|| (1..500_u64).for_each(|value| slots.write(0, &value).unwrap()));
            scope.spawn(|| (0..100).for_each(|_| slots.write(1, &"more").unwrap()));
            let mut last = 0;
            while last < 499 {
                let value = slots.read::<u64>(0).unwrap();
                assert!(value >= last);
                last = value;
            }
        });
    }

    proptest! {
        /// Writes, syncs, failed syncs and power cuts in any order: what is read after a power cut is
        /// never older than the last synced value, and never one that was not written.
        #[test]
        fn power_cut_never_goes_back_before_the_last_sync(steps in proptest::collection::vec(0..5, 1..60)) {
            let mut disk = MemoryDisk::new();
            let mut slots = create(&disk);
            let (mut written, mut synced) = (0_u64, 0_u64);
            for step in steps {
                match step {
                    0..=1 => {
                        written += 1;
                        slots.write(0, &written).unwrap();
                    }
                    2 => {
                        slots.sync().unwrap();
                        synced = slots.read(0).unwrap();
                    }
                    3 => {
                        disk.fail_syncs(1);
                        slots.sync().unwrap_err();
                        // What was lost is still visible: it only counts when written again.
                        written += 1;
                        slots.write(0, &written).unwrap();
                        slots.sync().unwrap();
                        synced = written;
                    }
                    _ => {
                        disk = disk.after_power_cut();
                        slots = open(&disk).unwrap();
                        let found: u64 = slots.read(0).unwrap();
                        prop_assert!(synced <= found && found <= written);
                    }
                }
            }
        }
    }
}
