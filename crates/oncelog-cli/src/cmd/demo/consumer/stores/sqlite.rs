//! In a file beside the log.

use std::path::Path;

use bytes::Bytes;
use oncelog::inbox::{SqliteInbox, SqliteTx, StoreError};

use super::Stored;
use crate::cmd::demo::consumer::drive::Counts;
use crate::cmd::demo::consumer::{Effects, Run};

/// Beside the directory of the log, which holds nothing but the log's own.
const SUFFIX: &str = ".sqlite";
const TABLE: &str = "create table effect (value blob not null)";
const INSERT: &str = "insert into effect (value) values (?1)";
const ALL: &str = "select value from effect";

pub(super) fn consume(
    run: &Run<'_>,
    data: &Path,
    records: u64,
) -> anyhow::Result<(Counts, Effects)> {
    let mut file = data.as_os_str().to_owned();
    file.push(SUFFIX);
    let inbox = SqliteInbox::open(&file)?;
    run.wait(inbox.run(|file| file.execute_batch(TABLE)))?;
    run.careful(inbox, records)
}

impl Stored for SqliteInbox {
    async fn effect(&self, tx: &mut SqliteTx, value: Bytes) -> Result<(), StoreError> {
        let insert = tx.run(move |tx| tx.prepare_cached(INSERT)?.execute([&value[..]]));
        insert.await?.map(drop).map_err(StoreError::backend)
    }

    async fn effects(&self) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        let all = self.run(|file| {
            let mut all = file.prepare(ALL)?;
            let rows = all.query_map([], |row| row.get(0))?;
            rows.collect()
        });
        all.await.map(Some)
    }
}
