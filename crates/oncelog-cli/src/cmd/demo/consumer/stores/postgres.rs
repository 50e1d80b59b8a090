//! In a schema of its own, which is removed in the end.

use anyhow::Context as _;
use bytes::Bytes;
use oncelog::inbox::{PgInbox, PgOptions, PgTx, StoreError};
use tokio_postgres::NoTls;
use tokio_postgres::types::Type;

use super::Stored;
use super::server::{name, runtime};
use crate::cmd::demo::consumer::drive::Counts;
use crate::cmd::demo::consumer::{Effects, Run};

const TABLE: &str = "create table effect (value bytea not null)";
const INSERT: &str = "insert into effect (value) values ($1)";
const ALL: &str = "select value from effect";

pub(super) fn consume(run: &Run<'_>, url: &str, records: u64) -> anyhow::Result<(Counts, Effects)> {
    let runtime = runtime()?;
    let _entered = runtime.enter();
    let schema = name();
    let admin = async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        let create = format!("create schema {schema}");
        client.batch_execute(&create).await?;
        Ok::<_, tokio_postgres::Error>(client)
    };
    let admin = run
        .wait(admin)
        .context("--url: the server was not reached")?;
    let consumed = consume_in(run, url, &schema, records);
    // Also when the run was interrupted, so this one is not.
    let remove = format!("drop schema {schema} cascade");
    let removed = runtime.block_on(admin.batch_execute(&remove));
    let consumed = consumed?;
    removed.with_context(|| format!("the schema {schema} is left on the server"))?;
    Ok(consumed)
}

fn consume_in(
    run: &Run<'_>,
    url: &str,
    schema: &str,
    records: u64,
) -> anyhow::Result<(Counts, Effects)> {
    let more = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{more}options=-c%20search_path%3D{schema}");
    // What dies here are consumers: a server of any setting will do.
    let inbox = run.wait(PgInbox::connect(&url, PgOptions::new().lossy()))?;
    let client = run.wait(inbox.pool().get())?;
    run.wait(client.batch_execute(TABLE))?;
    drop(client);
    run.careful(inbox, records)
}

impl Stored for PgInbox {
    async fn effect(&self, tx: &mut PgTx, value: Bytes) -> Result<(), StoreError> {
        let insert = tx
            .execute_typed(INSERT, &[(&&value[..], Type::BYTEA)])
            .await;
        insert.map(drop).map_err(StoreError::backend)
    }

    async fn effects(&self) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        let client = self.pool().get().await.map_err(StoreError::backend)?;
        let rows = client.query(ALL, &[]).await.map_err(StoreError::backend)?;
        Ok(Some(rows.iter().map(|row| row.get(0)).collect()))
    }
}
