//! A fresh producer id per producer session, never twice (I15).
//!
//! Ids are handed out in blocks of [`BLOCK`]. That a block is taken is durable before the first of
//! its ids leaves the process, and what is left of it at the end of the process is skipped: gaps
//! are normal, repeats are impossible. Handing out an id is a counter behind a short lock and never
//! waits for the disk; the next block is reserved by whoever calls [`PidAllocator::reserve`].

#![forbid(unsafe_code)]

mod error;
mod reservation;

use std::ops::Range;
use std::sync::Arc;

use segment_storage::disk::Disk;
use sync::Mutex;

pub use error::AllocateError;
pub use reservation::{FILE_NAME, SKIP, inspect, raise_floor};
use reservation::{LAST_START, Reservation};

/// Ids of a block, as many as Kafka's.
pub const BLOCK: i64 = 1000;

/// How many ids are left of the last block when the next one is due: 10 %.
const DUE: i64 = BLOCK / 10;

/// How long after a failed reservation the next one is refused, in ms.
const BACKOFF_MS: u64 = 50;

/// Hands out producer ids. At most one for a data directory at a time (its lock sees to it).
#[derive(Debug)]
pub struct PidAllocator {
    first: i64,
    ids: Mutex<Ids>,
    /// Locked during a reservation, so that there is at most one.
    reserving: Mutex<Reserving>,
}

/// What can be handed out without the disk.
#[derive(Debug)]
struct Ids {
    current: Range<i64>,
    /// Handed out when `current` is used up; empty or a whole block.
    ahead: Range<i64>,
    /// First id that is not reserved.
    bound: i64,
}

#[derive(Debug)]
struct Reserving {
    reservation: Reservation,
    failed_at_ms: Option<u64>,
}

impl Ids {
    fn needs_block(&self) -> bool {
        let left = self.current.end - self.current.start;
        self.ahead.is_empty() && left <= DUE && self.bound <= LAST_START
    }

    /// Takes a block that is durably reserved.
    fn add(&mut self, block: Range<i64>) {
        assert!(
            block.start >= self.bound,
            "I15: block {block:?} begins below {}",
            self.bound
        );
        self.bound = block.end;
        if self.current.is_empty() {
            self.current = block;
        } else {
            self.ahead = block;
        }
    }
}

impl PidAllocator {
    /// Begins the ids of a new data directory at 0, and reserves the first block.
    ///
    /// # Errors
    /// [`AllocateError::Io`], of kind `AlreadyExists` when there is an allocator's file.
    pub fn create(disk: Arc<dyn Disk>) -> Result<PidAllocator, AllocateError> {
        Self::start(Reservation::create(&disk, 0)?)
    }

    /// Goes on where the data directory's allocator ended, and reserves a block. When no id is left
    /// in all, this succeeds and [`PidAllocator::allocate`] says so.
    ///
    /// # Errors
    /// [`AllocateError::Missing`] and [`AllocateError::Damaged`], which need a repair: the next id
    /// is never guessed (R18); [`AllocateError::InvalidBound`], [`AllocateError::Io`].
    pub fn open(disk: Arc<dyn Disk>) -> Result<PidAllocator, AllocateError> {
        Self::start(Reservation::open(&disk)?)
    }

    fn start(mut reservation: Reservation) -> Result<PidAllocator, AllocateError> {
        let mut ids = Ids {
            current: 0..0,
            ahead: 0..0,
            bound: reservation.bound(),
        };
        let mut first = ids.bound;
        match reservation.next_block() {
            Ok(block) => {
                first = block.start;
                ids.add(block);
            }
            Err(AllocateError::OutOfIds { .. }) => {}
            Err(error) => return Err(error),
        }
        let reserving = Reserving {
            reservation,
            failed_at_ms: None,
        };
        Ok(PidAllocator {
            first,
            ids: Mutex::new(ids),
            reserving: Mutex::new(reserving),
        })
    }

    /// A producer id that was never handed out before, and larger than those that were. Never
    /// waits.
    ///
    /// # Errors
    /// [`AllocateError::Exhausted`] until a block is reserved, [`AllocateError::OutOfIds`] for ever.
    pub fn allocate(&self) -> Result<i64, AllocateError> {
        let mut ids = self.ids.lock();
        if ids.current.is_empty() {
            ids.current = std::mem::replace(&mut ids.ahead, 0..0);
        }
        match ids.current.next() {
            Some(id) => Ok(id),
            None if ids.bound > LAST_START => Err(AllocateError::OutOfIds { next: ids.bound }),
            None => Err(AllocateError::Exhausted { bound: ids.bound }),
        }
    }

    /// Whether [`PidAllocator::reserve`] is due: at most 10 % of a block are left.
    pub fn needs_block(&self) -> bool {
        self.ids.lock().needs_block()
    }

    /// Reserves the next block durably, if it is due and nobody else is about it. Waits for the
    /// disk, and holds up no [`PidAllocator::allocate`]. `now_ms` is any clock in ms.
    ///
    /// # Errors
    /// [`AllocateError::BackingOff`] within 50 ms of a failure, without a look at the disk; what
    /// [`PidAllocator::open`] can meet; [`AllocateError::OutOfIds`].
    pub fn reserve(&self, now_ms: u64) -> Result<(), AllocateError> {
        let Some(mut reserving) = self.reserving.try_lock() else {
            return Ok(());
        };
        if !self.needs_block() {
            return Ok(());
        }
        if let Some(failed_at_ms) = reserving.failed_at_ms
            && let Some(since_ms) = now_ms.checked_sub(failed_at_ms)
            && let Some(wait_ms) = BACKOFF_MS.checked_sub(since_ms)
            && wait_ms > 0
        {
            return Err(AllocateError::BackingOff { wait_ms });
        }
        match reserving.reservation.next_block() {
            Ok(block) => {
                reserving.failed_at_ms = None;
                self.ids.lock().add(block);
                Ok(())
            }
            Err(error) => {
                reserving.failed_at_ms = Some(now_ms);
                Err(error)
            }
        }
    }

    /// The first id that is not reserved: every id handed out so far, by this allocator or those
    /// before it, is below.
    pub fn bound(&self) -> i64 {
        self.ids.lock().bound
    }

    /// The first id that this allocator may hand out: every id below it belongs to a session from
    /// before it was opened, if to any.
    pub fn first(&self) -> i64 {
        self.first
    }
}

#[cfg(test)]
mod tests;
