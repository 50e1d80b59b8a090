//! Ids, positions and outgoing records in the log.

use std::collections::BTreeMap;
use std::time::Duration;

use log_engine::Engine;

use super::error::EmbeddedError;
use super::event::Event;
use super::ledger::{EmbeddedCounts, EmbeddedSettings, Found, Shared, Stop, Work, Write};
use super::opening::open;
use super::state::Owned;
use super::tx::{EmbeddedTx, Savepoint, Writes};
use crate::admission::{Admission, Receipt, Settlement, Token};
use crate::dedup_store::Horizon;
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::id_row::{IdRow, IdState, Origin};
use crate::identity::Part;
use crate::inbox::{Inbox, Outgoing};

/// The pause that is asked for while another transaction has an id.
const PAUSE: Duration = Duration::from_millis(10);

/// An inbox in the log, whose effects are records: what it commits, ids, position and outgoing records, is one batch of the log.
/// [`EmbeddedInbox::forward`] takes the outgoing ones to their topics, each once. A clone is the same inbox.
///
/// ```
/// use bytes::Bytes;
/// use consumer_inbox::{Admission, Delivery, EmbeddedInbox, Inbox, Outgoing, Part, Position, Settlement};
/// use log_engine::Engine;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let engine = Engine::in_memory();
/// engine.ensure_topic("invoices", 1)?;
/// let inbox = EmbeddedInbox::open(&engine, "billing")?;
/// let at = Position { topic: "orders", partition: 0, offset: 7 };
/// let order = Delivery::foreign("billing", at, "A-1", &b"two shirts"[..])?;
///
/// inbox.assign(order.part(), 1).await?;
/// let mut tx = inbox.begin(order.part(), 1).await?;
/// if inbox.admit(&mut tx, &order).await? == Admission::Run(()) {
///     let topic = "invoices".into();
///     tx.emit(Outgoing { topic, value: Some(Bytes::from("40 EUR")), ..Outgoing::default() });
///     inbox.settle(&mut tx, &order, Settlement::Done(None)).await?;
/// }
/// inbox.commit(tx, 8).await?;
/// assert_eq!(inbox.forward(100).await?, 1);
/// assert_eq!(engine.topic("invoices")?.describe().records, 1);
/// # Ok::<_, Box<dyn std::error::Error>>(()) })?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct EmbeddedInbox {
    pub(super) ledger: Shared,
}

impl EmbeddedInbox {
    /// The inbox of that name in an engine, made if it is missing. See [`EmbeddedStore::open`](crate::EmbeddedStore::open).
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub fn open(engine: &Engine, name: &str) -> Result<EmbeddedInbox, EmbeddedError> {
        EmbeddedInbox::open_with(engine, name, EmbeddedSettings::default())
    }

    /// As [`EmbeddedInbox::open`], with other than the default settings; an inbox that is open already keeps its own.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub fn open_with(
        engine: &Engine,
        name: &str,
        settings: EmbeddedSettings,
    ) -> Result<EmbeddedInbox, EmbeddedError> {
        let ledger = open(engine, name, settings)?;
        Ok(EmbeddedInbox { ledger })
    }

    /// What it holds.
    pub fn counts(&self) -> EmbeddedCounts {
        self.ledger.counts()
    }

    /// Cleans the log and writes a snapshot, each if that is due. [`sweep`](Inbox::sweep) does it, too.
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
}

// The answer, and the newest record that carries the id if that is news.
fn decide(
    work: &mut Work<'_>,
    tx: (&Part, u64, u64, &Writes),
    delivery: &Delivery,
) -> Result<(Admission<()>, Option<Origin>), Stop> {
    let (part, epoch, number, writes) = tx;
    let owned = work.owned_at(part, epoch)?;
    if delivery.offset() < owned.next {
        work.needs(owned.at + 1);
        let (token, result) = (Token::NONE, None);
        return Ok((Admission::Done(Receipt { token, result }), None));
    }
    let key = delivery.dedup_key();
    let row = match writes.ids.get(key) {
        Some(row) => Some(row.clone()),
        None => work.find(key)?.row.map(|(_, row)| row),
    };
    let floor_ms = match row {
        Some(_) => None,
        None => work.floor(&key.scope),
    };
    let request = delivery.claim(0, Duration::ZERO);
    let now_ms = work.now_ms();
    let (answer, changed) = IdRow::claim(row.as_ref(), &request, now_ms, floor_ms, Token::NONE);
    if matches!(answer, Admission::Run(_)) {
        match work.state.open.get(key) {
            Some(other) if *other != number => {
                return Ok((Admission::Busy { retry_after: PAUSE }, None));
            }
            _ => work.state.open.insert(key.clone(), number),
        };
    }
    Ok((answer.map(drop), changed.map(|row| row.origin)))
}

