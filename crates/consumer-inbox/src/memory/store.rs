//! Claims in memory.

use std::sync::Arc;
use std::time::Duration;

use log_engine::Clock;
use parking_lot::Mutex;

use super::rows::{Rows, sweep};
use crate::admission::{Admission, Held, Receipt, Settlement, Token};
use crate::clock::millis;
use crate::dedup_store::{ClaimRequest, DedupStore, Horizon};
use crate::error::StoreError;
use crate::id_row::IdRow;
use crate::identity::DedupKey;

/// Claims in memory: a bounded number of ids, of which none is dropped to make room. A clone is the same store.
///
/// ```
/// # use std::sync::Arc; use std::time::Duration;
/// use consumer_inbox::{Admission, BizId, DedupKey, DedupStore, Fingerprint, ClaimRequest, MemoryStore, Owners, Scope, Settlement};
/// use log_engine::SystemClock;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let (store, owners) = (MemoryStore::lossy(Arc::new(SystemClock), 100_000), Owners::random());
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
#[derive(Clone)]
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    capacity: usize,
    state: Arc<Mutex<State>>,
}

struct State {
    rows: Rows,
    last_token: u64,
}

impl MemoryStore {
    /// A store of at most so many ids. Leases and windows go by the clock's elapsed time. What it knows ends with the process,
    /// which the name asks the caller to say (E13).
    pub fn lossy(clock: Arc<dyn Clock>, capacity: usize) -> MemoryStore {
        let state = State {
            rows: Rows::default(),
            last_token: 0,
        };
        MemoryStore {
            clock,
            capacity,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// How many ids it knows.
    pub fn len(&self) -> usize {
        self.state.lock().rows.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn claimed(&self, request: &ClaimRequest<'_>) -> Result<Admission<Held>, StoreError> {
        let mut state = self.state.lock();
        let now_ms = self.clock.elapsed_ms();
        let row = state.rows.get(request.key);
        let is_new = row.is_none();
        let token = Token::new(state.last_token + 1).ok_or(StoreError::Full)?;
        let floor_ms = state.rows.floor(&request.key.scope);
        let (answer, changed) = IdRow::claim(row, request, now_ms, floor_ms, token);
        if let Some(row) = changed {
            if is_new && state.rows.len() >= self.capacity {
                return Err(StoreError::Full);
            }
            state.last_token = state.last_token.max(row.token.get());
            state.rows.put(request.key, row);
        }
        Ok(answer)
    }

    fn change(
        &self,
        held: &Held,
        change: impl FnOnce(&IdRow, u64) -> Result<Option<IdRow>, StoreError>,
    ) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let now_ms = self.clock.elapsed_ms();
        let row = state.rows.get(&held.key);
        let row = row.ok_or(StoreError::Lost(held.token))?;
        if let Some(changed) = change(row, now_ms)? {
            state.rows.put(&held.key, changed);
        }
        Ok(())
    }
}

impl DedupStore for MemoryStore {
    async fn claim(&self, request: ClaimRequest<'_>) -> Result<Admission<Held>, StoreError> {
        self.claimed(&request)
    }

    async fn renew(&self, held: &Held, lease: Duration) -> Result<(), StoreError> {
        self.change(held, |row, now_ms| {
            row.renew(held.token, now_ms, millis(lease)).map(Some)
        })
    }

    async fn settle(&self, held: &Held, how: Settlement) -> Result<(), StoreError> {
        self.change(held, |row, now_ms| row.settle(held.token, how, now_ms))
    }

    async fn peek(&self, key: &DedupKey) -> Result<Option<Receipt>, StoreError> {
        Ok(self.state.lock().rows.get(key).and_then(IdRow::receipt))
    }

    async fn ids(&self) -> Result<Option<u64>, StoreError> {
        Ok(u64::try_from(self.state.lock().rows.len()).ok())
    }

    async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        Ok(sweep(max, |max, from| {
            let now_ms = self.clock.elapsed_ms();
            self.state.lock().rows.sweep_piece(below, now_ms, max, from)
        }))
    }
}
