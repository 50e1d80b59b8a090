//! Ends the process when a case hangs, and says which one; and knows what memory it took.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// Far above what a case takes, on a machine that does much else.
const LIMIT: Duration = Duration::from_secs(60);

/// Bytes of address space and of memory that cases may add, all together. A directory has 256 KiB;
/// what threads and allocators reserve is most of it.
const SPACE_MAX: u64 = 1 << 30;
const MEMORY_MAX: u64 = 256 << 20;

static RUNNING: LazyLock<Mutex<BTreeMap<ThreadKey, (Instant, String)>>> = LazyLock::new(|| {
    thread::spawn(watch);
    Mutex::default()
});

type ThreadKey = String;

fn key(id: ThreadId) -> ThreadKey {
    format!("{id:?}")
}

fn watch() {
    loop {
        thread::sleep(Duration::from_secs(1));
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        for (since, case) in running.values() {
            if since.elapsed() > LIMIT {
                println!("FAIL hang (I32), after {LIMIT:?}: {case}");
                std::process::exit(1);
            }
        }
    }
}

/// Runs one case under watch.
pub(crate) fn watched<T>(case: String, run: impl FnOnce() -> T) -> T {
    let me = key(thread::current().id());
    let lock = || RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    lock().insert(me.clone(), (Instant::now(), case));
    let done = run();
    lock().remove(&me);
    done
}

/// The most address space and memory that the process had, in bytes, where the system tells.
fn peaks() -> Option<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    };
    Some((of("VmPeak:")?, of("VmHWM:")?))
}

static AT_START: LazyLock<Option<(u64, u64)>> = LazyLock::new(peaks);

/// # Errors
/// When the process took more than cases may.
pub(crate) fn check_memory() -> Result<(), String> {
    let (Some(before), Some(now)) = (*AT_START, peaks()) else {
        return Ok(());
    };
    if now.0 > before.0 + SPACE_MAX || now.1 > before.1 + MEMORY_MAX {
        return Err(format!(
            "memory: {} MiB of space, {} MiB used",
            now.0 >> 20,
            now.1 >> 20
        ));
    }
    Ok(())
}
