//! Requests reach the log, answers reach whoever asked.

use oncelog::{AppendError, Appended, TransportError};

use super::{Task, World, poll, refusal};
use crate::batch::SeenBatch;
use crate::consumers::is_consumers;
use crate::network::{Request, Sender};
use crate::random::Random;
use crate::violation::{Violation, violated};

/// A batch that is in the log and waits for its answer.
pub(super) struct Waiting {
    task: Task<Result<Appended, AppendError>>,
    sender: Sender,
    log: usize,
    batch: SeenBatch,
    /// The answer gets lost.
    is_lost: bool,
}

impl World {
    /// Delivers the request at a place in the queue, or loses it.
    pub(crate) fn deliver(&mut self, at: usize, random: &mut Random) -> Result<(), Violation> {
        let request = self.network.requests().remove(at);
        let is_late = matches!(request.sender, Sender::EmbeddedLate | Sender::Nobody);
        if is_late && !self.is_calm && self.plan.linger > 0 && random.chance(self.plan.linger) {
            self.network.requests().push(request);
            return Ok(());
        }
        if !self.is_calm && random.chance(self.plan.lose_requests) {
            self.counts.lost += 1;
            self.event(format_args!("a request is lost"));
            no_answer(&request.sender);
            return Ok(());
        }
        if !self.is_calm && random.chance(self.plan.repeat) {
            self.counts.repeated += 1;
            let is_embedded = matches!(request.sender, Sender::Embedded(..) | Sender::EmbeddedLate);
            let late = Request {
                sender: if is_embedded {
                    Sender::EmbeddedLate
                } else {
                    Sender::Nobody
                },
                ..request.clone()
            };
            self.network.requests().push(late);
            if is_embedded {
                // The sender gives up on it before it arrives.
                no_answer(&request.sender);
                return Ok(());
            }
        }
        let is_lost = !self.is_calm && random.chance(self.plan.lose_answers);
        self.arrive(request, is_lost)
    }

    /// Delivers the first request, whatever the network is like.
    pub(crate) fn arrive_first(&mut self) -> Result<(), Violation> {
        let request = self.network.requests().remove(0);
        self.arrive(request, false)
    }

    fn arrive(&mut self, request: Request, is_lost: bool) -> Result<(), Violation> {
        if is_consumers(&request.topic) {
            return self.arrive_at_consumers(request, is_lost);
        }
        let log = self.log(&request.topic, request.partition)?;
        let Some((batch, [])) = SeenBatch::read(&request.batch) else {
            return violated("I35", "a producer sent what is no batch".into());
        };
        self.seen_id(batch.identity.0);
        if let Sender::Embedded(_, Some(owner)) = request.sender {
            self.embedded_uses(owner, batch.identity.0);
        }
        let now_ms = self.engine_ms();
        let handle = self.handle(log)?;
        let name = self.logs[log].model.name.clone();
        let identity = batch.identity;
        let told = handle.try_append(&request.batch);
        let error = match told {
            Ok(pending) => {
                let at = pending.appended();
                let what = if at.duplicate { "is there" } else { "goes" };
                self.event(format_args!(
                    "{name} {identity:?} x{} {what} at {}",
                    batch.count, at.offset
                ));
                if at.duplicate {
                    self.counts.duplicates += 1;
                } else {
                    self.counts.appended += 1;
                }
                let answer = Ok((at.offset, at.duplicate));
                self.logs[log]
                    .model
                    .answered(batch.clone(), answer, now_ms)?;
                self.waiting.push(Waiting {
                    task: Box::pin(pending.wait()),
                    sender: request.sender,
                    log,
                    batch,
                    is_lost,
                });
                return Ok(());
            }
            Err(error) => error,
        };
        self.event(format_args!(
            "{name} {identity:?} x{}: {error}",
            batch.count
        ));
        match &error {
            AppendError::NotReady { .. } => {
                self.network.requests().push(request);
                return Ok(());
            }
            AppendError::Rejected { rejection, .. } => {
                self.counts.refused += 1;
                let Some(refusal) = refusal(rejection) else {
                    return violated("I6", format!("log {name}: {rejection}"));
                };
                self.logs[log]
                    .model
                    .answered(batch.clone(), Err(refusal), now_ms)?;
            }
            AppendError::NoSpace { .. }
            | AppendError::Io { .. }
            | AppendError::Producers { .. }
                if self.is_full => {}
            AppendError::LogFenced(_) if self.has_failed_sync => {}
            _ => return violated("I6", format!("log {name}: {error}")),
        }
        if is_lost {
            no_answer(&request.sender);
            return Ok(());
        }
        match request.sender {
            Sender::Embedded(slot, _) => slot.answer(Err(TransportError::Append(error))),
            Sender::Remote(client) => self.remote_refused(client, &batch, &error)?,
            Sender::EmbeddedLate | Sender::Nobody => {}
        }
        Ok(())
    }

    /// Hands over the answers that are there.
    pub(super) fn look_at_answers(&mut self) -> Result<(), Violation> {
        for mut waiting in std::mem::take(&mut self.waiting) {
            match poll(&mut waiting.task) {
                None => self.waiting.push(waiting),
                Some(answer) => self.answer(waiting, answer)?,
            }
        }
        self.look_at_embedded()?;
        self.look_at_named()
    }

    fn answer(
        &mut self,
        waiting: Waiting,
        answer: Result<Appended, AppendError>,
    ) -> Result<(), Violation> {
        let log = &mut self.logs[waiting.log];
        match &answer {
            Ok(at) => {
                let durably = log.model.rules.is_synced;
                log.model.acked(at.offset, durably)?;
            }
            Err(error) if !error.is_outcome_unknown() => {
                let name = &log.model.name;
                return violated(
                    "I7",
                    format!("log {name}: it was appended, and now {error}"),
                );
            }
            Err(_) => {}
        }
        if waiting.is_lost {
            self.counts.lost += 1;
            no_answer(&waiting.sender);
            return Ok(());
        }
        match waiting.sender {
            Sender::Embedded(slot, _) => slot.answer(answer.map_err(TransportError::Append)),
            Sender::Remote(client) => {
                if let Ok(at) = answer {
                    self.remote_acked(client, &waiting.batch, waiting.log, at.offset)?;
                }
            }
            Sender::EmbeddedLate | Sender::Nobody => {}
        }
        Ok(())
    }

    pub(super) fn forget_waiting(&mut self) {
        for waiting in self.waiting.drain(..) {
            waiting.sender.forget();
        }
    }

    /// Whether answers are still to come.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn is_durable(&self, log: usize) -> bool {
        self.logs[log].model.rules.is_synced
    }
}

fn no_answer(sender: &Sender) {
    if let Sender::Embedded(slot, _) = sender {
        slot.answer(Err(TransportError::NoAnswer));
    }
}
