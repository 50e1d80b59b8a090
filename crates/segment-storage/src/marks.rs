//! The log's durable numbers, in one file of slot pairs: stable mark, offset ceiling, log start.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sync::Mutex;

use crate::codec;
use crate::disk::Disk;
use crate::slot_file::{SLOT_BYTES, SlotError, SlotFile};

/// Name of the file inside of a log's directory.
pub const FILE: &str = "marks";
/// Magic of its slots.
pub const MAGIC: [u8; 4] = *b"OLMK";

const MARK: usize = 0;
const CEILING: usize = 1;
const START: usize = 2;

/// A lower bound of what is durable. Damage below it can never be explained by a crash (I24).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StableMark {
    /// The log that the file belongs to; another one's file is refused (I26).
    pub log_id: u128,
    /// Base offset of the segment that the mark is in; 0 in an empty log.
    #[serde(deserialize_with = "codec::number")]
    pub segment_base: u64,
    /// Bytes of that segment below the mark.
    #[serde(deserialize_with = "codec::number")]
    pub position: u64,
    /// The offset after the last durable one.
    #[serde(deserialize_with = "codec::number")]
    pub next_offset: u64,
    /// Where the segment before this one ended, so that a missing file shows.
    #[serde(deserialize_with = "codec::number")]
    pub previous_end: u64,
    /// First offset of the segment after this one where that is not `next_offset`, because the
    /// log was opened with a jump to its offset ceiling; else 0 (I9, R10).
    #[serde(deserialize_with = "codec::number")]
    pub jump_to: u64,
    /// Generation that wrote the mark.
    pub generation: i32,
    /// Whether the log was closed cleanly right there. Cleared before the first append after it.
    pub clean: bool,
    /// The engine's elapsed time at the last append to that segment, in ms, or a little later; 0 in
    /// an empty log.
    #[serde(deserialize_with = "codec::number")]
    pub last_append_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Ceiling {
    log_id: u128,
    #[serde(deserialize_with = "codec::number")]
    offset: u64,
}

/// Where the log begins, and what is known of producers whose history was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStart {
    /// The log that the file belongs to.
    pub log_id: u128,
    /// First offset that may be read; everything below it is deleted.
    #[serde(deserialize_with = "codec::number")]
    pub offset: u64,
    /// Below it the log never held anything, so no producer was ever known from there.
    #[serde(deserialize_with = "codec::number")]
    pub history_from: u64,
    /// Producer ids below this one are judged strictly (I8); 0 for none.
    pub strict_below: i64,
    /// Unknown ids at or below this one are refused at any sequence (I18); -1 for none.
    pub forgotten_below: i64,
}

/// The `marks` file of one log.
#[derive(Debug)]
pub struct Marks {
    log_id: u128,
    slots: SlotFile,
    /// Held during a sync: were two to run at once, the system might report a failure to one of them
    /// alone, and the other would count what it lost as durable (R6).
    one_at_a_time: Mutex<()>,
    syncing: Mutex<Syncing>,
}

/// A slot that is written while a sync runs does not count as synced by it. Where a commit writes the
/// mark every millisecond, none ever would; so a mark waits for the sync that runs.
#[derive(Debug, Default)]
struct Syncing {
    is_running: bool,
    /// The mark to write when it is over.
    waiting: Option<StableMark>,
}

impl Marks {
    /// Makes the file of a new, empty log, durably.
    ///
    /// # Errors
    /// What the disk says.
    pub fn create(disk: &Arc<dyn Disk>, directory: &str, log_id: u128) -> io::Result<Marks> {
        let mark = StableMark {
            log_id,
            segment_base: 0,
            position: 0,
            next_offset: 0,
            previous_end: 0,
            jump_to: 0,
            generation: 0,
            clean: true,
            last_append_ms: 0,
        };
        let start = LogStart {
            log_id,
            offset: 0,
            history_from: 0,
            strict_below: 0,
            forgotten_below: -1,
        };
        Marks::create_with(disk, directory, &mark, 0, &start)
    }

    /// Makes the file of a log that is there: a copy, or a repaired one. `ceiling` as in
    /// [`Marks::ceiling`].
    ///
    /// # Errors
    /// What the disk says.
    pub fn create_with(
        disk: &Arc<dyn Disk>,
        directory: &str,
        mark: &StableMark,
        ceiling: u64,
        start: &LogStart,
    ) -> io::Result<Marks> {
        let log_id = mark.log_id;
        let ceiling = Ceiling {
            log_id,
            offset: ceiling,
        };
        let slots = SlotFile::create(disk, directory, FILE, MAGIC, 3, |slots| {
            // Into both slots of each pair: one that is damaged later is then no loss.
            for _ in 0..2 {
                slots.write(MARK, mark)?;
                slots.write(CEILING, &ceiling)?;
                slots.write(START, start)?;
            }
            Ok(())
        })?;
        Ok(Marks::over(log_id, slots))
    }

    /// Opens the file of a log.
    ///
    /// # Errors
    /// [`SlotError`] when it is missing, or damaged beyond what one torn slot explains.
    pub fn open(disk: &Arc<dyn Disk>, directory: &str) -> Result<Marks, SlotError> {
        let slots = SlotFile::open(disk, directory, FILE, MAGIC, 3)?;
        let mark: StableMark = slots.read(MARK)?;
        Ok(Marks::over(mark.log_id, slots))
    }

