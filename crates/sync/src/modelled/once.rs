//! A value that is set once, as `std::sync::OnceLock`: whoever sees it sees what was stored before.

use std::sync;

use super::Mutex;
use super::atomic::{AtomicBool, Ordering};

/// A value that is set at most once.
#[derive(Debug)]
pub struct OnceLock<T> {
    value: sync::OnceLock<T>,
    /// What the model checker sees of it.
    is_set: AtomicBool,
    setting: Mutex<()>,
}

impl<T> OnceLock<T> {
    /// Without a value.
    pub fn new() -> OnceLock<T> {
        OnceLock {
            value: sync::OnceLock::new(),
            is_set: AtomicBool::new(false),
            setting: Mutex::default(),
        }
    }

    /// The value, once this thread may see it.
    pub fn get(&self) -> Option<&T> {
        let is_set = self.is_set.load(Ordering::Acquire);
        self.value.get().filter(|_| is_set)
    }

    /// Sets the value.
    ///
    /// # Errors
    /// The value, when there is one already.
    pub fn set(&self, value: T) -> Result<(), T> {
        let _one_at_a_time = self.setting.lock();
        self.value.set(value)?;
        self.is_set.store(true, Ordering::Release);
        Ok(())
    }

    /// The value; sets it to what `f` returns if there is none.
    pub fn get_or_init(&self, f: impl FnOnce() -> T) -> &T {
        let _one_at_a_time = self.setting.lock();
        let value = self.value.get_or_init(f);
        self.is_set.store(true, Ordering::Release);
        value
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> OnceLock<T> {
        let once = OnceLock::new();
        let _ = once.set(value);
        once
    }
}
