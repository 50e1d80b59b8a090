//! RocksDB: an LSM tree under a growing key, with and without a table of what was seen.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, ensure};
use rocksdb::{
    ColumnFamily, DB, DBCompressionType, IteratorMode, Options, WriteBatch, WriteOptions,
};

use super::{Each, Log, Setup, Writer};

const SEEN: &str = "seen";

struct Rocks {
    database: DB,
    dedup: bool,
    synced: bool,
    next: AtomicU64,
    values: Vec<&'static [u8]>,
}

struct Caller<'a> {
    rocks: &'a Rocks,
    seen: Option<&'a ColumnFamily>,
    options: WriteOptions,
    caller: u32,
    sequence: u64,
}

pub(super) fn open(setup: &Setup, dedup: bool) -> anyhow::Result<Box<dyn Log>> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_compression_type(DBCompressionType::None);
    let families = if dedup {
        &["default", SEEN][..]
    } else {
        &["default"]
    };
    let families = families.iter().map(|name| (*name, options.clone()));
    let directory = setup.directory.join("rocksdb");
    Ok(Box::new(Rocks {
        database: DB::open_cf_with_opts(&options, directory, families)?,
        dedup,
        synced: setup.cell.synced,
        next: AtomicU64::new(0),
        values: setup.pool.values().collect(),
    }))
}

impl Log for Rocks {
    fn writer(&self, caller: u32) -> anyhow::Result<Box<dyn Writer + '_>> {
        let mut options = WriteOptions::default();
        options.set_sync(self.synced);
        let seen = self.database.cf_handle(SEEN);
        Ok(Box::new(Caller {
            rocks: self,
            seen: if self.dedup {
                Some(seen.context("it was made")?)
            } else {
                None
            },
            options,
            caller,
            sequence: 0,
        }))
    }

    fn read(&mut self, each: Each<'_>) -> anyhow::Result<()> {
        for entry in self.database.iterator(IteratorMode::Start) {
            each(&entry?.1)?;
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        Ok(self.database.flush_wal(true)?)
    }
}

impl Writer for Caller<'_> {
    fn append(&mut self, values: Range<usize>) -> anyhow::Result<()> {
        let rocks = self.rocks;
        let first = rocks.next.fetch_add(values.len() as u64, Ordering::Relaxed);
        let mut batch = WriteBatch::default();
        for (offset, value) in (first..).zip(&rocks.values[values]) {
            if let Some(seen) = self.seen {
                let key = [
                    u64::from(self.caller).to_be_bytes(),
                    self.sequence.to_be_bytes(),
                ];
                let key = key.concat();
                let known = rocks.database.get_pinned_cf(seen, &key)?;
                ensure!(known.is_none(), "a new record was there before");
                batch.put_cf(seen, key, []);
                self.sequence += 1;
            }
            batch.put(offset.to_be_bytes(), value);
        }
        Ok(rocks.database.write_opt(batch, &self.options)?)
    }
}
