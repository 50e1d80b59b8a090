//! One delivery at work: its heartbeat, its calls to the store, and how it ends in the log.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use log_engine::{Clock, Engine, GroupError, Member, Receipt};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::error::RunError;
use super::forgetting::{Forgetting, Scenarios};
use super::lanes::{LaneId, Place};
use super::metrics::{Metrics, count};
use super::outcome::{Cause, Fate, Trouble, trouble};
use super::policy::{KeyAfterPark, OnUnknown, Order};
use super::retry::{Chance, Retry};
use crate::admission::{Admission, Prior};
use crate::clock::{Owners, millis};
use crate::dedup_store::Horizon;
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::failpoints::{Point, hit};
use crate::identity::{IdPolicy, Part};

/// The longest delay of a log.
const DELAY_MAX: Duration = Duration::from_secs(12 * 60 * 60);

/// What all deliveries of a consumer share.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) owners: Owners,
    pub(crate) chance: Chance,
    pub(crate) metrics: Arc<Metrics>,
    /// Deliveries that were no attempts, of records that are open.
    pub(crate) uncounted: Mutex<HashMap<Place, u32>>,
    /// Something may have been queued in the inbox.
    pub(crate) queued: Notify,
    /// What names the scopes that are swept.
    pub(crate) scenarios: Scenarios,
    /// How long after its end a fact may be published again.
    pub(crate) window: Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) concurrency: usize,
    /// How many deliveries run together at most.
    pub(crate) batch: usize,
    pub(crate) order: Order,
    pub(crate) visibility: Duration,
    pub(crate) renew_every: Duration,
    pub(crate) margin: Duration,
    pub(crate) drain: Duration,
    pub(crate) retry: Retry,
    /// None: what is given up is dropped.
    pub(crate) dead_letter: Option<Arc<str>>,
    pub(crate) on_unknown: OnUnknown,
    pub(crate) after_park: KeyAfterPark,
    pub(crate) ids: IdPolicy,
    pub(crate) forgetting: Forgetting,
}

impl Shared {
    pub(crate) fn pause(&self, attempt: u32) -> Duration {
        self.settings.retry.pause(attempt, self.chance.next())
    }
}

/// A kind of consumer.
pub(crate) trait Work: Send + Sync + 'static {
    /// Takes a partition over; where to go on, if the store knows.
    fn assign(
        &self,
        part: &Part,
        epoch: u64,
    ) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send;

    /// The partition goes on from there, in this epoch.
    fn begin(&self, part: &Part, epoch: u64, from: u64);

    /// A record was delivered.
    fn delivered(&self, part: &Part, epoch: u64, offset: u64);

    /// Deliveries of one partition, those of one lane in their order, all but what the log is told. A fate for each.
    fn run(&self, jobs: &[Job]) -> impl Future<Output = Vec<Fate>> + Send;

    /// Sends outgoing records; how many.
    fn forward(&self, shared: &Shared) -> impl Future<Output = Result<usize, RunError>> + Send;

    /// Whether there may be outgoing records.
    fn has_outbox(&self) -> bool;

    /// Whether the inbox may hold dead letters that are not in their topic.
    fn has_unsent(&self) -> bool {
        false
    }

    /// Whether it keeps ids, which can be forgotten.
    fn remembers(&self) -> bool;

    /// Forgets ids.
    fn sweep(
        &self,
        below: &Horizon,
        max: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// How many ids there are, if the store knows.
    fn ids(&self) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send;
}

/// Why a handler was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Gone,
    Lapsed,
    Stopped,
}

/// A lease that is renewed together with the visibility.
pub(crate) trait Lease: Sync {
    fn renew(&self) -> impl Future<Output = Result<Duration, StoreError>> + Send;
}

/// No lease: a transaction, or nothing at all.
pub(crate) struct NoLease;

impl Lease for NoLease {
    async fn renew(&self) -> Result<Duration, StoreError> {
        Ok(Duration::MAX)
    }
}

/// How a delivery ended, for its lane.
#[derive(Debug)]
pub(crate) enum End {
    Free,
    /// It is delivered again.
    Wait,
    Parked,
    Stop(RunError),
}

/// A delivery at work.
pub(crate) struct Job {
    pub(crate) shared: Arc<Shared>,
    pub(crate) member: Member,
    pub(crate) receipt: Receipt,
    pub(crate) delivery: Delivery,
    pub(crate) lane: LaneId,
    /// Parked without a run: its key was, or it has no usable id.
    pub(crate) given_up: Option<Cause>,
    /// Until when it is visible to nobody else, elapsed ms.
    pub(crate) until_ms: AtomicU64,
    pub(crate) stop: watch::Receiver<bool>,
}