// What a commit writes of ids: each once, in place of the row that it has now.
fn rows(work: &mut Work<'_>, tx: &Writes) -> Result<Vec<Write>, Stop> {
    let mut rows = BTreeMap::new();
    for (key, row) in &tx.ids {
        rows.insert(key, (work.find(key)?, row.clone()));
    }
    for (key, origin) in &tx.seen {
        let (found, row) = match rows.remove(key) {
            Some(mine) => mine,
            None => {
                let found = work.find(key)?;
                // It may have been forgotten since.
                let Some(row) = found.row().cloned() else {
                    continue;
                };
                // The row may have changed since; the origin only moves on.
                if !row.origin.gives_way_to(origin) {
                    continue;
                }
                (found, row)
            }
        };
        let origin = match row.origin.gives_way_to(origin) {
            true => origin.clone(),
            false => row.origin.clone(),
        };
        rows.insert(key, (found, IdRow { origin, ..row }));
    }
    let write =
        |(found, row): (Found, IdRow)| Write::Row(found.digest, found.row_event(row, false));
    Ok(rows.into_values().map(write).collect())
}

impl Inbox for EmbeddedInbox {
    type Tx = EmbeddedTx;

    async fn assign(&self, part: &Part, epoch: u64) -> Result<Option<u64>, StoreError> {
        let assigned = self.ledger.run(|work| {
            let owned = work.state.parts.get(part).copied().unwrap_or_default();
            if epoch < owned.epoch.max(1) {
                let (held, current) = (epoch, owned.epoch);
                return Err(StoreError::Fenced { held, current }.into());
            }
            if epoch == owned.epoch {
                work.needs(owned.at + 1);
            } else {
                let (part, next) = (part.clone(), owned.next);
                let event = Event::Part { part, epoch, next };
                work.write(vec![Write::Other(event)])?;
            }
            Ok((owned.next > 0).then_some(owned.next))
        });
        assigned.await
    }

    async fn begin(&self, part: &Part, epoch: u64) -> Result<EmbeddedTx, StoreError> {
        let begun = self.ledger.run(|work| {
            let owned: Owned = work.owned_at(part, epoch)?;
            work.needs(owned.at + 1);
            work.state.last_tx += 1;
            Ok(work.state.last_tx)
        });
        Ok(EmbeddedTx {
            number: begun.await?,
            part: part.clone(),
            epoch,
            ledger: self.ledger.clone(),
            writes: Writes::default(),
            open: None,
        })
    }

    async fn admit(
        &self,
        tx: &mut EmbeddedTx,
        delivery: &Delivery,
    ) -> Result<Admission<()>, StoreError> {
        if tx.open.is_some() {
            let why = "admit before the last delivery was settled";
            return Err(StoreError::Misuse(why));
        }
        if *delivery.part() != tx.part {
            let why = "a delivery of another partition than the transaction's";
            return Err(StoreError::Misuse(why));
        }
        let place = (&tx.part, tx.epoch, tx.number, &tx.writes);
        let decided = self.ledger.run(|work| decide(work, place, delivery));
        let (answer, newest) = decided.await?;
        let key = delivery.dedup_key().clone();
        match (&answer, newest) {
            (Admission::Run(()), newest) => {
                tx.open = Some(Savepoint {
                    key,
                    origin: newest.unwrap_or_default(),
                    before: tx.writes.clone(),
                });
            }
            (_, Some(newest)) => tx.writes.seen.push((key, newest)),
            (_, None) => {}
        }
        Ok(answer)
    }

    async fn settle(
        &self,
        tx: &mut EmbeddedTx,
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
                self.ledger.state.lock().open.remove(key);
            }
            return Ok(());
        }
        let row = IdRow {
            state: IdState::settled(how, self.ledger.now_ms()),
            token: Token::NONE,
            attempt: delivery.deliveries(),
            fingerprint: delivery.fingerprint(),
            origin: savepoint.origin,
        };
        tx.writes.ids.insert(key.clone(), row);
        Ok(())
    }

    async fn emit(&self, tx: &mut EmbeddedTx, record: Outgoing) -> Result<(), StoreError> {
        tx.emit(record);
        Ok(())
    }

    async fn commit(&self, tx: EmbeddedTx, next: u64) -> Result<(), StoreError> {
        if tx.open.is_some() {
            let why = "commit before the last delivery was settled";
            return Err(StoreError::Misuse(why));
        }
        let committed = self.ledger.run(|work| {
            let owned = work.owned_at(&tx.part, tx.epoch)?;
            work.needs(owned.at + 1);
            let mut writes = Vec::new();
            if next > owned.next {
                let (part, epoch) = (tx.part.clone(), tx.epoch);
                writes.push(Write::Other(Event::Part { part, epoch, next }));
            }
            writes.extend(rows(work, &tx.writes)?);
            for record in &tx.writes.outgoing {
                let (number, record) = (None, record.clone());
                writes.push(Write::Other(Event::Output { number, record }));
            }
            if !writes.is_empty() {
                work.write(writes)?;
            }
            Ok(())
        });
        committed.await
    }

    async fn outgoing(&self, max: usize) -> Result<Vec<(u64, Outgoing)>, StoreError> {
        self.ledger.outgoing(max).await
    }

    async fn forwarded(&self, through: u64) -> Result<(), StoreError> {
        self.ledger.forwarded(through).await
    }

    fn sender(&self) -> String {
        self.ledger.sender()
    }

    async fn ids(&self) -> Result<Option<u64>, StoreError> {
        Ok(u64::try_from(self.counts().ids).ok())
    }

    async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        self.ledger.sweep(below, max).await
    }
}
