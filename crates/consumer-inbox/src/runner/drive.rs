//! Polling, handing out, and ending.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use log_engine::{ConsumerGroup, GroupError, Member};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{interval, sleep, timeout};

use super::error::RunError;
use super::forgetting::forgetting;
use super::job::{End, Job, Shared, Work, place};
use super::lanes::{LaneId, Lanes, Place};
use super::metrics::{Metrics, Summary, count};
use super::outcome::{Cause, Trouble, trouble};
use super::policy::KeyAfterPark;
use super::shutdown::{forwarding, last_forward};
use crate::clock::millis;
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::identity::{IdPolicy, Part};

/// Deliveries that wait for their turn; one more only if it may end the waiting.
const WAITING_MAX: usize = 256;

/// A consumer that may be started.
#[must_use]
pub struct Runner<W> {
    group: ConsumerGroup,
    work: Arc<W>,
    shared: Arc<Shared>,
}

impl<W> Runner<W> {
    pub(crate) fn new(group: ConsumerGroup, work: W, shared: Shared) -> Runner<W> {
        Runner {
            group,
            work: Arc::new(work),
            shared: Arc::new(shared),
        }
    }

    /// Its counters, also while it runs.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.shared.metrics.clone()
    }
}

#[allow(
    private_bounds,
    reason = "the three kinds of consumers are all there are"
)]
impl<W: Work> Runner<W> {
    /// Joins the group and consumes until `shutdown` is ready, or something stops it. Then it polls no more, waits for running handlers for
    /// the drain time, cuts off the others, and leaves: what was not finished is delivered to others at once.
    ///
    /// Needs a tokio runtime with time. Handlers run as its tasks; one that blocks its thread cannot be cut off, and what it settles
    /// late is refused.
    ///
    /// # Cancel safety
    /// Dropped, handlers are cut off where they wait, and claims last until their leases end.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<Summary, RunError> {
        let Runner {
            group,
            work,
            shared,
        } = self;
        let name: Arc<str> = group.name().into();
        let member = group.join().await?;
        let (stop, stopped) = watch::channel(false);
        let mut drive = Drive {
            name,
            member: member.clone(),
            work: work.clone(),
            lanes: Lanes::new(shared.settings.order),
            tasks: JoinSet::new(),
            running: 0,
            suspects: HashSet::new(),
            epochs: HashMap::new(),
            parked: HashSet::new(),
            shared: shared.clone(),
            stopped,
        };
        let mut beside = JoinSet::new();
        if work.has_outbox() {
            beside.spawn(forwarding(work.clone(), shared.clone()));
        }
        if work.remembers() {
            let group = drive.name.clone();
            beside.spawn(forgetting(work.clone(), shared.clone(), group));
        }
        let ended = drive.until(pin!(shutdown)).await;
        let drained = drive.drain(&stop).await;
        shared.metrics.live.at_work(0, 0);
        beside.shutdown().await;
        let forwarded = last_forward(&*work, &shared).await;
        member.leave();
        ended.and(drained).and(forwarded)?;
        Ok(shared.metrics.summary())
    }
}

/// A delivery that waits for its turn.
struct Waiting(Job);

/// A delivery that ran.
type Ended = (LaneId, Place, End);

struct Drive<W> {
    name: Arc<str>,
    member: Member,
    work: Arc<W>,
    shared: Arc<Shared>,
    lanes: Lanes<Waiting>,
    tasks: JoinSet<Vec<Ended>>,
    /// Deliveries in the tasks.
    running: usize,
    /// What was delivered before its partition was taken over, and not tried since: one of them may have killed its process.
    suspects: HashSet<Place>,
    /// Of the partitions that it has.
    epochs: HashMap<(Arc<str>, u32), u64>,
    /// Lanes of keys of which a record was parked.
    parked: HashSet<LaneId>,
    stopped: watch::Receiver<bool>,
}

