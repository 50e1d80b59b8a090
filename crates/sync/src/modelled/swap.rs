//! A pointer that is replaced as a whole, as `arc_swap` has it: a store is a Release, a load an
//! Acquire, and a thread that nothing ordered after a store may still see what was there before.

use std::sync;
use std::sync::{Arc, PoisonError};

use super::atomic::{AtomicUsize, Ordering};

/// An `Arc` that can be replaced while others load it.
pub type ArcSwap<T> = Swap<Arc<T>>;

/// An `Arc` or nothing, which can be replaced while others load it.
pub type ArcSwapOption<T> = Swap<Option<Arc<T>>>;

/// What both are.
#[derive(Debug)]
pub struct Swap<P> {
    /// All that was ever stored.
    stored: sync::Mutex<Vec<P>>,
    /// Which of them is there: what the model checker sees of it.
    at: AtomicUsize,
}

impl<P: Clone> Swap<P> {
    fn with(pointer: P) -> Swap<P> {
        Swap {
            stored: sync::Mutex::new(vec![pointer]),
            at: AtomicUsize::new(0),
        }
    }

    /// What is there.
    pub fn load_full(&self) -> P {
        let at = self.at.load(Ordering::Acquire);
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)[at].clone()
    }

    /// What is there.
    pub fn load(&self) -> P {
        self.load_full()
    }

    /// Replaces what is there.
    pub fn store(&self, pointer: P) {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.push(pointer);
        let at = stored.len() - 1;
        drop(stored);
        self.at.swap(at, Ordering::AcqRel);
    }
}

impl<T> Swap<Arc<T>> {
    /// Holds a value.
    pub fn from_pointee(value: T) -> Self {
        Self::with(Arc::new(value))
    }
}

impl<T> Swap<Option<Arc<T>>> {
    /// Holds a value, or nothing.
    pub fn from_pointee(value: impl Into<Option<T>>) -> Self {
        Self::with(value.into().map(Arc::new))
    }

    /// Holds nothing.
    pub fn empty() -> Self {
        Self::with(None)
    }
}
