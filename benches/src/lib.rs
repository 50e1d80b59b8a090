//! What the benches share: where their data goes, how long they run, and the logs they run on.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use anyhow::Context as _;
use criterion::Criterion;
use oncelog::{Ack, Appender, Engine, ProducerSession, Record, TopicConfig};
use tempfile::TempDir;

/// The topic of every log here.
pub const TOPIC: &str = "bench";

/// Whether everything is to run once, as small as possible: under `cargo test --benches`.
pub fn is_test_run() -> bool {
    let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    !has("--bench") || has("--test")
}

/// `full`, or `tiny` in a test run.
pub fn sized<T>(full: T, tiny: T) -> T {
    if is_test_run() { tiny } else { full }
}

/// Criterion, set so that all benches together end within five minutes.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots()
        .configure_from_args()
}

/// A directory that is removed with everything in it: in `ONCELOG_BENCH_DIR` if that is set, else
/// beside the bench's program, so that the data lies on the disk of the build and not on a tmpfs.
///
/// # Errors
/// When no directory can be made there.
pub fn scratch() -> anyhow::Result<TempDir> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.to_owned());
    let parent = std::env::var_os("ONCELOG_BENCH_DIR")
        .map(PathBuf::from)
        .or_else(beside)
        .unwrap_or_else(std::env::temp_dir);
    tempfile::Builder::new()
        .prefix("oncelog-bench-")
        .tempdir_in(&parent)
        .with_context(|| format!("no directory can be made in {}", parent.display()))
}

/// Runs a future on this thread, as the smallest of executors.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// An open engine with one topic of one partition, and what appends to it.
pub struct Log {
    /// Appends to the partition.
    pub appender: Appender,
    /// The session of the appender.
    pub session: ProducerSession,
    /// The engine.
    pub engine: Engine,
}

impl Log {
    /// Opens a new engine in `directory`, with a topic that answers at `ack`.
    ///
    /// # Errors
    /// What the engine says.
    pub fn create(directory: &Path, ack: Ack) -> anyhow::Result<Log> {
        let engine = Engine::open(directory)?;
        engine.create_topic(TOPIC, 1, TopicConfig::default().with_ack(ack))?;
        let session = engine.session()?;
        let appender = session.appender(TOPIC, 0)?;
        Ok(Log {
            appender,
            session,
            engine,
        })
    }

    /// As [`Log::create`], with at least `bytes` of values in it: `size` bytes in each record, and
    /// 100 records in each batch.
    ///
    /// # Errors
    /// What the engine says.
    pub fn filled(directory: &Path, bytes: u64, size: usize) -> anyhow::Result<Log> {
        let mut log = Log::create(directory, Ack::Memory)?;
        let value = vec![b'x'; size];
        let records = vec![Record::new().value(&value); 100];
        let mut left = bytes;
        while left > 0 {
            log.appender.blocking_append(&records)?;
            left = left.saturating_sub(u64::try_from(size * records.len())?);
        }
        Ok(log)
    }

    /// Records in the log.
    pub fn records(&self) -> u64 {
        self.appender.partition().high_watermark()
    }

    /// Closes everything cleanly.
    ///
    /// # Errors
    /// What the engine says.
    pub fn close(self) -> anyhow::Result<()> {
        drop((self.appender, self.session));
        Ok(self.engine.close()?)
    }
}
