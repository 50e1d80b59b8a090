//! Claims on ids, with leases and fencing tokens: the first of four traits.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::admission::{Admission, Held, Receipt, Settlement};
use crate::error::StoreError;
use crate::identity::{DedupKey, Fingerprint, Position, Scope};

/// Who wants to work on what.
#[derive(Debug, Clone, Copy)]
pub struct ClaimRequest<'a> {
    /// On what.
    pub key: &'a DedupKey,
    /// A random number of the delivery attempt, not of the process: two deliveries in one process
    /// exclude each other, too. The same number again is the same claim (E2).
    pub owner: u128,
    /// Of the payload.
    pub fingerprint: Fingerprint,
    /// How long nobody else may claim it, by the store's clock (E12).
    pub lease: Duration,
    /// Whether a parked id is admitted.
    pub redrive: bool,
    /// When the log first stored the record, ms since 1970. None if nobody knows: then it is never
    /// [`Admission::Expired`], and an id that was forgotten runs again.
    pub origin_ms: Option<u64>,
    /// Where the record is, so that the id is kept while that can be delivered. None for locks.
    pub position: Option<Position<'a>>,
}

impl<'a> ClaimRequest<'a> {
    /// A claim with neither origin time nor position.
    pub fn new(
        key: &'a DedupKey,
        owner: u128,
        fingerprint: Fingerprint,
        lease: Duration,
    ) -> ClaimRequest<'a> {
        ClaimRequest {
            key,
            owner,
            fingerprint,
            lease,
            redrive: false,
            origin_ms: None,
            position: None,
        }
    }
}

/// Which ids of a scope may be forgotten (E11): all conditions at once.
#[derive(Debug, Clone)]
pub struct Horizon {
    /// Of which scope.
    pub scope: Scope,
    /// The first offset of each partition that feeds the scope. An id stays while its record's offset
    /// is there or above, or its partition is not named.
    pub log_starts: BTreeMap<(Arc<str>, u32), u64>,
    /// How long after an id was settled its fact may be published again. By the store's clock.
    pub republish_window: Duration,
    /// An id stays if its origin time is this or later: the oldest origin time of records not consumed
    /// yet in any partition, or what the log's clock says if there are none. ms since 1970.
    pub origin_before_ms: u64,
    /// A parked id stays unless it was settled longer ago than this, by the store's clock: the age of the oldest dead
    /// letter still there. None keeps all that are parked.
    pub parked_longer_than: Option<Duration>,
}

/// A store of claims.
///
/// ```text
///             claim                    settle Done
///  absent ───────────▶ busy(token, until, attempt, prior, fp) ─▶ done(token, fp, result?)
///    ▲                  │  ▲  claim after `until` (token+, attempt+, prior = Crashed)
///    │ sweep            │  └──────────────── busy
///    │                  ├─ settle Released ─▶ free(token, attempt, fp) ── claim ─▶ busy (prior = Released)
///    │                  └─ settle Parked ───▶ parked(token, fp) ── claim{redrive} ─▶ busy (prior = Parked, attempt 1)
///    └── done / free / parked, only below the horizon
/// ```
///
/// `claim` decides in this order, in **one** atomic step of the store: fingerprint, done, parked, busy by
/// this owner, busy by another, floor, grant. [`IdRow`](crate::IdRow) is this in Rust, for stores that
/// can use it.
///
/// Rules beyond that, which the conformance suite checks:
/// * *Only the token counts* at `settle` and `renew`, not the time: a holder whose lease ran out and whom nobody
///   followed may still settle.
/// * *A repeat is no error* (E2): `claim` with the owner of the running claim answers with the same token, attempt and prior
///   and renews the lease; `settle` with the token and kind that settled it is ok and changes nothing.
///   Another kind, and `renew` after `settle`, are [`StoreError::Lost`].
/// * *The newest record counts.* With the answers `Run`, `Done` and `Parked` an id takes over the request's origin time and
///   position, unless its own origin time is newer; otherwise an id whose fact was published again would be forgotten with
///   its first record, and the second would run.
/// * *The floor* of a scope is the newest origin time that was ever swept there, stored in one transaction with the
///   deletion. An absent id with an origin time at or below it is `Expired`.
pub trait DedupStore: Send + Sync + 'static {
    /// Asks for the work on an id.
    fn claim(
        &self,
        request: ClaimRequest<'_>,
    ) -> impl Future<Output = Result<Admission<Held>, StoreError>> + Send;

    /// Lets the claim last for `lease` from now. `Lost` if it is not the current one (E4).
    fn renew(
        &self,
        held: &Held,
        lease: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Writes down how the work ended, as durably as the store promises. `Lost` if the claim is not the current one (E4).
    fn settle(
        &self,
        held: &Held,
        how: Settlement,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// How work on an id ended, if it ended well; claims nothing.
    fn peek(
        &self,
        key: &DedupKey,
    ) -> impl Future<Output = Result<Option<Receipt>, StoreError>> + Send;

    /// How many ids there are, in whatever state; none unless the store knows without counting.
    fn ids(&self) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send {
        async { Ok(None) }
    }

    /// Forgets ids below a horizon, oldest first and at most `max`, and raises the scope's floor in the same step. How many
    /// were forgotten: less than `max` if there are no more.
    fn sweep(
        &self,
        below: &Horizon,
        max: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;
}
