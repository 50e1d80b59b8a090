//! `okaywal`: a write-ahead log, kept whole in one file. It is read by opening it.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, anyhow};
use okaywal::{Configuration, Entry, EntryId, LogManager, SegmentReader, WriteAheadLog};

use super::{Each, Log, Setup, Writer};

/// Reserved when the file is made.
const AHEAD_BYTES: u32 = 64 << 20;
/// Entries between the thread that opens and the one that looks at them.
const ENTRIES: usize = 1_024;

/// Takes the records of each entry.
type Entries = SyncSender<Vec<Vec<u8>>>;

struct Okay {
    wal: Option<WriteAheadLog>,
    directory: PathBuf,
    values: Vec<&'static [u8]>,
}

struct Caller<'a> {
    wal: &'a WriteAheadLog,
    values: &'a [&'static [u8]],
}

pub(super) fn open(setup: &Setup) -> anyhow::Result<Box<dyn Log>> {
    let directory = setup.directory.join("okaywal");
    let wal = recovered(directory.clone(), None)?;
    Ok(Box::new(Okay {
        wal: Some(wal),
        directory,
        values: setup.pool.values().collect(),
    }))
}

fn recovered(directory: PathBuf, to: Option<Entries>) -> io::Result<WriteAheadLog> {
    let to = Arc::new(Mutex::new(to));
    let wal = Configuration::default_for(directory)
        .preallocate_bytes(AHEAD_BYTES)
        // What is checkpointed is no longer there to be read.
        .checkpoint_after_bytes(u64::MAX)
        .open(Recovered(Arc::clone(&to)));
    // The log keeps its manager, and whoever reads waits until nobody can send any more.
    *to.lock().unwrap_or_else(PoisonError::into_inner) = None;
    wal
}

impl Log for Okay {
    fn writer(&self, _caller: u32) -> anyhow::Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Caller {
            wal: self.wal.as_ref().context("it is open")?,
            values: &self.values,
        }))
    }

    fn read(&mut self, each: Each<'_>) -> anyhow::Result<()> {
        if let Some(wal) = self.wal.take() {
            wal.shutdown()?;
        }
        let (to, entries) = sync_channel(ENTRIES);
        let directory = self.directory.clone();
        let opening = std::thread::spawn(move || recovered(directory, Some(to)));
        for chunk in entries.iter().flatten() {
            each(&chunk)?;
        }
        let wal = opening.join().map_err(|_| anyhow!("it panicked"))??;
        self.wal = Some(wal);
        Ok(())
    }

    fn close(mut self: Box<Self>) -> anyhow::Result<()> {
        self.wal.take().map_or(Ok(()), WriteAheadLog::shutdown)?;
        Ok(())
    }
}

impl Writer for Caller<'_> {
    fn append(&mut self, values: Range<usize>) -> anyhow::Result<()> {
        let mut entry = self.wal.begin_entry()?;
        for value in &self.values[values] {
            entry.write_chunk(value)?;
        }
        entry.commit()?;
        Ok(())
    }
}

/// Reads every entry, and hands it on if somebody asked; checkpoints nothing.
#[derive(Debug)]
struct Recovered(Arc<Mutex<Option<Entries>>>);

impl LogManager for Recovered {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        let to = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(chunks), Some(to)) = (entry.read_all_chunks()?, to.as_ref()) {
            to.send(chunks).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        _last: EntryId,
        _entries: &mut SegmentReader,
        _wal: &WriteAheadLog,
    ) -> io::Result<()> {
        Err(io::Error::other("nothing is to be checkpointed"))
    }
}
