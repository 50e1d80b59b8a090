//! Flushing a producer, closing it, and giving up what it holds.

use std::sync::Arc;

use partition_log::Rejection;

use super::lane::Lane;
use super::shared::{ProducerCore, State};
use super::ticket::Outcome;
use crate::error::AppendError;

impl ProducerCore {
    /// Answers everything that is left: the engine closes and does not wait any longer.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        state.is_closing = true;
        state.stopped.get_or_insert(AppendError::Closed);
        self.abandon_lanes(&mut state, |_| AppendError::Closed);
    }

    /// Stops the producer: its name was taken over.
    pub(super) fn fence(&self) {
        let mut state = self.state.lock();
        let (producer_id, given) = state.identity;
        let current = given.saturating_add(1);
        state.is_fenced = true;
        state.is_closing = true;
        self.abandon_lanes(&mut state, |lane| AppendError::Rejected {
            topic: lane.partition.state.topic.clone(),
            partition: lane.partition.state.index,
            rejection: Rejection::Fenced {
                producer_id,
                given,
                current,
            },
        });
        self.room.notify();
    }

    fn abandon_lanes(&self, state: &mut State, why: impl Fn(&Lane) -> AppendError) {
        for at in 0..state.lanes.len() {
            if let Some(lane) = state.lanes.get_mut(at) {
                let error = why(lane);
                let news = lane.abandon(&error);
                self.take(state, news);
            }
        }
    }

    /// Lets go of the name.
    pub(super) fn release(&self) {
        if let (Some(name), Some(names)) = (&self.name, &self.engine.core.names) {
            names.release(name, self);
        }
    }

    /// Begins to close: what is buffered leaves, nothing more is taken.
    pub(crate) fn begin_close(self: &Arc<ProducerCore>) {
        self.state.lock().is_closing = true;
        self.enqueue();
    }

    /// The last handle is gone. Without anything to hand over the producer is finished at once, so
    /// that its name is free and its engine closes with its last handle.
    pub(super) fn let_go(self: &Arc<ProducerCore>) {
        let mut state = self.state.lock();
        state.is_closing = true;
        let is_idle = state.is_idle();
        drop(state);
        if is_idle {
            self.release();
            self.engine.core.senders.forget(self);
        } else {
            self.enqueue();
        }
    }

    /// Has everything that is buffered sent, and waits for its answers.
    pub(crate) async fn drain(self: &Arc<ProducerCore>) {
        let outcomes: Vec<Arc<Outcome>> = {
            let mut state = self.state.lock();
            state.flushes += 1;
            let unanswered = state.lanes.iter().flat_map(Lane::unanswered);
            unanswered.cloned().collect()
        };
        // However this future ends, lingering begins again.
        let _flushing = Flushing(self);
        if outcomes.is_empty() {
            return;
        }
        self.enqueue();
        for outcome in &outcomes {
            // What failed is kept for whoever asks.
            let _ = outcome.wait().await;
        }
    }

    pub(super) async fn flush(self: &Arc<ProducerCore>) -> Result<(), AppendError> {
        self.drain().await;
        let failures = std::mem::take(&mut self.state.lock().failures);
        let mut unseen = failures.iter().filter(|outcome| outcome.has_unseen());
        match unseen.next().and_then(|outcome| outcome.get()) {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    pub(super) async fn close(self: &Arc<ProducerCore>) -> Result<(), AppendError> {
        self.state.lock().is_closing = true;
        let flushed = self.flush().await;
        if self.name.is_none() {
            self.retire();
        }
        self.release();
        flushed
    }

    // Nothing can come again under ids whose every batch was sent once and answered, so no
    // partition needs to know them any more (I18).
    fn retire(&self) {
        let state = self.state.lock();
        for lane in state.lanes.iter().filter(|lane| !lane.may_come_again()) {
            if let Some(mut log) = lane.partition.state.log() {
                log.retire_producer(lane.producer_id());
            }
        }
    }
}

struct Flushing<'a>(&'a Arc<ProducerCore>);

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        self.0.state.lock().flushes -= 1;
    }
}
