//! What threads share: locks, atomics, threads. Everything that more than one thread of the engine
//! touches is made of these.
//!
//! In a build they are the real ones of `std`, `parking_lot` and `arc-swap`, and this crate is no
//! more than their names. With `--cfg oncelog_loom` or `--cfg oncelog_shuttle` they are those of a
//! model checker, which decides who goes on at each of them, and with loom also which of the
//! values that the memory model allows a load returns. `tests/interleavings` does that.
//!
//! The disks are not made of these: they stand for the hardware, and one call to them is one step.

#![forbid(unsafe_code)]

#[cfg(any(oncelog_loom, oncelog_shuttle))]
mod modelled;
#[cfg(any(oncelog_loom, oncelog_shuttle))]
pub use modelled::*;

#[cfg(not(any(oncelog_loom, oncelog_shuttle)))]
mod real {
    pub use std::sync::{OnceLock, atomic, mpsc};
    pub use std::thread;

    pub use arc_swap::{ArcSwap, ArcSwapOption};
    pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
}
#[cfg(not(any(oncelog_loom, oncelog_shuttle)))]
pub use real::*;
