//! Batches under way: sent, answered, sent again, given up.
//!
//! Only the oldest unanswered batch is ever given up, and all behind it with it. So nothing of the
//! lane's present epoch is left when the next one begins, and no append id is given out twice.

use std::task::{Context, Poll};

use partition_log::Rejection;

use super::super::ticket::Stored;
use super::{Lane, LaneNews};
use crate::error::{AppendError, Unknown};
use crate::handle::Appended;
use crate::transport::{Transport, TransportError};

/// Half of the first pause before a batch is sent again; each is twice the one before.
const BACKOFF_MS: u64 = 1;

impl Lane {
    /// Sends what is due, looks at what was answered, sends again what was not.
    pub(in super::super) fn turn(
        &mut self,
        transport: &dyn Transport,
        context: &mut Context<'_>,
        now_ms: u64,
        hurry: bool,
    ) -> LaneNews {
        let mut news = LaneNews::default();
        loop {
            self.close_due(now_ms, hurry);
            let mut progress = false;
            let mut at = 0;
            while at < self.sent.len().min(self.in_flight()) {
                progress |= self.drive(at, transport, context, now_ms, &mut news);
                at += 1;
            }
            while self.sent.front().is_some_and(|s| s.is_answered) {
                self.sent.pop_front();
                progress = true;
            }
            if !progress {
                break;
            }
        }
        self.expire(now_ms, &mut news);
        news.next_ms = self.next_ms(now_ms);
        news
    }

    // The batch that fills leaves when there is room in flight and it has lingered.
    fn close_due(&mut self, now_ms: u64, hurry: bool) {
        if self.sent.len() < self.in_flight() && (hurry || self.has_lingered(now_ms)) {
            self.close_batch();
        }
    }

    // Sends or polls one batch; whether anything changed.
    fn drive(
        &mut self,
        at: usize,
        transport: &dyn Transport,
        context: &mut Context<'_>,
        now_ms: u64,
        news: &mut LaneNews,
    ) -> bool {
        let follows_answered = self.sent.iter().take(at).all(|s| s.is_answered);
        let Some(sent) = self.sent.get_mut(at) else {
            return false;
        };
        if sent.is_answered {
            return false;
        }
        let answer = match &mut sent.answer {
            Some(answer) => answer,
            None if now_ms < sent.retry_ms => return false,
            None => {
                sent.attempts += 1;
                sent.follows_answered = follows_answered;
                let records = u64::from(sent.records);
                match sent.attempts {
                    1 => {
                        news.counts.records += records;
                        news.counts.batches += 1;
                    }
                    _ => news.counts.retransmitted += records,
                }
                // Were the transport to panic, the batch would be in doubt.
                let is_in_doubt = std::mem::replace(&mut sent.is_in_doubt, true);
                let answer = transport.append(self.partition.clone(), sent.bytes.clone());
                sent.is_in_doubt = is_in_doubt;
                sent.answer.insert(answer)
            }
        };
        let Poll::Ready(answer) = answer.as_mut().poll(context) else {
            return false;
        };
        sent.answer = None;
        match answer {
            Ok(appended) => self.answered(at, &appended, news),
            Err(error) => self.refused(at, error, now_ms, news),
        }
        true
    }

    fn answered(&mut self, at: usize, appended: &Appended, news: &mut LaneNews) {
        let log_time = self.partition.state.config.log_append_time();
        let Some(sent) = self.sent.get_mut(at) else {
            return;
        };
        sent.is_answered = true;
        self.may_come_again |= sent.is_in_doubt;
        news.freed_bytes += std::mem::take(&mut sent.reserved_bytes);
        if appended.duplicate {
            news.counts.duplicates_answered += u64::from(sent.records);
        }
        let outcome = sent.outcome.clone();
        // What was refused because this one was missing can go now.
        for behind in self.sent.iter_mut().skip(at + 1) {
            behind.retry_ms = 0;
        }
        outcome.set(Ok(Stored {
            base_offset: Some(appended.offset),
            duplicate: appended.duplicate,
            timestamp: if log_time { appended.timestamp } else { None },
        }));
    }

    fn refused(&mut self, at: usize, error: TransportError, now_ms: u64, news: &mut LaneNews) {
        let is_oldest = self.sent.iter().take(at).all(|s| s.is_answered);
        let Some(sent) = self.sent.get_mut(at) else {
            return;
        };
        let pause = BACKOFF_MS << sent.attempts.min(20);
        sent.retry_ms = now_ms + pause.min(self.settings.retry_backoff_max_ms);
        let error = match error {
            TransportError::NoAnswer => {
                sent.is_in_doubt = true;
                // The first try again comes at once: most answers that get lost get lost alone.
                if sent.attempts == 1 {
                    sent.retry_ms = now_ms;
                }
                return;
            }
            TransportError::Append(error) => error,
        };
        sent.is_in_doubt |= error.is_outcome_unknown();
        match &error {
            // These pass.
            AppendError::NotReady { .. }
            | AppendError::NoSpace { .. }
            | AppendError::Io { .. }
            | AppendError::Producers { .. }
            | AppendError::OutcomeUnknown {
                why: Unknown::TimedOut(_),
                ..
            } => {}
            // An earlier batch got lost on its way, waits for room, or is about to learn the same.
            _ if !sent.follows_answered => {
                if is_oldest {
                    sent.retry_ms = now_ms;
                }
            }
            AppendError::Rejected {
                rejection: Rejection::Fenced { .. },
                ..
            } => {
                news.stopped = Some(error.clone());
                self.fail(at, &error, news);
            }
            AppendError::Rejected {
                rejection: Rejection::UnknownProducer { .. } | Rejection::Forgotten { .. },
                ..
            } => {
                self.is_spent = !self.settings.is_named;
                self.fail(at, &error, news);
            }
            _ => self.fail(at, &error, news),
        }
    }

