//! Effect, id and position in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use log_engine::Clock;
use parking_lot::Mutex;

use super::rows::{Rows, sweep};
use super::tx::{MemoryTx, Savepoint, Writes};
use crate::admission::{Admission, Receipt, Settlement, Token};
use crate::clock::Owners;
use crate::dedup_store::Horizon;
use crate::delivery::Delivery;
use crate::entity::{EntityRow, Versioned};
use crate::error::StoreError;
use crate::id_row::{IdRow, IdState};
use crate::identity::{DedupKey, Part};
use crate::inbox::{Inbox, Outgoing};

/// The pause that is asked for while another transaction has an id.
const PAUSE: Duration = Duration::from_millis(10);

/// An inbox whose effects are entities in memory. Everything ends with the process; a clone is the same inbox.
///
/// ```
/// # use std::sync::Arc; use bytes::Bytes;
/// use consumer_inbox::{Amount, Change, Delivery, EntityStore, Expect, Handler, HandlerError, Inbox, MemoryInbox, MemoryTx, Position, Processed};
/// use log_engine::SystemClock;
///
/// struct Count;
/// impl Handler<MemoryTx> for Count {
///     async fn handle(&self, tx: &mut MemoryTx, order: &Delivery) -> Result<Option<Bytes>, HandlerError> {
///         let one_more = Change::amount(Amount::Add(1));
///         match tx.store(b"orders", Expect::Any, one_more).await {
///             Ok(_) => Ok(None),
///             Err(_) => Err(HandlerError::Retry { after: None }),
///         }
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let inbox = MemoryInbox::lossy(Arc::new(SystemClock));
/// let (topic, partition) = ("orders", 0);
/// for (offset, expected) in [(7, Processed::Done), (7, Processed::Duplicate), (9, Processed::Duplicate)] {
///     let order = Delivery::foreign("billing", Position { topic, partition, offset }, "A-1", &b"body"[..])?;
///     assert_eq!(inbox.process(&order, &Count).await?, expected);
/// }
/// assert_eq!(inbox.entity(b"orders").unwrap().amount, 1);
/// # Ok::<_, Box<dyn std::error::Error>>(()) })?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct MemoryInbox {
    clock: Arc<dyn Clock>,
    sender: Arc<str>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
pub(super) struct Shared {
    rows: Rows,
    parts: HashMap<Part, Owned>,
    pub(super) entities: HashMap<Vec<u8>, EntityRow>,
    /// Which transaction has which id.
    pub(super) open: HashMap<DedupKey, u64>,
    outgoing: BTreeMap<u64, Outgoing>,
    last_outgoing: u64,
    last_tx: u64,
}

#[derive(Clone, Copy, Default)]
struct Owned {
    epoch: u64,
    next: u64,
}

impl Shared {
    fn owned_at(&self, part: &Part, held: u64) -> Result<Owned, StoreError> {
        let owned = self.parts.get(part).copied().unwrap_or_default();
        let current = owned.epoch;
        match current == held {
            true => Ok(owned),
            false => Err(StoreError::Fenced { held, current }),
        }
    }
}

impl MemoryInbox {
    /// An empty inbox. Windows go by the clock's elapsed time.
    pub fn lossy(clock: Arc<dyn Clock>) -> MemoryInbox {
        MemoryInbox {
            clock,
            // Its numbers begin anew with each inbox.
            sender: format!("inbox-{:032x}", Owners::random().next()).into(),
            shared: Arc::default(),
        }
    }

    /// An entity, as committed.
    pub fn entity(&self, id: &[u8]) -> Option<Versioned> {
        let shared = self.shared.lock();
        shared.entities.get(id).and_then(EntityRow::entity)
    }
}

impl Inbox for MemoryInbox {
    type Tx = MemoryTx;

    async fn assign(&self, part: &Part, epoch: u64) -> Result<Option<u64>, StoreError> {
        let mut shared = self.shared.lock();
        let owned = shared.parts.entry(part.clone()).or_default();
        if epoch < owned.epoch.max(1) {
            let (held, current) = (epoch, owned.epoch);
            return Err(StoreError::Fenced { held, current });
        }
        owned.epoch = epoch;
        Ok((owned.next > 0).then_some(owned.next))
    }

    async fn begin(&self, part: &Part, epoch: u64) -> Result<MemoryTx, StoreError> {
        let mut shared = self.shared.lock();
        shared.owned_at(part, epoch)?;
        shared.last_tx += 1;
        Ok(MemoryTx {
            number: shared.last_tx,
            part: part.clone(),
            epoch,
            shared: self.shared.clone(),
            writes: Writes::default(),
            open: None,
        })
    }

