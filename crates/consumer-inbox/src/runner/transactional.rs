//! Effect, id and position in one transaction (M7).

use std::sync::Arc;
use std::time::Duration;

use super::error::RunError;
use super::guard::guarded;
use super::job::{Job, NoLease, Shared, Work};
use super::metrics::count;
use super::outbox::Outbox;
use super::outcome::{Cause, Fate, Verdict, after_handler, expired, mismatch};
use super::positions::Positions;
use crate::admission::{Admission, Prior};
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
    pub(crate) group: Arc<str>,
    pub(crate) positions: Positions,
    pub(crate) outbox: Outbox,
}

/// Why a transaction did not come to its end: the store, or the delivery's own fate.
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

impl<I: Inbox, H: Handler<I::Tx>> Transactional<I, H> {
    async fn commit(&self, job: &Job, tx: I::Tx) -> Result<(), Broken> {
        let (part, epoch, offset) = (
            job.delivery.part(),
            job.delivery.epoch(),
            job.delivery.offset(),
        );
        let next = self.positions.with(part, epoch, offset);
        job.at(Point::C3).await?;
        self.inbox.commit(tx, next).await?;
        self.positions.committed(part, epoch, offset);
        job.at(Point::C4).await?;
        Ok(())
    }

    // The dead letter is in the outbox: the log itself has nothing to do but to go on.
    async fn park(&self, job: &Job, mut tx: I::Tx, cause: &Cause) -> Result<Fate, Broken> {
        match job.dead_letter(cause)? {
            Some(letter) => self.inbox.emit(&mut tx, letter).await?,
            None => count(&job.metrics().dropped),
        }
        self.commit(job, tx).await?;
        count(&job.metrics().parked);
        Ok(Fate::Parked)
    }

    async fn transaction(&self, job: &Job, attempt: u32) -> Result<Fate, Broken> {
        let (inbox, delivery) = (&self.inbox, &job.delivery);
        let attempts = job.settings().retry.attempts;
        let mut tx = inbox.begin(delivery.part(), delivery.epoch()).await?;
        let answer = inbox.admit(&mut tx, delivery).await?;
        job.note(&answer, |()| Prior::New);
        match answer {
            Admission::Run(()) => {}
            Admission::Done(_) | Admission::Parked => {
                self.commit(job, tx).await?;
                return Ok(Fate::Ack);
            }
            Admission::Busy { retry_after } => {
                return Ok(Fate::Again {
                    after: retry_after.max(Duration::from_millis(1)),
                    is_counted: false,
                });
            }
            Admission::Mismatch { stored } => return self.park(job, tx, &mismatch(&stored)).await,
            Admission::Expired => return self.park(job, tx, &expired()).await,
        }
        job.at(Point::C1).await?;
        let verdict = if job.is_forced {
            Verdict::Park(Cause::key())
        } else if attempt > attempts {
            Verdict::Park(Cause::exhausted(attempts))
        } else {
            count(&job.metrics().runs);
            let work = guarded(self.handler.handle(&mut tx, delivery));
            let ended = job.beating(&NoLease, u64::MAX, work).await;
            let ended = ended.map_err(|cut| job.cut(cut))?;
            after_handler(job.ended(ended), attempt, attempts)
        };
        match verdict {
            // Dropped, the transaction is rolled back.
            verdict @ (Verdict::Again(_) | Verdict::Stop(_)) => Ok(job.fate(verdict, attempt)),
            Verdict::Park(cause) => {
                let how = Verdict::Park(cause.clone()).settlement();
                inbox.settle(&mut tx, delivery, how).await?;
                self.park(job, tx, &cause).await
            }
            verdict @ Verdict::Done(_) => {
                inbox
                    .settle(&mut tx, delivery, verdict.settlement())
                    .await?;
                self.commit(job, tx).await?;
                Ok(job.fate(verdict, attempt))
            }
        }
    }

    // A commit whose answer was lost is found by the next transaction, which is told that it is done.
    async fn consume(&self, job: &Job) -> Result<Fate, Fate> {
        job.at(Point::C0).await?;
        let attempt = job.attempts_seen();
        let mut n = 0_u32;
        loop {
            let error = match self.transaction(job, attempt).await {
                Ok(fate) => return Ok(fate),
                Err(Broken::Fate(fate)) => return Err(fate),
                Err(Broken::Store(error)) => error,
            };
            n = n.saturating_add(1);
            job.bear(error, n).await?;
        }
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

    fn passed(&self, part: &Part, epoch: u64, offset: u64) {
        self.positions.committed(part, epoch, offset);
    }

    async fn run(&self, job: &Job) -> Fate {
        let fate = self.consume(job).await.unwrap_or_else(|fate| fate);
        if matches!(fate, Fate::Ack | Fate::Parked) {
            job.shared.queued.notify_one();
        }
        fate
    }

    async fn forward(&self, shared: &Shared) -> Result<usize, RunError> {
        self.outbox.forward(shared, &self.group, &self.inbox).await
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
