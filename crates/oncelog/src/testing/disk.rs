//! A disk in memory that does to its files what power cuts and failing devices do, from a seed.
//!
//! Programs see the *live* image, the cache; what survives is the *durable* one, the device. In
//! between lie dirty pages (4 KiB, in sectors of 512 bytes), lengths and names that nobody synced.
//! [`SimulatedDisk::kill`] keeps all of that, [`SimulatedDisk::power_cut`] what a [`FileSystem`] may
//! keep of it. [`Faults`] says what fails on the way, and how often.

mod calls;
mod contents;
mod crash;
mod cut;
mod damage;
mod faults;
mod gate;
mod handle;
mod name;
mod page;
mod random;
mod state;
#[cfg(test)]
mod tests;
mod trace;
mod tree;

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use log_engine::storage::DiskFile;

use contents::Resize;
use faults::Dice;
use handle::SimulatedFile;
use name::check_name;
use random::Random;
use state::State;
use tree::Tree;

pub use crash::{Crash, Kept};
pub use cut::FileSystem;
pub use damage::{Damage, Damaged};
pub use faults::{DiskCounts, Faults};
pub use gate::SimulatedGate;
pub use trace::Trace;

/// A disk in memory. A clone is the same disk; a kill and a power cut leave another one, so that
/// whatever the old process still does is done to nobody.
///
/// ```
/// use std::sync::Arc;
///
/// use oncelog::testing::SimulatedDisk;
/// use oncelog::{Engine, Env, Record, SystemClock};
///
/// let env = |disk: &SimulatedDisk| Env {
///     disk: Arc::new(disk.clone()),
///     clock: Arc::new(SystemClock),
///     seed: 1,
/// };
/// let disk = SimulatedDisk::new(42);
/// let engine = Engine::with_env(env(&disk)).open()?;
/// engine.ensure_topic("orders", 1)?;
/// let mut appender = engine.session()?.appender("orders", 0)?;
/// appender.blocking_append(&[Record::new().value("two shirts")])?;
///
/// let found = Engine::with_env(env(&disk.power_cut(7))).open()?;
/// assert_eq!(found.topic("orders")?.describe().records, 1);
/// # Ok::<(), oncelog::Error>(())
/// ```
#[derive(Clone)]
pub struct SimulatedDisk {
    shared: Arc<Shared>,
}

type SyncHook = Arc<dyn Fn(u64) + Send + Sync>;

struct Shared {
    state: Mutex<State>,
    /// Signalled when a sync begins to wait and when a gate opens.
    changed: Condvar,
    slow_sync: Mutex<Option<SyncHook>>,
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("SimulatedDisk")
            .field("file_system", &state.file_system)
            .field("counts", &state.counts)
            .finish_non_exhaustive()
    }
}

impl SimulatedDisk {
    /// An empty disk without faults and without a limit of its size, on [`FileSystem::Ordered`].
    /// Faults, once there are any, come from the seed.
    pub fn new(seed: u64) -> SimulatedDisk {
        Self::with_tree(Tree::default()).seeded(seed)
    }

    fn seeded(self, seed: u64) -> SimulatedDisk {
        self.state().dice = Dice::new(seed);
        self
    }

    fn with_tree(tree: Tree) -> SimulatedDisk {
        Self::with_state(State {
            tree,
            file_system: FileSystem::default(),
            faults: Faults::NONE,
            dice: Dice::new(0),
            counts: DiskCounts::default(),
            // Later than whatever the tree holds.
            time: 1 << 32,
            failing: (0, 0),
            gates: 0,
            waiting_syncs: 0,
            recorder: None,
        })
    }