    async fn admit(
        &self,
        tx: &mut MemoryTx,
        delivery: &Delivery,
    ) -> Result<Admission<()>, StoreError> {
        if tx.open.is_some() {
            return Err(StoreError::Misuse(
                "admit before the last delivery was settled",
            ));
        }
        if *delivery.part() != tx.part {
            return Err(StoreError::Misuse(
                "a delivery of another partition than the transaction's",
            ));
        }
        let mut shared = self.shared.lock();
        let owned = shared.owned_at(&tx.part, tx.epoch)?;
        if delivery.offset() < owned.next {
            let (token, result) = (Token::NONE, None);
            return Ok(Admission::Done(Receipt { token, result }));
        }
        let key = delivery.dedup_key();
        let request = delivery.claim(0, Duration::ZERO);
        let floor_ms = shared.rows.floor(&key.scope);
        let row = tx.writes.ids.get(key).or_else(|| shared.rows.get(key));
        let now_ms = self.clock.elapsed_ms();
        let (answer, changed) = IdRow::claim(row, &request, now_ms, floor_ms, Token::NONE);
        let newest = changed.map(|row| row.origin);
        match (&answer, newest) {
            (Admission::Run(_), newest) => {
                if shared
                    .open
                    .get(key)
                    .is_some_and(|tx_number| *tx_number != tx.number)
                {
                    return Ok(Admission::Busy { retry_after: PAUSE });
                }
                shared.open.insert(key.clone(), tx.number);
                let before = tx.writes.clone();
                tx.open = Some(Savepoint {
                    key: key.clone(),
                    origin: newest.unwrap_or_default(),
                    before,
                });
            }
            (_, Some(newest)) => tx.writes.seen.push((key.clone(), newest)),
            (_, None) => {}
        }
        Ok(answer.map(drop))
    }

    async fn settle(
        &self,
        tx: &mut MemoryTx,
        delivery: &Delivery,
        how: Settlement,
    ) -> Result<(), StoreError> {
        let key = delivery.dedup_key();
        let is_it = |open: &mut Savepoint| open.key == *key;
        let Some(savepoint) = tx.open.take_if(is_it) else {
            return Err(StoreError::Misuse("settle of what was not admitted"));
        };
        if !matches!(how, Settlement::Done(_)) {
            tx.writes = savepoint.before;
        }
        if how == Settlement::Released {
            if !tx.writes.ids.contains_key(key) {
                self.shared.lock().open.remove(key);
            }
            return Ok(());
        }
        let row = IdRow {
            state: IdState::settled(how, self.clock.elapsed_ms()),
            token: Token::NONE,
            attempt: delivery.deliveries(),
            fingerprint: delivery.fingerprint(),
            origin: savepoint.origin,
        };
        tx.writes.ids.insert(key.clone(), row);
        Ok(())
    }

    async fn emit(&self, tx: &mut MemoryTx, record: Outgoing) -> Result<(), StoreError> {
        tx.writes.outgoing.push(record);
        Ok(())
    }

    async fn commit(&self, mut tx: MemoryTx, next: u64) -> Result<(), StoreError> {
        if tx.open.is_some() {
            return Err(StoreError::Misuse(
                "commit before the last delivery was settled",
            ));
        }
        let writes = std::mem::take(&mut tx.writes);
        let mut shared = self.shared.lock();
        shared.owned_at(&tx.part, tx.epoch)?;
        let moved = |(id, (first, _)): (&Vec<u8>, &(u64, EntityRow))| {
            shared.entities.get(id).map_or(0, |row| row.version) != *first
        };
        if writes.entities.iter().any(moved) {
            return Err(StoreError::Conflict);
        }
        for (id, (first, row)) in writes.entities {
            if row.version != first {
                shared.entities.insert(id, row);
            }
        }
        for (key, row) in writes.ids {
            shared.rows.put(&key, row);
        }
        for (key, origin) in writes.seen {
            // The row may have changed since; the origin only moves on.
            let row = shared.rows.get(&key).cloned();
            if let Some(row) = row.filter(|row| row.origin.gives_way_to(&origin)) {
                shared.rows.put(&key, IdRow { origin, ..row });
            }
        }
        for record in writes.outgoing {
            shared.last_outgoing += 1;
            let number = shared.last_outgoing;
            shared.outgoing.insert(number, record);
        }
        if let Some(owned) = shared.parts.get_mut(&tx.part) {
            owned.next = owned.next.max(next);
        }
        Ok(())
    }

    async fn outgoing(&self, max: usize) -> Result<Vec<(u64, Outgoing)>, StoreError> {
        let shared = self.shared.lock();
        let first = shared.outgoing.iter().take(max);
        Ok(first.map(|(n, record)| (*n, record.clone())).collect())
    }

    fn sender(&self) -> String {
        self.sender.to_string()
    }

    async fn forwarded(&self, through: u64) -> Result<(), StoreError> {
        let mut shared = self.shared.lock();
        shared.outgoing.retain(|number, _| *number > through);
        Ok(())
    }

    async fn ids(&self) -> Result<Option<u64>, StoreError> {
        Ok(u64::try_from(self.shared.lock().rows.len()).ok())
    }

    async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        Ok(sweep(max, |max, from| {
            let now_ms = self.clock.elapsed_ms();
            self.shared
                .lock()
                .rows
                .sweep_piece(below, now_ms, max, from)
        }))
    }
}
