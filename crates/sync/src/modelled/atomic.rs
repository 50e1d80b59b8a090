//! Loom's atomics, with every load a step that others can come before or after.
//!
//! Of the accesses to an atomic loom remembers only the last one. A thread that loads and then
//! stores would so hide from it that another thread had loaded before, and loom would never try what
//! happens when that load comes after the store. Here a load first changes a number beside the
//! value, and no change hides another. It is Relaxed, so it orders nothing.

pub use loom::sync::atomic::{Ordering, fence};

macro_rules! atomic {
    ($($name:ident: $value:ty, { $($call:ident),* };)*) => {$(
        #[doc = concat!("An atomic `", stringify!($value), "`.")]
        #[derive(Debug, Default)]
        pub struct $name {
            value: loom::sync::atomic::$name,
            loads: loom::sync::atomic::AtomicUsize,
        }

        impl $name {
            /// Holds `value`.
            pub fn new(value: $value) -> $name {
                $name {
                    value: loom::sync::atomic::$name::new(value),
                    loads: loom::sync::atomic::AtomicUsize::new(0),
                }
            }

            /// Any of the values that the memory model allows.
            pub fn load(&self, order: Ordering) -> $value {
                self.loads.fetch_add(1, Ordering::Relaxed);
                self.value.load(order)
            }

            /// Replaces the value.
            pub fn store(&self, value: $value, order: Ordering) {
                self.value.store(value, order);
            }

            /// Replaces the value if it is `current`.
            ///
            /// # Errors
            /// The value, when it is another.
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.value.compare_exchange(current, new, success, failure)
            }

            /// As `compare_exchange`; it never fails without a reason.
            ///
            /// # Errors
            /// The value, when it is another.
            pub fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.value.compare_exchange(current, new, success, failure)
            }

            $(
                /// Changes the value; returns what it was.
                pub fn $call(&self, value: $value, order: Ordering) -> $value {
                    self.value.$call(value, order)
                }
            )*
        }
    )*};
}

atomic! {
    AtomicBool: bool, { swap, fetch_and, fetch_or };
    AtomicU8: u8, { swap, fetch_add, fetch_sub, fetch_max, fetch_min };
    AtomicU64: u64, { swap, fetch_add, fetch_sub, fetch_max, fetch_min };
    AtomicI64: i64, { swap, fetch_add, fetch_sub, fetch_max, fetch_min };
    AtomicUsize: usize, { swap, fetch_add, fetch_sub, fetch_max, fetch_min };
}
