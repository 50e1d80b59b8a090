//! SQLite: a table in which (producer, sequence) is unique.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use anyhow::ensure;
use rusqlite::Connection;

use super::{Each, Log, Setup, Writer};

struct Sqlite {
    connection: Mutex<Connection>,
    values: Vec<&'static [u8]>,
}

struct Caller<'a> {
    sqlite: &'a Sqlite,
    caller: u32,
    sequence: i64,
}

pub(super) fn open(setup: &Setup) -> anyhow::Result<Box<dyn Log>> {
    let connection = Connection::open(setup.directory.join("sqlite.db"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = if setup.cell.synced { "FULL" } else { "OFF" };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS log \
         (at INTEGER PRIMARY KEY, pid INTEGER, seq INTEGER, value BLOB, UNIQUE(pid, seq))",
    )?;
    Ok(Box::new(Sqlite {
        connection: Mutex::new(connection),
        values: setup.pool.values().collect(),
    }))
}

impl Log for Sqlite {
    fn writer(&self, caller: u32) -> anyhow::Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Caller {
            sqlite: self,
            caller,
            sequence: 0,
        }))
    }

    fn read(&mut self, each: Each<'_>) -> anyhow::Result<()> {
        let connection = self.connection.get_mut();
        let connection = connection.unwrap_or_else(PoisonError::into_inner);
        let mut statement = connection.prepare("SELECT value FROM log ORDER BY at")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(row.get_ref(0)?.as_blob()?)?;
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        let connection = self.connection.into_inner();
        let connection = connection.unwrap_or_else(PoisonError::into_inner);
        connection.close().map_err(|(_, error)| error.into())
    }
}

impl Writer for Caller<'_> {
    fn append(&mut self, values: Range<usize>) -> anyhow::Result<()> {
        let connection = self.sqlite.connection.lock();
        let mut connection = connection.unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction()?;
        {
            let insert = "INSERT OR IGNORE INTO log (pid, seq, value) VALUES (?1, ?2, ?3)";
            let mut insert = transaction.prepare_cached(insert)?;
            for value in &self.sqlite.values[values] {
                let stored = insert.execute((self.caller, self.sequence, value))?;
                ensure!(stored == 1, "a new record was there before");
                self.sequence += 1;
            }
        }
        Ok(transaction.commit()?)
    }
}
