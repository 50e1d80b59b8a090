//! Effects outside of any transaction, under a claim (M8, M11, M12).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::error::RunError;
use super::guard::guarded;
use super::job::{Cut, Job, Lease, NoLease, Shared, Work};
use super::metrics::count;
use super::outcome::{
    Cause, Ended, Fate, First, Then, Verdict, after_admission, after_handler, after_verify,
    before_handler,
};
use super::policy::{OnUnknown, Policy};
use crate::admission::{Admission, Held, Prior, Settlement, Token};
use crate::clock::millis;
use crate::dedup_store::{DedupStore, Horizon};
use crate::error::StoreError;
use crate::failpoints::Point;
use crate::handler::{ClaimCx, Handler, HandlerError, Verified};
use crate::identity::Part;

/// A consumer over a store of claims.
pub struct Claimed<S, H> {
    pub(crate) store: S,
    pub(crate) policy: Policy,
    pub(crate) handler: H,
}

struct StoreLease<'a, S> {
    store: &'a S,
    held: &'a Held,
    lease: Duration,
}

impl<S: DedupStore> Lease for StoreLease<'_, S> {
    async fn renew(&self) -> Result<Duration, StoreError> {
        self.store.renew(self.held, self.lease).await?;
        Ok(self.lease)
    }
}

/// What a handler under a lease came to.
enum Came {
    To(Verdict),
    /// What a crashed attempt left was not cleared up. The claim is left to run out, so that the next one is told of the crash
    /// again.
    Uncleared(Option<Duration>),
    /// The same, and the consumer stops.
    Stop(RunError),
}

impl<S: DedupStore, H: Handler<ClaimCx>> Claimed<S, H> {
    fn lease(&self, job: &Job) -> Duration {
        match self.policy {
            Policy::Lease { lease, .. } => lease,
            Policy::Before | Policy::After => {
                let settings = job.settings();
                settings.visibility.saturating_add(settings.margin)
            }
        }
    }

    /// Claims the id: the claim, and until when it holds by this consumer's clock.
    async fn claim(&self, job: &Job) -> Result<(Admission<Held>, u64), Fate> {
        let (owner, lease) = (job.shared.owners.next(), self.lease(job));
        let asked_ms = AtomicU64::new(0);
        let claimed = job.persist(|| {
            asked_ms.store(job.now_ms(), Ordering::Relaxed);
            self.store.claim(job.delivery.claim(owner, lease))
        });
        let answer = claimed.await?;
        job.note(&answer, |held| held.prior);
        let deadline_ms = asked_ms
            .load(Ordering::Relaxed)
            .saturating_add(millis(lease));
        Ok((answer, deadline_ms))
    }

    async fn settle(&self, job: &Job, held: &Held, how: Settlement) -> Result<(), Fate> {
        job.persist(|| self.store.settle(held, how.clone())).await
    }

    async fn leased(&self, job: &Job) -> Result<Fate, Fate> {
        job.at(Point::C0).await?;
        let (answer, deadline_ms) = self.claim(job).await?;
        let held = after_admission(answer, job.delivery.deliveries())?;
        job.at(Point::C1).await?;
        // By the store, which counts what was begun. The log counts also those that died in the queue beside one that was.
        let attempt = held.attempt;
        let attempts = job.settings().retry.attempts;
        let exhausted = (attempt > attempts).then(|| Cause::exhausted(attempts));
        let refused = job.given_up.clone().or(exhausted);
        if let Some(cause) = refused {
            self.settle(job, &held, Settlement::Parked).await?;
            return Ok(Fate::Park(cause));
        }
        let lease = StoreLease {
            store: &self.store,
            held: &held,
            lease: self.lease(job),
        };
        let effect = self.effect(job, &held, deadline_ms, attempt);
        let verdict = match job.beating(&lease, deadline_ms, effect).await {
            Ok(Came::To(verdict)) => verdict,
            Ok(Came::Uncleared(after)) => {
                let after = after.unwrap_or_else(|| job.shared.pause(attempt));
                let is_counted = true;
                return Ok(Fate::Again { after, is_counted });
            }
            Ok(Came::Stop(error)) => return Ok(Fate::Stop(error)),
            Err(cut) => {
                // Whoever wants to know of a half effect waits until the claim runs out.
                if cut == Cut::Stopped && job.settings().on_unknown == OnUnknown::Run {
                    let _ = self.store.settle(&held, Settlement::Released).await;
                }
                return Ok(job.cut(cut));
            }
        };
        job.at(Point::C3).await?;
        self.settle(job, &held, verdict.settlement()).await?;
        job.at(Point::C4).await?;
        Ok(job.fate(verdict, attempt))
    }

