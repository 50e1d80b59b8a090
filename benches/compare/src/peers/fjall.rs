//! `fjall`: an LSM tree under a growing key, with and without a table of what was seen.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::ensure;
use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Each, Log, Setup, Writer};

struct Fjall {
    database: Database,
    log: Keyspace,
    seen: Option<Keyspace>,
    mode: PersistMode,
    next: AtomicU64,
    values: Vec<&'static [u8]>,
}

struct Caller<'a> {
    fjall: &'a Fjall,
    caller: u32,
    sequence: u64,
}

pub(super) fn open(setup: &Setup, dedup: bool) -> anyhow::Result<Box<dyn Log>> {
    let database = Database::builder(setup.directory.join("fjall"))
        .journal_compression(CompressionType::None)
        .open()?;
    let keyspace = |name| {
        database.keyspace(name, || {
            KeyspaceCreateOptions::default()
                .data_block_compression_policy(CompressionPolicy::disabled())
        })
    };
    let (log, seen) = (keyspace("log")?, dedup.then(|| keyspace("seen")));
    let seen = seen.transpose()?;
    Ok(Box::new(Fjall {
        log,
        seen,
        database,
        mode: if setup.cell.synced {
            PersistMode::SyncData
        } else {
            PersistMode::Buffer
        },
        next: AtomicU64::new(0),
        values: setup.pool.values().collect(),
    }))
}

impl Log for Fjall {
    fn writer(&self, caller: u32) -> anyhow::Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Caller {
            fjall: self,
            caller,
            sequence: 0,
        }))
    }

    fn read(&mut self, each: Each<'_>) -> anyhow::Result<()> {
        for entry in self.log.iter() {
            each(&entry.value()?)?;
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}

impl Writer for Caller<'_> {
    fn append(&mut self, values: Range<usize>) -> anyhow::Result<()> {
        let fjall = self.fjall;
        let first = fjall.next.fetch_add(values.len() as u64, Ordering::Relaxed);
        if let (1, None, PersistMode::Buffer) = (values.len(), &fjall.seen, fjall.mode) {
            fjall
                .log
                .insert(first.to_be_bytes(), fjall.values[values.start])?;
            return Ok(());
        }
        let mut batch = fjall.database.batch().durability(Some(fjall.mode));
        for (offset, value) in (first..).zip(&fjall.values[values]) {
            if let Some(seen) = &fjall.seen {
                let key = [
                    u64::from(self.caller).to_be_bytes(),
                    self.sequence.to_be_bytes(),
                ];
                let key = key.concat();
                ensure!(!seen.contains_key(&key)?, "a new record was there before");
                batch.insert(seen, key, []);
                self.sequence += 1;
            }
            batch.insert(&fjall.log, offset.to_be_bytes(), *value);
        }
        batch.commit()?;
        Ok(())
    }
}