    // Answers the oldest unanswered batch, and all behind it, with an error. What comes next takes
    // another epoch: an append id that was given out never names another record, and what may still
    // be on its way is fenced by the first batch of the new one (KIP-360). A named producer stops,
    // for what it sent next would make the position rise over what is missing.
    fn fail(&mut self, at: usize, error: &AppendError, news: &mut LaneNews) {
        if self.sent.len() <= at && self.filling.is_none() {
            return;
        }
        for mut sent in self.sent.split_off(at) {
            news.freed_bytes += sent.reserved_bytes;
            if sent.is_answered {
                continue;
            }
            let doubt = sent.is_in_doubt || sent.answer.is_some();
            self.may_come_again |= doubt;
            let answer = if doubt {
                self.unknown(error)
            } else {
                certain(error)
            };
            sent.answer = None;
            sent.outcome.set(Err(answer));
            news.failed.push(sent.outcome);
        }
        if let Some(mut filling) = self.filling.take() {
            news.freed_bytes += filling.reserved_bytes;
            filling.outcome.set(Err(certain(error)));
            news.failed.push(filling.outcome);
            filling.builder.clear();
            self.spare = Some(filling.builder);
        }
        if self.settings.is_named {
            news.stopped.get_or_insert_with(|| error.clone());
        } else if self.producer_epoch < i16::MAX - 1 {
            self.producer_epoch += 1;
            self.next_sequence = 0;
        } else {
            self.is_spent = true;
        }
    }

    fn unknown(&self, error: &AppendError) -> AppendError {
        let why = match error {
            AppendError::OutcomeUnknown { why, .. } => why.clone(),
            AppendError::LogFenced(latched) => Unknown::Fenced(latched.clone()),
            AppendError::Closed => Unknown::Closed,
            AppendError::TimedOut { timeout_ms, .. } => Unknown::TimedOut(*timeout_ms),
            refused => Unknown::Refused(Box::new(refused.clone())),
        };
        AppendError::OutcomeUnknown {
            topic: self.partition.state.topic.clone(),
            partition: self.partition.state.index,
            offset: None,
            why,
            id: None,
        }
    }

    // The oldest unanswered batch decides: nothing behind it may be answered later than it.
    fn expire(&mut self, now_ms: u64, news: &mut LaneNews) {
        let timeout_ms = self.settings.delivery_timeout_ms;
        let oldest = self.sent.iter().position(|s| !s.is_answered);
        let late = |at: &usize| {
            let since_ms = self.sent.get(*at).map_or(u64::MAX, |s| s.since_ms);
            now_ms >= since_ms.saturating_add(timeout_ms)
        };
        if let Some(at) = oldest.filter(late) {
            let error = AppendError::TimedOut {
                topic: self.partition.state.topic.clone(),
                partition: self.partition.state.index,
                timeout_ms,
            };
            self.fail(at, &error, news);
        }
    }

    fn next_ms(&self, now_ms: u64) -> Option<u64> {
        let timeout_ms = self.settings.delivery_timeout_ms;
        let limit = self.in_flight();
        let waiting = self.sent.iter().take(limit);
        let retries = waiting.filter(|s| !s.is_answered && s.answer.is_none());
        let retry = retries.map(|s| s.retry_ms.max(now_ms + 1)).min();
        let oldest = self.sent.iter().find(|s| !s.is_answered);
        let deadline = oldest.map(|s| s.since_ms.saturating_add(timeout_ms));
        let filling = self.filling.as_ref().filter(|_| self.sent.len() < limit);
        let linger = filling.map(|f| self.lingers_until(f));
        [retry, deadline, linger].into_iter().flatten().min()
    }

    /// Answers everything that is left; the producer is going away.
    pub(in super::super) fn abandon(&mut self, error: &AppendError) -> LaneNews {
        let mut news = LaneNews::default();
        let oldest = self.sent.iter().position(|s| !s.is_answered);
        self.fail(oldest.unwrap_or(self.sent.len()), error, &mut news);
        news
    }
}

// What an error says of a batch that was never sent.
fn certain(error: &AppendError) -> AppendError {
    match error {
        AppendError::OutcomeUnknown {
            why: Unknown::Fenced(latched),
            ..
        } => AppendError::LogFenced(latched.clone()),
        AppendError::OutcomeUnknown {
            why: Unknown::Closed,
            ..
        } => AppendError::Closed,
        other => other.clone(),
    }
}