pub(crate) fn place(receipt: &Receipt) -> Place {
    (receipt.topic.clone(), receipt.partition, receipt.offset)
}

impl Job {
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.shared.clock.elapsed_ms()
    }

    /// Deliveries that were attempts, this one included.
    pub(crate) fn attempts_seen(&self) -> u32 {
        let uncounted = self.shared.uncounted.lock();
        let uncounted = uncounted.get(&place(&self.receipt)).copied();
        let seen = self.receipt.delivery.saturating_sub(uncounted.unwrap_or(0));
        seen.max(1)
    }

    /// Passes a failpoint.
    pub(crate) async fn at(&self, point: Point) -> Result<(), Fate> {
        hit(point).await.map_err(|_| Fate::Lapse)
    }

    /// Counts a store's answer.
    pub(crate) fn note<H>(&self, answer: &Admission<H>, prior: impl Fn(&H) -> Prior) {
        let metrics = self.metrics();
        match answer {
            Admission::Run(held) if prior(held) == Prior::Crashed => count(&metrics.takeovers),
            Admission::Done(_) if self.delivery.deliveries() > 1 => count(&metrics.redeliveries),
            Admission::Done(_) => count(&metrics.republications),
            Admission::Busy { .. } => count(&metrics.busy),
            Admission::Mismatch { .. } => count(&metrics.mismatches),
            Admission::Expired => count(&metrics.expired),
            Admission::Run(_) | Admission::Parked => {}
        }
    }

    fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    async fn stopped(&self) {
        let mut stop = self.stop.clone();
        // The other side is gone: nobody waits for the delivery either.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Pauses before the `n`-th repetition of a call, if the delivery lasts that long.
    pub(crate) async fn pause(&self, asked: Option<Duration>, n: u32) -> Result<(), Fate> {
        let pause = asked.unwrap_or_else(|| self.shared.pause(n));
        let pause = pause.max(Duration::from_millis(1));
        let until_ms = self.until_ms.load(Ordering::Acquire);
        let end_ms = self.now_ms().saturating_add(millis(pause));
        if self.is_stopped() || end_ms.saturating_add(millis(self.settings().margin)) >= until_ms {
            return Err(Fate::Lapse);
        }
        tokio::select! {
            () = sleep(pause) => Ok(()),
            () = self.stopped() => Err(Fate::Lapse),
        }
    }

    /// Sorts a store's error: pauses if the same call is worth repeating, the `n`-th time.
    pub(crate) async fn bear(&self, error: StoreError, n: u32) -> Result<(), Fate> {
        match trouble(error) {
            Trouble::Again(pause) => self.pause(pause, n).await,
            Trouble::Gone => {
                count(&self.metrics().lost);
                Err(Fate::Gone)
            }
            Trouble::Stop(error) => Err(Fate::Stop(error.into())),
        }
    }

    /// Makes a call until the store answers it, while the delivery lasts.
    pub(crate) async fn persist<T, F>(&self, mut call: impl FnMut() -> F + Send) -> Result<T, Fate>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
        T: Send,
    {
        let mut n = 0_u32;
        loop {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            n = n.saturating_add(1);
            self.bear(error, n).await?;
        }
    }

    /// Polls `work` while the heart beats.
    pub(crate) async fn beating<T: Send>(
        &self,
        lease: &impl Lease,
        deadline_ms: u64,
        work: impl Future<Output = T> + Send,
    ) -> Result<T, Cut> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            cut = self.beats(std::slice::from_ref(self), lease, deadline_ms) => Err(cut),
        }
    }

    /// Polls `work` without a lease, and keeps all of these deliveries this consumer's: its own is among them.
    pub(crate) async fn beating_for<T: Send>(
        &self,
        kept: &[Job],
        work: impl Future<Output = T> + Send,
    ) -> Result<T, Cut> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            cut = self.beats(kept, &NoLease, u64::MAX) => Err(cut),
        }
    }

    fn extend(&self, asked_ms: u64) -> Result<(), GroupError> {
        let visibility = self.settings().visibility;
        self.member.extend(&self.receipt, visibility)?;
        let until_ms = asked_ms.saturating_add(millis(visibility));
        self.until_ms.store(until_ms, Ordering::Release);
        Ok(())
    }

    /// Keeps it this consumer's, unless the last heartbeat was a moment ago. If it is somebody else's, its own transaction finds out.
    pub(crate) fn keep(&self) {
        let (now_ms, settings) = (self.now_ms(), self.settings());
        let beat_ms = self.until_ms.load(Ordering::Acquire);
        let beat_ms = beat_ms.saturating_sub(millis(settings.visibility));
        if now_ms >= beat_ms.saturating_add(millis(settings.renew_every / 2)) {
            let _ = self.extend(now_ms);
        }
    }

    async fn beats(&self, kept: &[Job], lease: &impl Lease, mut deadline_ms: u64) -> Cut {
        let settings = self.settings();
        let margin_ms = millis(settings.margin);
        loop {
            let left = |now_ms: u64| {
                let left = deadline_ms.saturating_sub(margin_ms).saturating_sub(now_ms);
                (left > 0).then(|| Duration::from_millis(left))
            };
            let Some(most) = left(self.now_ms()) else {
                return Cut::Lapsed;
            };
            tokio::select! {
                () = sleep(settings.renew_every.min(most)) => {}
                () = self.stopped() => return Cut::Stopped,
            }
            // The deadline counts from before the call (E12).
            let asked_ms = self.now_ms();
            let Some(most) = left(asked_ms) else {
                return Cut::Lapsed;
            };
            if kept.iter().any(|job| job.extend(asked_ms).is_err()) {
                count(&self.metrics().fenced);
                return Cut::Gone;
            }
            match timeout(most, lease.renew()).await {
                Ok(Ok(for_time)) => deadline_ms = asked_ms.saturating_add(millis(for_time)),
                Ok(Err(error)) if error.is_superseded() => {
                    count(&self.metrics().lost);
                    return Cut::Gone;
                }
                // It may come back before the deadline.
                Ok(Err(_)) => {}
                Err(_) => return Cut::Lapsed,
            }
        }
    }

    /// Tells the log how deliveries ended: of what is done, all at once.
    pub(crate) async fn conclude_all(jobs: &[Job], fates: Vec<Fate>) -> Vec<End> {
        let is_done = |fate: &Fate| matches!(fate, Fate::Ack | Fate::Parked);
        let done = jobs.iter().zip(&fates).filter(|(_, fate)| is_done(fate));
        let done: Vec<_> = done.map(|(job, _)| job).collect();
        // On an error none of them is acknowledged; then each finds out for itself.
        let are_acked = match done[..] {
            [first, _, ..] => first.ack(&done).await.is_ok(),
            _ => false,
        };
        let mut ends = Vec::with_capacity(fates.len());
        for (job, fate) in jobs.iter().zip(fates) {
            ends.push(match fate {
                Fate::Ack if are_acked => job.over(End::Free),
                Fate::Parked if are_acked => job.over(End::Parked),
                fate => job.conclude(fate).await,
            });
        }
        ends
    }

    // Nobody asks any more which of its deliveries were attempts.
    fn over(&self, end: End) -> End {
        self.shared.uncounted.lock().remove(&place(&self.receipt));
        end
    }

    /// Tells the log.
    pub(crate) async fn conclude(&self, fate: Fate) -> End {
        let metrics = self.metrics();
        let at = place(&self.receipt);
        let told = match fate {
            Fate::Ack => self.ack(&[self]).await.map(|()| End::Free),
            Fate::Parked => self.ack(&[self]).await.map(|()| End::Parked),
            Fate::Again { after, is_counted } => {
                match is_counted {
                    true => count(&metrics.retries),
                    false => self.uncount(&at),
                }
                let told = self.member.nack(&self.receipt, after.min(DELAY_MAX));
                told.map(|()| End::Wait)
            }
            Fate::Park(cause) => {
                count(&metrics.parked);
                let told = if self.settings().dead_letter.is_some() {
                    let park = self
                        .member
                        .park(&self.receipt, cause.reason, &cause.details);
                    park.await
                } else {
                    count(&metrics.dropped);
                    self.ack(&[self]).await
                };
                told.map(|()| End::Parked)
            }
            Fate::Lapse => {
                count(&metrics.lapsed);
                self.uncount(&at);
                return End::Wait;
            }
            Fate::Gone => return End::Free,
            Fate::Stop(error) => return End::Stop(error),
        };
        match told {
            Ok(End::Wait) => End::Wait,
            Ok(end) => self.over(end),
            // Silently: the record has another delivery.
            Err(
                GroupError::Fenced { .. }
                | GroupError::Superseded { .. }
                | GroupError::NotDelivered { .. },
            ) => {
                count(&metrics.fenced);
                // Its deliveries are counted anew, or by somebody else.
                self.over(End::Free)
            }
            Err(error) => End::Stop(error.into()),
        }
    }

    fn uncount(&self, at: &Place) {
        *self.shared.uncounted.lock().entry(at.clone()).or_default() += 1;
    }

    async fn ack(&self, jobs: &[&Job]) -> Result<(), GroupError> {
        let receipts: Vec<_> = jobs.iter().map(|job| job.receipt.clone()).collect();
        self.member.ack(&receipts).await?;
        // Whatever becomes of the answer, it is done.
        let _ = hit(Point::C5).await;
        Ok(())
    }
}
