//! Effect, id and position in one transaction (M7).

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use super::error::RunError;
use super::guard::guarded;
use super::job::{Job, Shared, Work};
use super::lanes::LaneId;
use super::metrics::count;
use super::outbox::Outbox;
use super::outcome::{Cause, Fate, Verdict, after_handler, expired, mismatch};
use super::policy::KeyAfterPark;
use super::positions::Positions;
use crate::admission::{Admission, Prior, Settlement};
use crate::dedup_store::Horizon;
use crate::error::StoreError;
use crate::failpoints::Point;
use crate::handler::Handler;
use crate::identity::Part;
use crate::inbox::Inbox;

/// A consumer over an inbox.
pub struct Transactional<I, H> {
    pub(crate) inbox: I,
    pub(crate) handler: H,
    pub(crate) positions: Positions,
    pub(crate) outbox: Outbox,
}

/// Why a transaction did not come to its end: the store, or the fate of a delivery that was alone in it.
enum Broken {
    Store(StoreError),
    Fate(Fate),
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Broken {
        Broken::Store(error)
    }
}

impl From<Fate> for Broken {
    fn from(fate: Fate) -> Broken {
        Broken::Fate(fate)
    }
}

/// What a delivery came to in a transaction, if that is committed.
enum Came {
    Done,
    DoneBefore,
    Parked { is_dropped: bool },
    ParkedBefore,
    Not(Fate),
}

impl Came {
    fn busy(retry_after: Duration) -> Came {
        Came::Not(Fate::Again {
            after: retry_after.max(Duration::from_millis(1)),
            is_counted: false,
        })
    }

    fn is_parked(&self) -> bool {
        matches!(self, Came::Parked { .. } | Came::ParkedBefore)
    }

    fn is_committed(&self) -> bool {
        !matches!(self, Came::Not(_))
    }

    fn fate(self, job: &Job) -> Fate {
        let metrics = job.metrics();
        match self {
            Came::Done => {
                count(&metrics.done);
                Fate::Ack
            }
            Came::DoneBefore => Fate::Ack,
            Came::Parked { is_dropped } => {
                count(&metrics.parked);
                if is_dropped {
                    count(&metrics.dropped);
                }
                Fate::Parked
            }
            Came::ParkedBefore => Fate::Parked,
            Came::Not(fate) => fate,
        }
    }
}

/// Lanes whose later deliveries wait for an earlier one.
#[derive(Default)]
struct Blocked(HashSet<LaneId>);

impl Blocked {
    fn has(&self, job: &Job) -> bool {
        self.0.contains(&job.lane)
    }

    fn note(&mut self, job: &Job, is_acked: bool, is_parked: bool) {
        let parks_too = job.settings().after_park == KeyAfterPark::ParkToo;
        if !is_acked && (!is_parked || parks_too) {
            self.0.insert(job.lane);
        }
    }
}

impl<I: Inbox, H: Handler<I::Tx>> Transactional<I, H> {
    // The id is another record's, and keeps its state: that this one was parked is remembered under its position.
    async fn park_by_position(
        &self,
        job: &Job,
        tx: &mut I::Tx,
        cause: &Cause,
    ) -> Result<Came, Broken> {
        let named = job.delivery.by_position();
        match self.inbox.admit(tx, &named).await? {
            Admission::Run(()) => {
                self.inbox.settle(tx, &named, Settlement::Parked).await?;
                self.park(job, tx, cause).await
            }
            // As old as that, or under the place of another topic of that name, it is not remembered, and may be parked again if the process dies.
            Admission::Expired | Admission::Mismatch { .. } => self.park(job, tx, cause).await,
            Admission::Busy { retry_after } => Ok(Came::busy(retry_after)),
            Admission::Done(_) | Admission::Parked => Ok(Came::ParkedBefore),
        }
    }

