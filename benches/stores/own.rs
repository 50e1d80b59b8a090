//! What has nothing to stand beside: memory, and the log itself.

use std::path::Path;
use std::sync::Arc;

use consumer_inbox::{EmbeddedInbox, EmbeddedStore, MemoryInbox, MemoryStore};
use oncelog::{Engine, SystemClock};
use oncelog_benches::scratch;

use crate::measure::{Run, Sides, Sizes, Space, compare, work};
use crate::work::{acted, claimed};

pub(crate) async fn memory(sizes: Sizes) -> Space {
    // First, since memory that was given back may be taken again unseen.
    let run = Run::new(sizes.ids, 64);
    let store = || Arc::new(MemoryStore::lossy(Arc::new(SystemClock), 1 << 24));
    let fresh = store();
    let before = resident();
    claimed(&fresh, run).await;
    let memory = before.zip(resident());
    let memory = memory.map(|(before, after)| after.saturating_sub(before) / run.ids);
    drop(fresh);

    let store = store();
    let inbox = MemoryInbox::lossy(Arc::new(SystemClock));
    let claims = Sides {
        ours: Some(work(|run| claimed(&store, run))),
        ..Sides::default()
    };
    compare("memory", "claims", sizes, claims).await;
    let effects = Sides {
        ours: Some(work(|run| acted(&inbox, run))),
        ..Sides::default()
    };
    compare("memory", "effects", sizes, effects).await;
    Space {
        store: "memory",
        memory,
        disk: None,
        how: "what the process has more",
    }
}

pub(crate) async fn log(sizes: Sizes) -> Space {
    let directory = scratch().unwrap();
    let engine = Engine::open(directory.path().join("data")).unwrap();
    let store = Arc::new(EmbeddedStore::open(&engine, "bench").unwrap());
    let inbox = EmbeddedInbox::open(&engine, "bench-inbox").unwrap();
    let claims = Sides {
        ours: Some(work(|run| claimed(&store, run))),
        ..Sides::default()
    };
    compare("log", "claims", sizes, claims).await;
    let effects = Sides {
        ours: Some(work(|run| acted(&inbox, run))),
        ..Sides::default()
    };
    compare("log", "effects", sizes, effects).await;
    drop((store, inbox));
    engine.close().unwrap();

    let path = directory.path().join("space");
    let run = Run::new(sizes.ids, 64);
    let engine = Engine::open(&path).unwrap();
    let store = Arc::new(EmbeddedStore::open(&engine, "bench").unwrap());
    let before = on_disk(&path);
    claimed(&store, run).await;
    let memory = u64::try_from(store.counts().index_bytes).unwrap() / run.ids;
    drop(store);
    engine.close().unwrap();
    let disk = on_disk(&path).saturating_sub(before) / run.ids;
    Space {
        store: "log",
        memory: Some(memory),
        disk: Some(disk),
        how: "the index; claim and end in the log, before old ones are cleaned away",
    }
}

/// Of this process, if the system tells.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

fn on_disk(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    let bytes = entries.map(|entry| match entry.metadata().unwrap() {
        found if found.is_dir() => on_disk(&entry.path()),
        found => found.blocks() * 512,
    });
    bytes.sum()
}
