//! What their producers sent, the publisher's and the inbox's own, reaches the log.

use oncelog::{AppendError, Appended, TransportError};

use super::{EFFECTS, ORDERS};
use crate::batch::SeenBatch;
use crate::network::{Request, Sender, Slot};
use crate::violation::{Violation, violated};
use crate::world::{Task, World, poll};

/// A batch that is in the log and waits for its answer.
pub(super) struct Waiting {
    task: Task<Result<Appended, AppendError>>,
    slot: Option<Slot>,
}

impl Waiting {
    /// Nobody waits for the answer any more.
    pub(super) fn forget(&self) {
        if let Some(slot) = &self.slot {
            slot.forget();
        }
    }
}

/// Whether a topic is the consumers'.
pub(crate) fn is_consumers(topic: &str) -> bool {
    topic == ORDERS || topic == EFFECTS
}

impl World {
    /// A request to a topic of the consumers arrives. The judge of these looks at what is there, not at answers.
    pub(crate) fn arrive_at_consumers(
        &mut self,
        request: Request,
        is_lost: bool,
    ) -> Result<(), Violation> {
        let Some((batch, [])) = SeenBatch::read(&request.batch) else {
            return violated("I35", "a producer sent what is no batch".into());
        };
        self.seen_id(batch.identity.0);
        let topic = self.engine()?.topic(&request.topic);
        let handle = match topic.and_then(|topic| topic.partition(request.partition)) {
            Ok(handle) => handle,
            Err(error) => return violated("I1", format!("{} is gone: {error}", request.topic)),
        };
        let told = handle.try_append(&request.batch);
        let what = match &told {
            Ok(pending) => format!("{:?}", pending.appended().offset),
            Err(error) => error.to_string(),
        };
        self.event(format_args!(
            "{} {:?}: {what}",
            request.topic, batch.identity
        ));
        let slot = match &request.sender {
            Sender::Embedded(slot, _) if !is_lost => Some(slot.clone()),
            Sender::Embedded(slot, _) => {
                slot.answer(Err(TransportError::NoAnswer));
                None
            }
            _ => None,
        };
        match told {
            Ok(pending) => {
                if request.topic == ORDERS && !pending.appended().duplicate {
                    let publisher = &mut self.consumers.publisher;
                    let again = |order: &&u64| publisher.reached(**order);
                    self.counts.republished += batch.contents.iter().filter(again).count() as u64;
                }
                let task: Task<_> = Box::pin(pending.wait());
                self.consumers.waiting.push(Waiting { task, slot });
            }
            Err(AppendError::NotReady { .. }) if !is_lost => self.network.requests().push(request),
            Err(error) => {
                if let Some(slot) = slot {
                    slot.answer(Err(TransportError::Append(error)));
                }
            }
        }
        Ok(())
    }

    /// Hands over the answers that are there.
    pub(super) fn look_at_requests(&mut self) -> Result<(), Violation> {
        for mut waiting in std::mem::take(&mut self.consumers.waiting) {
            match (poll(&mut waiting.task), waiting.slot.as_ref()) {
                (None, _) => self.consumers.waiting.push(waiting),
                (Some(answer), Some(slot)) => slot.answer(answer.map_err(TransportError::Append)),
                (Some(_), None) => {}
            }
        }
        Ok(())
    }
}