    // The dead letter is in the outbox: the log itself has nothing to do but to go on.
    async fn park(&self, job: &Job, tx: &mut I::Tx, cause: &Cause) -> Result<Came, Broken> {
        let letter = job.dead_letter(cause)?;
        let is_dropped = letter.is_none();
        if let Some(letter) = letter {
            self.inbox.emit(tx, letter).await?;
        }
        Ok(Came::Parked { is_dropped })
    }

    // One delivery, all but the commit. `alone`: if it failed, nothing is left to commit.
    async fn one(&self, job: &Job, tx: &mut I::Tx, alone: bool) -> Result<Came, Broken> {
        let (inbox, delivery) = (&self.inbox, &job.delivery);
        let (attempt, attempts) = (job.attempts_seen(), job.settings().retry.attempts);
        let answer = inbox.admit(tx, delivery).await?;
        job.note(&answer, |()| Prior::New);
        match answer {
            Admission::Run(()) => {}
            Admission::Done(_) => return Ok(Came::DoneBefore),
            Admission::Parked => return Ok(Came::ParkedBefore),
            Admission::Busy { retry_after } => return Ok(Came::busy(retry_after)),
            Admission::Mismatch { stored } => {
                return self.park_by_position(job, tx, &mismatch(&stored)).await;
            }
            Admission::Expired => return self.park_by_position(job, tx, &expired()).await,
        }
        job.at(Point::C1).await?;
        let verdict = if let Some(cause) = &job.given_up {
            Verdict::Park(cause.clone())
        } else if attempt > attempts {
            Verdict::Park(Cause::exhausted(attempts))
        } else {
            count(&job.metrics().runs);
            let ended = guarded(self.handler.handle(tx, delivery)).await;
            after_handler(job.ended(ended), attempt, attempts)
        };
        match verdict {
            verdict @ (Verdict::Again(_) | Verdict::Stop(_)) => {
                if !alone {
                    inbox.settle(tx, delivery, Settlement::Released).await?;
                }
                Ok(Came::Not(job.fate(verdict, attempt)))
            }
            Verdict::Park(cause) => {
                inbox.settle(tx, delivery, Settlement::Parked).await?;
                self.park(job, tx, &cause).await
            }
            Verdict::Done(result) => {
                inbox.settle(tx, delivery, Settlement::Done(result)).await?;
                Ok(Came::Done)
            }
        }
    }

    // After one that stops the consumer the others do not run; nor do those whose lane waits.
    async fn all(&self, jobs: &[Job], tx: &mut I::Tx) -> Result<Vec<Came>, Broken> {
        let mut all = Vec::with_capacity(jobs.len());
        let (mut blocked, mut is_stopped) = (Blocked::default(), false);
        for job in jobs {
            let came = match is_stopped || blocked.has(job) {
                true => Came::Not(Fate::back()),
                false => self.one(job, tx, jobs.len() == 1).await?,
            };
            is_stopped |= matches!(came, Came::Not(Fate::Stop(_)));
            let is_parked = came.is_parked();
            blocked.note(job, came.is_committed() && !is_parked, is_parked);
            all.push(came);
        }
        Ok(all)
    }

    async fn commit(&self, jobs: &[Job], tx: I::Tx, all: &[Came]) -> Result<(), Broken> {
        let committed = jobs.iter().zip(all).filter(|(_, came)| came.is_committed());
        let offsets: BTreeSet<u64> = committed.map(|(job, _)| job.delivery.offset()).collect();
        let Some(job) = jobs.first().filter(|_| !offsets.is_empty()) else {
            // Dropped, the transaction is rolled back.
            return Ok(());
        };
        let (part, epoch) = (job.delivery.part(), job.delivery.epoch());
        let next = self.positions.with(part, epoch, &offsets);
        job.at(Point::C3).await?;
        self.inbox.commit(tx, next).await?;
        self.positions.committed(part, epoch, &offsets);
        job.at(Point::C4).await?;
        Ok(())
    }

