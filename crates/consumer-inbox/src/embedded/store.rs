//! Claims in the log.

use std::sync::Arc;
use std::time::Duration;

use log_engine::Engine;

use super::error::EmbeddedError;
use super::event::token_at;
use super::ledger::{EmbeddedCounts, EmbeddedSettings, Shared, Stop};
use super::opening::open;
use crate::admission::{Admission, Held, Receipt, Settlement};
use crate::clock::millis;
use crate::dedup_store::{ClaimRequest, DedupStore, Horizon};
use crate::error::StoreError;
use crate::id_row::IdRow;
use crate::identity::DedupKey;

/// Claims in the log: durable when they are answered, and gone with nothing but the log. A clone is the same store.
///
/// Tokens are offsets, leases go by the engine's time. A claim that was running when the process died is claimable at once,
/// with prior [`Crashed`](crate::Prior::Crashed): one process has the directory. About 42 bytes of memory an id.
///
/// After [`StoreError::Unknown`] of a disk that failed, the engine must be opened again; until then every call says that, or
/// [`StoreError::Unavailable`].
///
/// ```
/// # use std::time::Duration;
/// use consumer_inbox::{Admission, BizId, ClaimRequest, DedupKey, DedupStore, EmbeddedStore, Fingerprint, Owners, Scope, Settlement};
/// use log_engine::Engine;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let (store, owners) = (EmbeddedStore::open(&Engine::in_memory(), "billing")?, Owners::random());
/// let key = DedupKey::new(Scope::new("billing", "orders"), BizId::new("A-1")?);
/// let claim = || ClaimRequest::new(&key, owners.next(), Fingerprint::of(b"body"), Duration::from_secs(30));
///
/// let held = store.claim(claim()).await?.granted().ok_or("somebody else has it")?;
/// // … the effect …
/// store.settle(&held, Settlement::Done(None)).await?;
/// assert!(matches!(store.claim(claim()).await?, Admission::Done(_)));
/// # Ok::<_, Box<dyn std::error::Error>>(()) })?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct EmbeddedStore {
    ledger: Shared,
}

impl EmbeddedStore {
    /// The store of that name in an engine, made if it is missing. A second opening gives the same store; so does
    /// [`EmbeddedInbox::open`](crate::EmbeddedInbox::open). Reads the log on this thread: about a second for a million ids without a snapshot.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub fn open(engine: &Engine, name: &str) -> Result<EmbeddedStore, EmbeddedError> {
        EmbeddedStore::open_with(engine, name, EmbeddedSettings::default())
    }

    /// As [`EmbeddedStore::open`], with other than the default settings; a store that is open already keeps its own.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub fn open_with(
        engine: &Engine,
        name: &str,
        settings: EmbeddedSettings,
    ) -> Result<EmbeddedStore, EmbeddedError> {
        let ledger = open(engine, name, settings)?;
        Ok(EmbeddedStore { ledger })
    }

    /// What it holds.
    pub fn counts(&self) -> EmbeddedCounts {
        self.ledger.counts()
    }

    /// Whether the other is the same store.
    pub fn is_same(&self, other: &EmbeddedStore) -> bool {
        Arc::ptr_eq(&self.ledger, &other.ledger)
    }

    /// Cleans the log and writes a snapshot, each if that is due. [`sweep`](DedupStore::sweep) does it, too.
    ///
    /// # Errors
    /// [`StoreError`]; what is stored is as it was.
    pub async fn tidy(&self) -> Result<(), StoreError> {
        self.ledger.tidy().await
    }

    /// Writes a snapshot now, so that the next opening is quick. Whether it did: not while another call does.
    ///
    /// # Errors
    /// [`StoreError`]; the one before still counts.
    pub async fn snapshot(&self) -> Result<bool, StoreError> {
        self.ledger.snapshot().await
    }

    async fn change(
        &self,
        held: &Held,
        change: impl Fn(&IdRow, u64) -> Result<Option<IdRow>, StoreError> + Send + Sync,
    ) -> Result<(), StoreError> {
        let changed = self.ledger.run(|work| {
            let found = work.find(&held.key)?;
            let row = found.row().ok_or(StoreError::Lost(held.token))?;
            if let Some(changed) = change(row, work.now_ms())? {
                work.put(&found, changed)?;
            }
            Ok::<_, Stop>(())
        });
        changed.await
    }
}

impl DedupStore for EmbeddedStore {
    async fn claim(&self, request: ClaimRequest<'_>) -> Result<Admission<Held>, StoreError> {
        let claimed = self.ledger.run(|work| {
            let found = work.find(request.key)?;
            let token = work.next_token()?;
            let floor_ms = match found.row {
                Some(_) => None,
                None => work.floor(&request.key.scope),
            };
            let now_ms = work.now_ms();
            let (mut answer, changed) =
                IdRow::claim(found.row(), &request, now_ms, floor_ms, token);
            if let Some(row) = changed {
                let at = work.put(&found, row)?;
                if let Admission::Run(held) = &mut answer
                    && held.token == token
                    && let Some(token) = token_at(at)
                {
                    held.token = token;
                }
            }
            Ok(answer)
        });
        claimed.await
    }

    async fn renew(&self, held: &Held, lease: Duration) -> Result<(), StoreError> {
        let lease_ms = millis(lease);
        self.change(held, |row, now_ms| {
            row.renew(held.token, now_ms, lease_ms).map(Some)
        })
        .await
    }

    async fn settle(&self, held: &Held, how: Settlement) -> Result<(), StoreError> {
        self.change(held, |row, now_ms| {
            row.settle(held.token, how.clone(), now_ms)
        })
        .await
    }

    async fn peek(&self, key: &DedupKey) -> Result<Option<Receipt>, StoreError> {
        let peeked = self.ledger.run(|work| {
            let found = work.find(key)?;
            Ok(found.row().and_then(IdRow::receipt))
        });
        peeked.await
    }

    async fn ids(&self) -> Result<Option<u64>, StoreError> {
        Ok(u64::try_from(self.counts().ids).ok())
    }

    async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        self.ledger.sweep(below, max).await
    }
}
