//! The durable upper bound: which ids may have been handed out, raised by a block ahead of use.
//!
//! One pair of slots in the file [`FILE_NAME`]; the value is the start of the next block, i64. It is
//! synced before any id of the block leaves the process (R18). A reservation that fails may still
//! have raised what is stored, so the next one skips its block.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use segment_storage::disk::Disk;
use segment_storage::slot_file::{SlotError, SlotFile};
use serde::{Deserialize, Serialize};

use crate::{AllocateError, BLOCK};

/// Name of the file in the data directory.
pub const FILE_NAME: &str = "producer-ids";

/// The last id at which a block may begin: 2^63 - 1 - 1000.
pub(crate) const LAST_START: i64 = i64::MAX - BLOCK;

/// Reservations that may fail in a row.
const FAILURES_MAX: i64 = 1_000;

/// Ids that are skipped when one slot is lost: more than a slot can be ahead of the other one.
pub const SKIP: i64 = (FAILURES_MAX + 2) * BLOCK;

const MAGIC: [u8; 4] = *b"OLPI";
const PAIR: usize = 0;

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    next_start: i64,
}

/// The first id that is not reserved, and how many slots of the file are damaged or torn (with one
/// damaged slot the newest bound may be lost). Read as the file is, nothing is reserved or written.
///
/// # Errors
/// As [`crate::PidAllocator::open`], but for what reserving can meet.
pub fn inspect(disk: &Arc<dyn Disk>) -> Result<(i64, usize), AllocateError> {
    let slots = SlotFile::open(disk, "", FILE_NAME, MAGIC, 1).map_err(explain)?;
    let damaged = slots.damaged_slots(PAIR).map_err(explain)?;
    let file = disk.display(FILE_NAME);
    let bound = Reservation {
        slots,
        file,
        bound: 0,
        failures: 0,
    }
    .stored()?;
    Ok((bound, damaged))
}

/// The open file, and what was reserved through it.
#[derive(Debug)]
pub(crate) struct Reservation {
    slots: SlotFile,
    file: String,
    /// Never below the start of the last block that was reserved plus [`BLOCK`].
    bound: i64,
    /// Reservations that failed in a row; each may have moved what one slot holds by a block.
    failures: i64,
}

impl Reservation {
    /// Makes the file; the first block will begin at `start`.
    pub(crate) fn create(disk: &Arc<dyn Disk>, start: i64) -> Result<Self, AllocateError> {
        let file = disk.display(FILE_NAME);
        if disk.open(FILE_NAME).is_ok() {
            let source = io::ErrorKind::AlreadyExists.into();
            return Err(AllocateError::Io { file, source });
        }
        Self::replace(disk, start)
    }

    fn replace(disk: &Arc<dyn Disk>, start: i64) -> Result<Self, AllocateError> {
        let file = disk.display(FILE_NAME);
        let first = |slots: &SlotFile| slots.write(PAIR, &Stored { next_start: start });
        let made = SlotFile::create(disk, "", FILE_NAME, MAGIC, 1, first).and_then(|slots| {
            // Into the other slot, too: that one of them is not valid shall mean damage.
            first(&slots)?;
            slots.sync()?;
            Ok(slots)
        });
        let slots = made.map_err(|source| AllocateError::Io {
            file: file.clone(),
            source,
        })?;
        Ok(Self {
            slots,
            file,
            bound: start,
            failures: 0,
        })
    }

    /// Opens the file as the device has it (R7).
    pub(crate) fn open(disk: &Arc<dyn Disk>) -> Result<Self, AllocateError> {
        let file = disk.display(FILE_NAME);
        let slots = SlotFile::open(disk, "", FILE_NAME, MAGIC, 1).map_err(explain)?;
        if let Err(source) = slots.settle() {
            return Err(AllocateError::Io { file, source });
        }
        let mut reservation = Self {
            slots,
            file,
            bound: 0,
            failures: 0,
        };
        reservation.bound = reservation.stored()?;
        reservation.skip_what_a_slot_may_have_held()?;
        Ok(reservation)
    }

    // One slot is enough after a torn write: the other one is newer than every id handed out. But
    // damage at rest may have taken the newest one, and its block with it. Nobody can tell which,
    // so all blocks that it may have reserved are skipped (I15).
    fn skip_what_a_slot_may_have_held(&mut self) -> Result<(), AllocateError> {
        let valid = self
            .slots
            .valid_slots(PAIR)
            .map_err(|source| AllocateError::Io {
                file: self.file.clone(),
                source,
            })?;
        if valid == 2 || self.bound > LAST_START - SKIP {
            return Ok(());
        }
        self.write(self.bound + SKIP)
    }

    fn write(&mut self, next_start: i64) -> Result<(), AllocateError> {
        let written = self.slots.write(PAIR, &Stored { next_start });
        written
            .and_then(|()| self.slots.sync())
            .map_err(|source| AllocateError::Io {
                file: self.file.clone(),
                source,
            })?;
        self.bound = next_start;
        self.failures = 0;
        Ok(())
    }

    /// The first id that is not reserved.
    pub(crate) fn bound(&self) -> i64 {
        self.bound
    }

    fn stored(&self) -> Result<i64, AllocateError> {
        let Stored { next_start } = self.slots.read(PAIR).map_err(explain)?;
        if next_start >= self.bound {
            Ok(next_start)
        } else {
            let (file, stored, least) = (self.file.clone(), next_start, self.bound);
            Err(AllocateError::InvalidBound {
                file,
                stored,
                least,
            })
        }
    }

    /// Reserves a block durably.
    pub(crate) fn next_block(&mut self) -> Result<Range<i64>, AllocateError> {
        let start = self.stored()?;
        if start > LAST_START {
            return Err(AllocateError::OutOfIds { next: start });
        }
        if self.failures >= FAILURES_MAX {
            return Err(AllocateError::Io {
                file: self.file.clone(),
                source: io::Error::other("too many reservations failed; open the directory again"),
            });
        }
        let next_start = start + BLOCK;
        self.failures += 1;
        self.write(next_start)?;
        Ok(start..next_start)
    }
}

fn explain(error: SlotError) -> AllocateError {
    match error {
        SlotError::Damaged { file, .. } => AllocateError::Damaged { file },
        SlotError::Io { file, source } if source.kind() == io::ErrorKind::NotFound => {
            AllocateError::Missing { file }
        }
        SlotError::Io { file, source } => AllocateError::Io { file, source },
        other => AllocateError::Unreadable(other),
    }
}

/// Has ids at or above `floor` handed out from now on, durably: for `oncelog repair`, while no
/// allocator is open. Never goes back: the larger of `floor` and what the file says counts, and that
/// is returned.
///
/// # Errors
/// [`AllocateError::InvalidFloor`]; [`AllocateError::Unreadable`] for a file of another release;
/// [`AllocateError::Io`].
pub fn raise_floor(disk: &Arc<dyn Disk>, floor: i64) -> Result<i64, AllocateError> {
    if !(0..=LAST_START).contains(&floor) {
        return Err(AllocateError::InvalidFloor {
            floor,
            highest: LAST_START,
        });
    }
    let stored = match Reservation::open(disk) {
        Ok(reservation) => reservation.bound,
        Err(
            AllocateError::Damaged { .. }
            | AllocateError::Missing { .. }
            | AllocateError::InvalidBound { .. },
        ) => 0,
        Err(other) => return Err(other),
    };
    let start = floor.max(stored);
    Reservation::replace(disk, start)?;
    Ok(start)
}
