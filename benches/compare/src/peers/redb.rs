//! `redb`: a copy-on-write B-tree, with and without a table of what was seen.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::ensure;
use redb::{Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::{Each, Log, Setup, Writer};

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const SEEN: TableDefinition<'_, (u64, u64), ()> = TableDefinition::new("seen");

struct Redb {
    database: Database,
    dedup: bool,
    durability: Durability,
    next: AtomicU64,
    values: Vec<&'static [u8]>,
}

struct Caller<'a> {
    redb: &'a Redb,
    caller: u32,
    sequence: u64,
}

pub(super) fn open(setup: &Setup, dedup: bool) -> anyhow::Result<Box<dyn Log>> {
    Ok(Box::new(Redb {
        database: Database::create(setup.directory.join("redb"))?,
        dedup,
        durability: if setup.cell.synced {
            Durability::Immediate
        } else {
            Durability::None
        },
        next: AtomicU64::new(0),
        values: setup.pool.values().collect(),
    }))
}

impl Log for Redb {
    fn writer(&self, caller: u32) -> anyhow::Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Caller {
            redb: self,
            caller,
            sequence: 0,
        }))
    }

    fn read(&mut self, each: Each<'_>) -> anyhow::Result<()> {
        let log = self.database.begin_read()?.open_table(LOG)?;
        for entry in log.iter()? {
            each(entry?.1.value())?;
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        // The commits before it are undone otherwise.
        Ok(self.database.begin_write()?.commit()?)
    }
}

impl Writer for Caller<'_> {
    fn append(&mut self, values: Range<usize>) -> anyhow::Result<()> {
        let redb = self.redb;
        let first = redb.next.fetch_add(values.len() as u64, Ordering::Relaxed);
        let mut transaction = redb.database.begin_write()?;
        transaction.set_durability(redb.durability)?;
        {
            let mut log = transaction.open_table(LOG)?;
            let seen = redb.dedup.then(|| transaction.open_table(SEEN));
            let mut seen = seen.transpose()?;
            for (offset, value) in (first..).zip(&redb.values[values]) {
                if let Some(seen) = &mut seen {
                    let key = (u64::from(self.caller), self.sequence);
                    let known = seen.insert(key, ())?;
                    ensure!(known.is_none(), "a new record was there before");
                    self.sequence += 1;
                }
                log.insert(offset, *value)?;
            }
        }
        Ok(transaction.commit()?)
    }
}
