//! `commitlog`: offsets and segments, one writer, no sync.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use commitlog::message::{MessageBuf, MessageSet as _};
use commitlog::{CommitLog, LogOptions, ReadLimit};

use super::{Each, Log, Setup, Writer};

/// As large as oncelog's, so that both roll as often.
const SEGMENT_BYTES: usize = 64 << 20;
/// Bytes of one read.
const READ_BYTES: usize = 4 << 20;

struct Commit {
    log: Mutex<CommitLog>,
    values: Vec<&'static [u8]>,
}

struct Caller<'a> {
    commit: &'a Commit,
    messages: MessageBuf,
}

pub(super) fn open(setup: &Setup) -> anyhow::Result<Box<dyn Log>> {
    let mut options = LogOptions::new(setup.directory.join("commitlog"));
    options.segment_max_bytes(SEGMENT_BYTES);
    Ok(Box::new(Commit {
        log: Mutex::new(CommitLog::new(options)?),
        values: setup.pool.values().collect(),
    }))
}

impl Log for Commit {
    fn writer(&self, _caller: u32) -> anyhow::Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Caller {
            commit: self,
            messages: MessageBuf::default(),
        }))
    }

    fn read(&mut self, each: Each<'_>) -> anyhow::Result<()> {
        let log = self.log.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut offset = 0;
        loop {
            let messages = log.read(offset, ReadLimit::max_bytes(READ_BYTES))?;
            for message in messages.iter() {
                each(message.payload())?;
                offset = message.offset() + 1;
            }
            if messages.is_empty() {
                return Ok(());
            }
        }
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        let mut log = self
            .log
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(log.flush()?)
    }
}

impl Writer for Caller<'_> {
    fn append(&mut self, values: Range<usize>) -> anyhow::Result<()> {
        self.messages.clear();
        for value in &self.commit.values[values] {
            let pushed = self.messages.push(value);
            pushed.map_err(|error| anyhow::anyhow!("{error:?}"))?;
        }
        let mut log = self
            .commit
            .log
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        log.append(&mut self.messages)?;
        Ok(())
    }
}