    fn over(log_id: u128, slots: SlotFile) -> Marks {
        Marks {
            log_id,
            slots,
            one_at_a_time: Mutex::default(),
            syncing: Mutex::default(),
        }
    }

    /// Believes only what the device has: for the writer, before it trusts a mark (R7).
    ///
    /// # Errors
    /// What the disk says.
    pub fn settle(&self) -> io::Result<()> {
        self.slots.settle()
    }

    /// The log that the file belongs to.
    pub fn log_id(&self) -> u128 {
        self.log_id
    }

    /// The stable mark, read from the file.
    ///
    /// # Errors
    /// [`SlotError`] when both slots are damaged.
    pub fn mark(&self) -> Result<StableMark, SlotError> {
        self.slots.read(MARK)
    }

    /// The stable mark that is durable: a power cut leaves this one or a newer one.
    ///
    /// # Errors
    /// [`SlotError`] when its slot is damaged.
    pub fn synced_mark(&self) -> Result<StableMark, SlotError> {
        self.slots.read_synced(MARK)
    }

    /// Writes the stable mark, unsynced: an older mark is still a lower bound (R14). While a
    /// [`Marks::sync`] runs on another thread it is only kept, and written when that is over.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write_mark(&self, mark: &StableMark) -> io::Result<()> {
        let mut syncing = self.syncing.lock();
        if syncing.is_running {
            syncing.waiting = Some(*mark);
            return Ok(());
        }
        syncing.waiting = None;
        self.slots.write(MARK, mark)
    }

    /// Writes the stable mark and makes it durable.
    ///
    /// # Errors
    /// What the disk says.
    pub fn store_mark(&self, mark: &StableMark) -> io::Result<()> {
        self.store(|| self.write_mark(mark))
    }

    /// The offset that no offset ever shown reaches; 0: the log never needed one.
    ///
    /// # Errors
    /// [`SlotError`] when both slots are damaged.
    pub fn ceiling(&self) -> Result<u64, SlotError> {
        Ok(self.slots.read::<Ceiling>(CEILING)?.offset)
    }

    /// Writes the offset ceiling and makes it durable, before an offset at or above the old one is
    /// shown (I9).
    ///
    /// # Errors
    /// What the disk says.
    pub fn store_ceiling(&self, offset: u64) -> io::Result<()> {
        self.store(|| self.write_ceiling(offset))
    }

    /// Writes the offset ceiling, unsynced.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write_ceiling(&self, offset: u64) -> io::Result<()> {
        self.slots.write(
            CEILING,
            &Ceiling {
                log_id: self.log_id,
                offset,
            },
        )
    }

    /// Where the log begins.
    ///
    /// # Errors
    /// [`SlotError`] when both slots are damaged.
    pub fn start(&self) -> Result<LogStart, SlotError> {
        self.slots.read(START)
    }

    /// Writes where the log begins and makes it durable, before anything below is removed.
    ///
    /// # Errors
    /// What the disk says.
    pub fn store_start(&self, start: &LogStart) -> io::Result<()> {
        self.store(|| self.write_start(start))
    }

    /// Writes where the log begins, unsynced.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write_start(&self, start: &LogStart) -> io::Result<()> {
        self.slots.write(START, start)
    }

    /// Bytes of the file.
    pub const BYTES: u64 = 3 * 2 * SLOT_BYTES as u64;

    /// How many slots are damaged, or torn by a crash: of the stable mark, of the ceiling, and of
    /// the log's start. Two of one pair are an error when that pair is read.
    ///
    /// # Errors
    /// [`SlotError::Io`].
    pub fn damaged_slots(&self) -> Result<[usize; 3], SlotError> {
        let damaged = |pair| self.slots.damaged_slots(pair);
        Ok([damaged(MARK)?, damaged(CEILING)?, damaged(START)?])
    }

    /// Makes all that was written durable. Ceiling and log start are then written into both of their
    /// slots: were the newest one damaged, an older value would show what was deleted, or give an
    /// offset away again (I9).
    ///
    /// # Errors
    /// What the disk says.
    pub fn sync(&self) -> io::Result<()> {
        self.store(|| Ok(()))
    }

    // What is written here was not written while another sync ran, so that one's failure is not its.
    fn store(&self, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let _one_at_a_time = self.one_at_a_time.lock();
        write()?;
        let synced = {
            let _running = Running::begin(&self.syncing);
            self.slots.sync()
        };
        let mut syncing = self.syncing.lock();
        let waiting = syncing.waiting.take();
        let written = waiting.map_or(Ok(()), |mark| self.slots.write(MARK, &mark));
        drop(syncing);
        synced.and(written)?;
        // They are durable already; a disk that refuses to hold them twice says so when asked again.
        let _ = self.slots.repeat::<Ceiling>(CEILING);
        let _ = self.slots.repeat::<LogStart>(START);
        Ok(())
    }
}

/// A sync that runs; it is over however this ends.
struct Running<'a>(&'a Mutex<Syncing>);

impl<'a> Running<'a> {
    fn begin(syncing: &'a Mutex<Syncing>) -> Running<'a> {
        syncing.lock().is_running = true;
        Running(syncing)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.lock().is_running = false;
    }
}