    async fn effect(&self, job: &Job, held: &Held, deadline_ms: u64, attempt: u32) -> Came {
        let first = before_handler(held.prior, job.settings().on_unknown);
        if let Some(came) = self.clear_up(job, first, attempt).await {
            return came;
        }
        let ended = self.handle(job, held.clone(), deadline_ms).await;
        Came::To(after_handler(ended, attempt, job.settings().retry.attempts))
    }

    async fn handle(&self, job: &Job, held: Held, deadline_ms: u64) -> Ended {
        count(&job.metrics().runs);
        let mut cx = ClaimCx::new(held, deadline_ms);
        let ended = guarded(self.handler.handle(&mut cx, &job.delivery)).await;
        job.ended(ended)
    }

    /// What comes before the handler; none if that may run.
    async fn clear_up(&self, job: &Job, first: First, attempt: u32) -> Option<Came> {
        let unknown = || {
            let why = "an attempt crashed, and whether its effect happened is not known";
            Some(Came::To(Verdict::Park(Cause::new("outcome-unknown", why))))
        };
        let then = match first {
            First::Run => return None,
            First::Park => return unknown(),
            First::Compensate => Then::Compensate,
            First::Verify { or_park } => {
                let said = guarded(self.handler.verify(&job.delivery)).await;
                match said {
                    Ok(Ok(said)) => {
                        let metrics = job.metrics();
                        count(match &said {
                            Verified::Applied(_) => &metrics.verified_applied,
                            Verified::NotApplied => &metrics.verified_not_applied,
                            Verified::Unknown => &metrics.verified_unknown,
                        });
                        after_verify(said, or_park)
                    }
                    failed => {
                        return Some(uncleared(job, failed.map(|done| done.map(drop)), attempt));
                    }
                }
            }
        };
        match then {
            Then::Run => None,
            Then::Done(result) => Some(Came::To(Verdict::Done(result))),
            Then::Park => unknown(),
            Then::Compensate => {
                let done = guarded(self.handler.compensate(&job.delivery)).await;
                match done {
                    Ok(Ok(())) => None,
                    failed => Some(uncleared(job, failed, attempt)),
                }
            }
        }
    }

    // The mark first: whatever happens afterwards, the id is done.
    async fn before(&self, job: &Job) -> Result<Fate, Fate> {
        job.at(Point::C0).await?;
        let (answer, deadline_ms) = self.claim(job).await?;
        let held = after_admission(answer, job.delivery.deliveries())?;
        if let Some(cause) = &job.given_up {
            self.settle(job, &held, Settlement::Parked).await?;
            return Ok(Fate::Park(cause.clone()));
        }
        self.settle(job, &held, Settlement::Done(None)).await?;
        job.at(Point::C1).await?;
        let work = self.handle(job, held, deadline_ms);
        let ended = job.beating(&NoLease, u64::MAX, work).await;
        // There is no other attempt: the next delivery is told that it is done.
        let ended = ended.map_err(|cut| match cut {
            Cut::Gone => Fate::Gone,
            Cut::Lapsed | Cut::Stopped => Fate::Ack,
        })?;
        job.at(Point::C3).await?;
        Ok(job.fate(after_handler(ended, 1, 1), 1))
    }

