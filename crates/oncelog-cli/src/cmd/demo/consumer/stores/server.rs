//! What servers need of this process: a runtime for their connections, and a name that nobody else has there.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tokio::runtime::Runtime;

/// Drives connections. Its context has to be entered where they are used.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the threads that talk to the server")
}

/// A name for what a run keeps on a server.
pub(super) fn name() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis());
    format!("oncelog_demo_{}_{ms}", std::process::id())
}