impl<W: Work> Drive<W> {
    async fn until(
        &mut self,
        mut shutdown: std::pin::Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), RunError> {
        let every = self.shared.settings.renew_every;
        let member = self.member.clone();
        let mut beat = interval(every);
        loop {
            self.assigned().await?;
            self.start();
            let live = &self.shared.metrics.live;
            live.at_work(self.lanes.queued(), self.running);
            let room = self.room();
            let visibility = self.shared.settings.visibility;
            let polled_ms = self.shared.clock.elapsed_ms();
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                _ = beat.tick() => self.keep_waiting(),
                Some(joined) = self.tasks.join_next() => self.joined(joined)?,
                polled = member.poll(room, visibility), if room > 0 => {
                    self.assigned().await?;
                    for delivery in polled? {
                        self.accept(&delivery, polled_ms)?;
                    }
                }
            }
        }
    }

    // No more than may start at once: what was delivered and waits has an attempt less if the process dies. As long as there are suspects, few
    // go together with them.
    fn room(&mut self) -> usize {
        let member = &self.member;
        // What retention deleted does not come.
        self.suspects.retain(|(topic, partition, offset)| {
            let position = member.position(topic, *partition);
            position.is_some_and(|position| *offset >= position)
        });
        let settings = &self.shared.settings;
        let batch = if self.suspects.is_empty() {
            settings.batch
        } else {
            1
        };
        let all = settings.concurrency.saturating_mul(batch);
        match self.lanes.queued() < WAITING_MAX.max(all) {
            true => all.saturating_sub(self.running),
            // The record that a lane waits for comes by a poll.
            false => usize::from(self.lanes.is_waiting()),
        }
    }

    /// Takes over partitions that are new, at the store's position (E10).
    async fn assigned(&mut self) -> Result<(), RunError> {
        let assigned = self.member.assigned();
        let is_known = |(topic, partition, epoch): &(Arc<str>, u32, u64)| {
            self.epochs.get(&(topic.clone(), *partition)) == Some(epoch)
        };
        if assigned.len() == self.epochs.len() && assigned.iter().all(is_known) {
            return Ok(());
        }
        let mut epochs = HashMap::new();
        for (topic, partition, epoch) in assigned {
            let key = (topic, partition);
            let known = self.epochs.get(&key).copied();
            let taken = match known == Some(epoch) {
                true => Some(epoch),
                false => {
                    let open = self.member.open(&key.0, partition).into_iter();
                    let open = open.map(|offset| (key.0.clone(), partition, offset));
                    self.suspects.extend(open);
                    self.take_over(&key.0, partition, epoch).await?
                }
            };
            if let Some(epoch) = taken {
                epochs.insert(key, epoch);
            }
        }
        let before = std::mem::replace(&mut self.epochs, epochs);
        let epochs = &self.epochs;
        let epoch = |topic: &Arc<str>, partition| epochs.get(&(topic.clone(), partition)).copied();
        self.lanes.retain(
            |(topic, partition, _), waiting| {
                epoch(topic, *partition) == Some(waiting.0.receipt.epoch)
            },
            // In another epoch what was awaited comes, if at all, with all the others.
            |topic, partition| {
                let key = (topic.into(), partition);
                epochs
                    .get(&key)
                    .is_some_and(|now| before.get(&key) == Some(now))
            },
        );
        self.suspects
            .retain(|(topic, partition, _)| epoch(topic, *partition).is_some());
        let live = &self.shared.metrics.live;
        live.keep(|(topic, partition, _)| epoch(topic, *partition).is_some());
        Ok(())
    }

    // The epoch it is in then; none if it is somebody else's.
    async fn take_over(
        &self,
        topic: &Arc<str>,
        partition: u32,
        mut epoch: u64,
    ) -> Result<Option<u64>, RunError> {
        let part = Part::new(self.name.clone(), topic.clone(), partition);
        let mut n = 0_u32;
        loop {
            let stored = match self.work.assign(&part, epoch).await {
                Ok(stored) => stored,
                Err(error) => match trouble(error) {
                    Trouble::Again(pause) => {
                        n = n.saturating_add(1);
                        sleep(pause.unwrap_or_else(|| self.shared.pause(n))).await;
                        continue;
                    }
                    Trouble::Gone => return Ok(None),
                    Trouble::Stop(error) => return Err(error.into()),
                },
            };
            let at = self.member.position(topic, partition);
            if let Some(want) = stored.filter(|want| Some(*want) != at) {
                match self.member.seek(topic, partition, want).await {
                    Ok(()) => {}
                    Err(GroupError::NotAssigned { .. } | GroupError::Fenced { .. }) => {
                        return Ok(None);
                    }
                    Err(GroupError::OutOfRange { start, end, .. }) => {
                        let have = if want < start { start } else { end };
                        return Err(StoreError::Gap { want, have }.into());
                    }
                    Err(error) => return Err(error.into()),
                }
                let now = self.member.assigned().into_iter();
                let now = now.filter(|(t, p, _)| t == topic && *p == partition);
                let Some(sought) = now.map(|(_, _, epoch)| epoch).next() else {
                    return Ok(None);
                };
                if sought != epoch {
                    epoch = sought;
                    continue;
                }
            }
            self.work.begin(&part, epoch, stored.or(at).unwrap_or(0));
            return Ok(Some(epoch));
        }
    }

    fn accept(&mut self, delivery: &log_engine::Delivery, polled_ms: u64) -> Result<(), RunError> {
        let receipt = delivery.receipt();
        let key = (receipt.topic.clone(), receipt.partition);
        if self.epochs.get(&key) != Some(&receipt.epoch) {
            count(&self.shared.metrics.fenced);
            return Ok(());
        }
        let settings = &self.shared.settings;
        let part = Part::new(self.name.clone(), receipt.topic.clone(), receipt.partition);
        let (epoch, offset) = (receipt.epoch, receipt.offset);
        self.work.delivered(&part, epoch, offset);
        let (ids, until) = (
            settings.ids,
            polled_ms.saturating_add(millis(settings.visibility)),
        );
        let (known, given_up) = match Delivery::of_group(self.name.clone(), delivery, ids) {
            Ok(known) => (known, None),
            Err(error) if ids == IdPolicy::Fail => return Err(error.into()),
            Err(error) => {
                let by_position = Delivery::of_group_by_position(self.name.clone(), delivery);
                (by_position, Some(Cause::nameless(&error)))
            }
        };
        let job = Job {
            shared: self.shared.clone(),
            member: self.member.clone(),
            receipt: receipt.clone(),
            delivery: known,
            lane: LaneId::All,
            given_up,
            until_ms: AtomicU64::new(until),
            stop: self.stopped.clone(),
        };
        self.shared.scenarios.note(job.delivery.scenario());
        let ordering_key = job.delivery.ordering_key().cloned();
        self.lanes
            .push(place(receipt), ordering_key.as_deref(), Waiting(job));
        Ok(())
    }

    fn start(&mut self) {
        let settings = &self.shared.settings;
        while self.tasks.len() < settings.concurrency {
            // What failed before, or was being tried when a process died, is not to take others with it.
            let suspects = &self.suspects;
            let joins = |Waiting(job): &Waiting| {
                job.receipt.delivery == 1 && !suspects.contains(&place(&job.receipt))
            };
            let taken = self.lanes.take(settings.batch, joins);
            if taken.is_empty() {
                return;
            }
            self.running += taken.len();
            let jobs = taken.into_iter().map(|(lane, Waiting(mut job))| {
                if self.parked.contains(&lane) {
                    job.given_up.get_or_insert_with(Cause::key);
                }
                job.lane = lane;
                job
            });
            let jobs: Vec<Job> = jobs.collect();
            let work = self.work.clone();
            self.tasks.spawn(async move {
                let fates = work.run(&jobs).await;
                let ends = Job::conclude_all(&jobs, fates).await;
                let ended = jobs.iter().zip(ends);
                let ended = ended.map(|(job, end)| (job.lane, place(&job.receipt), end));
                ended.collect()
            });
        }
    }

    fn joined(&mut self, joined: Result<Vec<Ended>, JoinError>) -> Result<(), RunError> {
        let ended = joined?;
        self.running -= ended.len();
        // A lane waits for its records that come again.
        let mut lanes: Vec<(LaneId, Vec<Place>)> = Vec::new();
        let mut places: HashMap<LaneId, usize> = HashMap::new();
        let live = &self.shared.metrics.live;
        for (lane, at, end) in ended {
            // It was tried, and this process is there.
            self.suspects.remove(&at);
            match &end {
                End::Wait => live.stalled(at.clone()),
                _ => live.goes_on(&at),
            }
            let place = *places.entry(lane).or_insert_with(|| {
                lanes.push((lane, Vec::new()));
                lanes.len() - 1
            });
            match end {
                End::Free => {}
                End::Wait => lanes[place].1.push(at),
                End::Parked => {
                    let settings = &self.shared.settings;
                    let is_key = matches!(lane, LaneId::Key(_));
                    if is_key && settings.after_park == KeyAfterPark::ParkToo {
                        self.parked.insert(lane);
                    }
                }
                End::Stop(error) => return Err(error),
            }
        }
        for (lane, again) in lanes {
            self.lanes.finished(lane, again);
        }
        Ok(())
    }

    /// Those that wait for their turn are still this consumer's.
    fn keep_waiting(&mut self) {
        let (member, visibility) = (&self.member, self.shared.settings.visibility);
        let until = self
            .shared
            .clock
            .elapsed_ms()
            .saturating_add(millis(visibility));
        self.lanes.retain(
            |_, Waiting(job)| {
                let extended = member.extend(&job.receipt, visibility);
                job.until_ms
                    .store(until, std::sync::atomic::Ordering::Release);
                extended.is_ok()
            },
            |_, _| true,
        );
    }

    /// Gives back what waits, and waits for what runs.
    async fn drain(&mut self, stop: &watch::Sender<bool>) -> Result<(), RunError> {
        for Waiting(job) in self.lanes.clear() {
            // Whoever has it by now has it.
            let _ = self.member.nack(&job.receipt, Duration::ZERO);
        }
        let mut ended = Ok(());
        let patience = self.shared.settings.drain;
        let drained = timeout(patience, async {
            while let Some(joined) = self.tasks.join_next().await {
                for (_, _, end) in joined.into_iter().flatten() {
                    if let End::Stop(error) = end {
                        ended = Err(error);
                    }
                }
            }
        });
        if drained.await.is_err() {
            // From here on handlers are cut off where they wait.
            stop.send_replace(true);
            let _ = timeout(patience.max(Duration::from_secs(1)), async {
                while self.tasks.join_next().await.is_some() {}
            })
            .await;
            self.tasks.abort_all();
        }
        ended
    }
}