    // `kept`: the deliveries that stay this consumer's meanwhile.
    async fn transaction(&self, jobs: &[Job], kept: &[Job]) -> Result<Vec<Fate>, Broken> {
        let Some((first, others)) = jobs.split_first() else {
            return Ok(Vec::new());
        };
        let delivery = &first.delivery;
        let mut tx = self.inbox.begin(delivery.part(), delivery.epoch()).await?;
        let all = self.all(jobs, &mut tx);
        let all = match first.beating_for(kept, all).await {
            Ok(all) => all?,
            Err(cut) if others.is_empty() => return Ok(vec![first.cut(cut)]),
            // One of them, or all, belong to somebody else, or the consumer is to end.
            Err(_) => return Ok(jobs.iter().map(|_| Fate::back()).collect()),
        };
        self.commit(jobs, tx, &all).await?;
        let all = jobs.iter().zip(all);
        Ok(all.map(|(job, came)| came.fate(job)).collect())
    }

    // A commit whose answer was lost is found by the next transaction, which is told that it is done.
    async fn consume(&self, job: &Job, kept: &[Job]) -> Fate {
        if let Err(fate) = job.at(Point::C0).await {
            return fate;
        }
        let mut n = 0_u32;
        loop {
            let error = match self.transaction(std::slice::from_ref(job), kept).await {
                Ok(mut fates) => return fates.pop().unwrap_or(Fate::Lapse),
                Err(Broken::Fate(fate)) => return fate,
                Err(Broken::Store(error)) => error,
            };
            n = n.saturating_add(1);
            if let Err(fate) = job.bear(error, n).await {
                return fate;
            }
        }
    }

    // When a transaction of several fails, each has one of its own: what is wrong with one of them, or with the store, is its own matter then.
    async fn consume_all(&self, jobs: &[Job]) -> Vec<Fate> {
        if jobs.len() > 1
            && let Ok(fates) = self.transaction(jobs, jobs).await
        {
            return fates;
        }
        let mut fates = Vec::with_capacity(jobs.len());
        let (mut blocked, mut is_stopped) = (Blocked::default(), false);
        for job in jobs {
            // Each begins its heartbeat anew, and the log is told of all at the end.
            jobs.iter().for_each(Job::keep);
            let fate = match is_stopped || blocked.has(job) {
                true => Fate::back(),
                false => self.consume(job, jobs).await,
            };
            // Nor does the store answer the next one, nor is that this consumer's.
            is_stopped |= matches!(fate, Fate::Stop(_) | Fate::Lapse | Fate::Gone);
            let (is_acked, is_parked) = (matches!(fate, Fate::Ack), matches!(fate, Fate::Parked));
            blocked.note(job, is_acked, is_parked);
            fates.push(fate);
        }
        fates
    }
}

impl<I: Inbox, H: Handler<I::Tx>> Work for Transactional<I, H> {
    async fn assign(&self, part: &Part, epoch: u64) -> Result<Option<u64>, StoreError> {
        self.inbox.assign(part, epoch).await
    }

    fn begin(&self, part: &Part, epoch: u64, from: u64) {
        self.positions.begin(part, epoch, from);
    }

    fn delivered(&self, part: &Part, epoch: u64, offset: u64) {
        self.positions.delivered(part, epoch, offset);
    }

    async fn run(&self, jobs: &[Job]) -> Vec<Fate> {
        let fates = self.consume_all(jobs).await;
        let is_done = |fate: &Fate| matches!(fate, Fate::Ack | Fate::Parked);
        if let Some(job) = jobs.first().filter(|_| fates.iter().any(is_done)) {
            job.shared.queued.notify_one();
        }
        fates
    }

    async fn forward(&self, shared: &Shared) -> Result<usize, RunError> {
        self.outbox.forward(shared, &self.inbox).await
    }

    fn has_outbox(&self) -> bool {
        true
    }

    fn has_unsent(&self) -> bool {
        !self.outbox.is_empty()
    }

    fn remembers(&self) -> bool {
        true
    }

    async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        self.inbox.sweep(below, max).await
    }

    async fn ids(&self) -> Result<Option<u64>, StoreError> {
        self.inbox.ids().await
    }
}