    fn with_state(state: State) -> SimulatedDisk {
        SimulatedDisk {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                changed: Condvar::new(),
                slow_sync: Mutex::new(None),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The same disk on another kind of file system.
    #[must_use]
    pub fn on(self, file_system: FileSystem) -> SimulatedDisk {
        self.state().file_system = file_system;
        self
    }

    /// What fails from now on, and how often.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Has the next `count` syncs of files fail with EIO; all that is dirty then is lost.
    pub fn fail_syncs(&self, count: u64) {
        self.state().failing.0 = count;
    }

    /// Has the next `count` syncs of directories fail with EIO.
    pub fn fail_name_syncs(&self, count: u64) {
        self.state().failing.1 = count;
    }

    /// Limits what can still be allocated, or takes the limit away. Files that shrink or go give
    /// their bytes back.
    pub fn set_free_bytes(&self, bytes: Option<u64>) {
        self.state().tree.free_bytes = bytes;
    }

    /// Has slow syncs ([`Faults::slow_syncs`]) call `hook` with their milliseconds, on the thread that
    /// syncs and without a lock: a simulation moves its clock there, a test may block.
    pub fn on_slow_sync(&self, hook: impl Fn(u64) + Send + Sync + 'static) {
        let mut slow_sync = self.hook();
        *slow_sync = Some(Arc::new(hook));
    }

    fn hook(&self) -> MutexGuard<'_, Option<SyncHook>> {
        let slow_sync = &self.shared.slow_sync;
        slow_sync.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has every sync of a file wait until the gate is dropped. More than one gate may be held.
    pub fn hold_syncs(&self) -> SimulatedGate {
        SimulatedGate::new(self)
    }

    /// What was done so far, before crashes too.
    pub fn counts(&self) -> DiskCounts {
        self.state().counts
    }

    /// What a new process finds after the old one was killed: everything that was written, no
    /// locks. What was not synced still is not. Faults go on.
    #[must_use]
    pub fn kill(&self) -> SimulatedDisk {
        let mut state = self.state().clone();
        state.counts.kills += 1;
        state.tree.forget_unnamed();
        self.next(state)
    }

    /// What a new process finds after a power cut: what was synced, and of the rest what the file
    /// system may keep, drawn from `seed`. Faults go on.
    #[must_use]
    pub fn power_cut(&self, seed: u64) -> SimulatedDisk {
        let mut state = self.state().clone();
        let mut random = Random::stream(seed, 0);
        let State {
            tree,
            file_system,
            counts,
            ..
        } = &mut state;
        let before = tree.bytes();
        cut::cut_power(tree, *file_system, &mut random, counts);
        let after = tree.bytes();
        let free = tree.free_bytes.map(|free| free.saturating_add(before));
        tree.free_bytes = free.map(|free| free.saturating_sub(after));
        self.next(state)
    }

    // The same machine, switched on again.
    fn next(&self, mut state: State) -> SimulatedDisk {
        state.tree.locks.clear();
        state.gates = 0;
        state.waiting_syncs = 0;
        state.recorder = None;
        let next = Self::with_state(state);
        let hook = self.hook().clone();
        *next.hook() = hook;
        next
    }

    /// The live contents of a file, reserved bytes included.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn read_file(&self, name: &str) -> io::Result<Vec<u8>> {
        check_name(name)?;
        let state = self.state();
        let file = state.tree.file(state.tree.find_file(name)?);
        let mut bytes = vec![0; usize::try_from(file.len).unwrap_or(usize::MAX)];
        file.read(0, &mut bytes);
        Ok(bytes)
    }

    /// Replaces or makes a file, durably, name and contents, whatever fails otherwise.
    ///
    /// # Errors
    /// `NotFound` when its directory is missing; `StorageFull`.
    pub fn write_file(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        check_name(name)?;
        let mut state = self.state();
        if state.tree.find_file(name).is_ok() {
            state.tree.remove_file(name)?;
        }
        let number = state.tree.create_file(name)?;
        state
            .tree
            .grow(number, bytes.len() as u64, Resize::Appended)?;
        let (time, order) = (state.time + 1, state.tree.order + 1);
        state.time = time;
        let file = state.tree.file_mut(number);
        file.write(bytes, 0, time);
        let begun = file.begin_sync(time, order);
        file.finish_sync(begun);
        let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
        let parent = state.tree.find_directory(parent)?;
        state.tree.sync_names(parent);
        Ok(())
    }

    /// A number that tells disks apart by what programs see: names, lengths and bytes.
    pub fn fingerprint(&self) -> u64 {
        self.state().tree.fingerprint()
    }

    fn opened(&self, file: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimulatedFile::new(self.clone(), file))
    }
}

/// Whether one of `count` was left, and takes it.
fn take_one(count: &mut u64) -> bool {
    let left = *count > 0;
    *count = count.saturating_sub(1);
    left
}

/// EIO, as Linux numbers it.
fn input_output_error() -> io::Error {
    io::Error::from_raw_os_error(5)
}
