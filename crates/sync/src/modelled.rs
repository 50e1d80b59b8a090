//! The same names, made of what a model checker sees.
//!
//! Waiting with a time limit waits for ever: no time passes in a model, so what only a timeout
//! would mend is a deadlock, and found.

#[cfg(oncelog_loom)]
pub mod atomic;
#[cfg(oncelog_loom)]
mod explore;
mod lock;
mod once;
mod swap;

#[cfg(oncelog_loom)]
pub use loom;
#[cfg(oncelog_loom)]
use loom as checker;
#[cfg(all(oncelog_shuttle, not(oncelog_loom)))]
pub use shuttle;
#[cfg(all(oncelog_shuttle, not(oncelog_loom)))]
use shuttle as checker;

#[cfg(not(oncelog_loom))]
pub use checker::sync::atomic;
pub use checker::sync::mpsc;
#[cfg(oncelog_loom)]
pub use explore::explore;
pub use lock::{Condvar, Mutex, MutexGuard, RwLock};
pub use once::OnceLock;
pub use swap::{ArcSwap, ArcSwapOption};

/// Threads that the model checker runs.
pub mod thread {
    pub use super::checker::thread::*;

    /// Waits until somebody calls `unpark`, however long that is.
    #[cfg(oncelog_loom)]
    pub fn park_timeout(_: std::time::Duration) {
        park();
    }
}