    // The mark last. Nobody is kept out, but whoever marks second is told.
    async fn after(&self, job: &Job) -> Result<Fate, Fate> {
        job.at(Point::C0).await?;
        let (attempt, attempts) = (job.attempts_seen(), job.settings().retry.attempts);
        let found = job
            .persist(|| self.store.peek(job.delivery.dedup_key()))
            .await?;
        if let Some(receipt) = found {
            job.note(&Admission::<Held>::Done(receipt), |held| held.prior);
            return Ok(Fate::Ack);
        }
        let exhausted = (attempt > attempts).then(|| Cause::exhausted(attempts));
        let refused = job.given_up.clone().or(exhausted);
        let verdict = match refused {
            Some(cause) => Verdict::Park(cause),
            None => {
                let unclaimed = Held {
                    key: job.delivery.dedup_key().clone(),
                    token: Token::NONE,
                    attempt,
                    prior: Prior::New,
                };
                let work = self.handle(job, unclaimed, u64::MAX);
                let ended = job.beating(&NoLease, u64::MAX, work).await;
                after_handler(ended.map_err(|cut| job.cut(cut))?, attempt, attempts)
            }
        };
        if matches!(verdict, Verdict::Again(_) | Verdict::Stop(_)) {
            return Ok(job.fate(verdict, attempt));
        }
        job.at(Point::C3).await?;
        let mut n = 0_u32;
        loop {
            match self.claim(job).await?.0 {
                Admission::Run(held) => {
                    self.settle(job, &held, verdict.settlement()).await?;
                    break;
                }
                // Somebody marks it just now, and soon has: the lease is only for one that died there.
                Admission::Busy { retry_after } => {
                    n = n.saturating_add(1);
                    let pause = retry_after.min(job.shared.pause(n));
                    job.pause(Some(pause), n).await?;
                }
                Admission::Done(_) => {
                    if matches!(verdict, Verdict::Done(_)) {
                        count(&job.metrics().races);
                    }
                    break;
                }
                other => {
                    return after_admission(other, job.delivery.deliveries()).map(|_| Fate::Ack);
                }
            }
        }
        job.at(Point::C4).await?;
        Ok(job.fate(verdict, attempt))
    }
}

// Verifying or compensating failed, or panicked.
fn uncleared(job: &Job, failed: Result<Result<(), HandlerError>, String>, attempt: u32) -> Came {
    let ended = job.ended(failed.map(|done| done.map(|()| None)));
    match after_handler(ended, attempt, job.settings().retry.attempts) {
        Verdict::Again(after) => Came::Uncleared(after),
        Verdict::Stop(error) => Came::Stop(error),
        verdict => Came::To(verdict),
    }
}

impl<S: DedupStore, H: Handler<ClaimCx>> Work for Claimed<S, H> {
    async fn assign(&self, _: &Part, _: u64) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    fn begin(&self, _: &Part, _: u64, _: u64) {}

    fn delivered(&self, _: &Part, _: u64, _: u64) {}

    async fn run(&self, jobs: &[Job]) -> Vec<Fate> {
        let mut fates = Vec::with_capacity(jobs.len());
        for job in jobs {
            let fate = match self.policy {
                Policy::Lease { .. } => self.leased(job).await,
                Policy::Before => self.before(job).await,
                Policy::After => self.after(job).await,
            };
            fates.push(fate.unwrap_or_else(|fate| fate));
        }
        fates
    }

    async fn forward(&self, _: &Shared) -> Result<usize, RunError> {
        Ok(0)
    }

    fn has_outbox(&self) -> bool {
        false
    }

    fn remembers(&self) -> bool {
        true
    }

    async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        self.store.sweep(below, max).await
    }

    async fn ids(&self) -> Result<Option<u64>, StoreError> {
        self.store.ids().await
    }
}
