//! Effect, id and position in one transaction: the second trait.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use crate::admission::{Admission, Settlement};
use crate::dedup_store::Horizon;
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::handler::Handler;
use crate::identity::Part;
use crate::process::{ProcessError, Processed, process};

/// A record that a transaction sends, if it commits: also each dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outgoing {
    /// Where to.
    pub topic: Arc<str>,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<(Arc<str>, Option<Bytes>)>,
}

/// A store in which the effect, the id and the position change together or not at all (M7).
///
/// One transaction carries deliveries of one partition, one after another: `begin`, then for each `admit`, the handler,
/// `settle`, then `commit`. Its ids are in one of three states: absent, done, parked. There are no leases.
///
/// Rules that the conformance suite checks:
/// * `admit` decides in this order: offset below the stored position (`Done`, whatever is known of the id), fingerprint,
///   done, parked (unless a re-drive), another open transaction has the id (`Busy`, or wait for it, within bounds), floor,
///   run. It sees what the same transaction settled before.
/// * With `Run` it opens a savepoint. `settle` must follow before the next `admit`: `Done` keeps the effect; `Released` takes it
///   back to the savepoint and forgets the id; `Parked` takes it back and marks the id.
/// * `commit` with an admission that was not settled is [`StoreError::Misuse`]. Its guard is the last statement before the
///   commit: the stored epoch is still the transaction's, or `Fenced`, and nothing is written.
/// * `next` never lowers the position; 0 leaves it. It may count only what is committed, plus this transaction.
/// * An id follows the newest record that carried it, as in a [`DedupStore`](crate::DedupStore), and the floor is the same.
pub trait Inbox: Send + Sync + 'static {
    /// A transaction: owned, and rolled back when dropped.
    type Tx: Send + 'static;

    /// Makes `epoch` the partition's epoch, so that every older owner is fenced, and returns the position to seek to; none
    /// if nothing was consumed yet. The same epoch again is ok. Epochs count from 1.
    ///
    /// # Errors
    /// `Fenced` if the stored epoch is greater.
    fn assign(
        &self,
        part: &Part,
        epoch: u64,
    ) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send;

    /// Begins a transaction.
    ///
    /// # Errors
    /// `Fenced` unless `epoch` is the stored one; some stores say so at `commit` only.
    fn begin(
        &self,
        part: &Part,
        epoch: u64,
    ) -> impl Future<Output = Result<Self::Tx, StoreError>> + Send;

    /// Asks whether the handler may run, and opens its savepoint. [`Receipt::token`](crate::Receipt::token) is
    /// [`Token::NONE`](crate::Token::NONE).
    fn admit(
        &self,
        tx: &mut Self::Tx,
        delivery: &Delivery,
    ) -> impl Future<Output = Result<Admission<()>, StoreError>> + Send;

    /// Says how the handler ended, after a `Run`.
    fn settle(
        &self,
        tx: &mut Self::Tx,
        delivery: &Delivery,
        how: Settlement,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Queues a record. Inside a savepoint it goes with the effect; after `settle(Parked)` it is the dead letter, and commits
    /// with the position (E8).
    fn emit(
        &self,
        tx: &mut Self::Tx,
        record: Outgoing,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Commits all of it, or nothing, and raises the position to `next`.
    ///
    /// # Errors
    /// `Fenced`, `Conflict`, `Busy`, `Unavailable`: nothing was written. `Unknown`: ask `admit` in a new transaction.
    fn commit(
        &self,
        tx: Self::Tx,
        next: u64,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Committed records that were not forwarded yet, numbered, lowest first, at most `max`. Numbers are durable by the time they are
    /// returned, and what commits later gets a greater one: they serve as a named producer's source positions, so that each is
    /// stored once. One caller at a time.
    fn outgoing(
        &self,
        max: usize,
    ) -> impl Future<Output = Result<Vec<(u64, Outgoing)>, StoreError>> + Send;

    /// Forgets the outgoing records up to and including that number: they are in their topics.
    fn forwarded(&self, through: u64) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The name of the producer that sends them, of this store and of no other, as long as it counts them: whoever sends uses it, or a record
    /// may be stored twice, or not at all. Two groups over one store send under one name, and take over from each other.
    fn sender(&self) -> String;

    /// How many ids there are, in whatever state; none unless the store knows without counting.
    fn ids(&self) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send {
        async { Ok(None) }
    }

    /// Forgets ids below a horizon, as [`DedupStore::sweep`](crate::DedupStore::sweep) does.
    fn sweep(
        &self,
        below: &Horizon,
        max: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// One delivery in one transaction, for consumers of another log (see [`Delivery::foreign`]). The position is not moved: that
    /// log keeps it. Assigns the delivery's epoch if that is greater than the stored one.
    fn process<H>(
        &self,
        delivery: &Delivery,
        handler: &H,
    ) -> impl Future<Output = Result<Processed, ProcessError>> + Send
    where
        Self: Sized,
        H: Handler<Self::Tx>,
    {
        process(self, delivery, handler)
    }
}

/// Where to seek after [`Inbox::assign`], in a log that has the offsets from `earliest` up to, not including, `end`. None: nothing was consumed
/// yet, begin where the group says.
///
/// # Errors
/// [`StoreError::Gap`] if the stored position is below or above what the log has (E10): records are missing, or the log is an older copy. Never
/// go on behind it silently.
pub fn seek_to(stored: Option<u64>, earliest: u64, end: u64) -> Result<Option<u64>, StoreError> {
    match stored {
        Some(want) if want < earliest => Err(StoreError::Gap {
            want,
            have: earliest,
        }),
        Some(want) if want > end => Err(StoreError::Gap { want, have: end }),
        _ => Ok(stored),
    }
}
