//! `walrus-rust`, mmap backend. It takes its directory from `WALRUS_DATA_DIR` alone.

use std::ops::Range;

use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

use super::{Each, Log, Setup, Writer};

const TOPIC: &str = "bench";
/// Bytes of one read.
const READ_BYTES: usize = 4 << 20;

struct WalrusLog {
    walrus: Walrus,
    values: Vec<&'static [u8]>,
}

struct Caller<'a>(&'a WalrusLog);

pub(super) fn open(setup: &Setup) -> anyhow::Result<Box<dyn Log>> {
    walrus_rust::disable_fd_backend();
    let consistency = ReadConsistency::AtLeastOnce {
        persist_every: u32::MAX,
    };
    let schedule = if setup.cell.synced {
        FsyncSchedule::SyncEach
    } else {
        FsyncSchedule::NoFsync
    };
    Ok(Box::new(WalrusLog {
        walrus: Walrus::with_consistency_and_schedule(consistency, schedule)?,
        values: setup.pool.values().collect(),
    }))
}

impl Log for WalrusLog {
    fn writer(&self, _caller: u32) -> anyhow::Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Caller(self)))
    }

    fn read(&mut self, each: Each<'_>) -> anyhow::Result<()> {
        loop {
            let entries = self.walrus.batch_read_for_topic(TOPIC, READ_BYTES, true)?;
            if entries.is_empty() {
                return Ok(());
            }
            for entry in entries {
                each(&entry.data)?;
            }
        }
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        Ok(())
    }
}

impl Writer for Caller<'_> {
    fn append(&mut self, values: Range<usize>) -> anyhow::Result<()> {
        let Caller(log) = self;
        match &log.values[values] {
            [one] => log.walrus.append_for_topic(TOPIC, one)?,
            many => log.walrus.batch_append_for_topic(TOPIC, many)?,
        }
        Ok(())
    }
}
