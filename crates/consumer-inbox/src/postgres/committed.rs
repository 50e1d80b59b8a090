//! What an inbox in PostgreSQL has committed.

use super::inbox::PgInbox;
use super::options::connection;
use super::session::Postgres;
use crate::committed::{CommittedId, CommittedIds, Known};
use crate::error::StoreError;
use crate::identity::{BizId, DedupKey, Position, Scope};
use crate::sql::committed;

impl CommittedIds for PgInbox {
    async fn committed(
        &self,
        scope: &Scope,
        since_ms: u64,
        after: Option<&BizId>,
        max: usize,
    ) -> Result<Vec<CommittedId>, StoreError> {
        let client = connection(self.pool()).await?;
        let mut session = Postgres::new(&**client);
        committed::committed(&mut session, scope, since_ms, after, max).await
    }

    async fn look_up(&self, key: &DedupKey, at: Position<'_>) -> Result<Known, StoreError> {
        let client = connection(self.pool()).await?;
        committed::look_up(&mut Postgres::new(&**client), key, at).await
    }
}
