//! Effects that end the same however often they happen (M1).

use super::error::RunError;
use super::guard::guarded;
use super::job::{Cut, Job, NoLease, Shared, Work};
use super::metrics::count;
use super::outcome::{Cause, Ended, Fate, Verdict, after_handler};
use crate::dedup_store::Horizon;
use crate::error::StoreError;
use crate::failpoints::Point;
use crate::handler::Handler;
use crate::identity::Part;

/// A consumer without a store.
pub struct Natural<H> {
    pub(crate) handler: H,
}

impl<H: Handler<()>> Natural<H> {
    async fn consume(&self, job: &Job) -> Result<Fate, Fate> {
        job.at(Point::C0).await?;
        let (attempt, attempts) = (job.attempts_seen(), job.settings().retry.attempts);
        if let Some(cause) = &job.given_up {
            return Ok(Fate::Park(cause.clone()));
        }
        if attempt > attempts {
            return Ok(Fate::Park(Cause::exhausted(attempts)));
        }
        count(&job.metrics().runs);
        let mut cx = ();
        let work = guarded(self.handler.handle(&mut cx, &job.delivery));
        let ended = job.beating(&NoLease, u64::MAX, work).await;
        let ended = job.ended(ended.map_err(|cut| job.cut(cut))?);
        job.at(Point::C3).await?;
        Ok(job.fate(after_handler(ended, attempt, attempts), attempt))
    }
}

impl<H: Handler<()>> Work for Natural<H> {
    async fn assign(&self, _: &Part, _: u64) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    fn begin(&self, _: &Part, _: u64, _: u64) {}

    fn delivered(&self, _: &Part, _: u64, _: u64) {}

    async fn run(&self, jobs: &[Job]) -> Vec<Fate> {
        let mut fates = Vec::with_capacity(jobs.len());
        for job in jobs {
            fates.push(self.consume(job).await.unwrap_or_else(|fate| fate));
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
        false
    }

    async fn sweep(&self, _: &Horizon, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }

    async fn ids(&self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }
}

impl Job {
    /// What becomes of a delivery whose handler was cut off, and that holds nothing.
    pub(crate) fn cut(&self, cut: Cut) -> Fate {
        match cut {
            Cut::Gone => Fate::Gone,
            Cut::Lapsed => Fate::Lapse,
            Cut::Stopped => Fate::back(),
        }
    }

    /// How a guarded handler ended.
    pub(crate) fn ended(
        &self,
        ended: Result<Result<Option<bytes::Bytes>, crate::HandlerError>, String>,
    ) -> Ended {
        match ended {
            Ok(Ok(result)) => Ended::Well(result),
            Ok(Err(error)) => Ended::Badly(error),
            Err(panic) => {
                count(&self.metrics().panics);
                Ended::Panicked(panic)
            }
        }
    }

    /// What the log is told, after the store was.
    pub(crate) fn fate(&self, verdict: Verdict, attempt: u32) -> Fate {
        match verdict {
            Verdict::Done(_) => {
                count(&self.metrics().done);
                Fate::Ack
            }
            Verdict::Again(after) => Fate::Again {
                after: after.unwrap_or_else(|| self.shared.pause(attempt)),
                is_counted: true,
            },
            Verdict::Park(cause) => Fate::Park(cause),
            Verdict::Stop(error) => Fate::Stop(error),
        }
    }
}
