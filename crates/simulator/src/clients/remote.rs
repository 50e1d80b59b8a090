//! Producers outside of the process, as Kafka's clients are: they number their batches themselves,
//! send each again until it is answered, and outlive the engine's crashes.

use std::collections::VecDeque;

use bytes::Bytes;
use oncelog::{AppendError, BatchBuilder, ProducerIdentity, Rejection};

use crate::batch::{SeenBatch, value};
use crate::network::{Request, Sender};
use crate::random::Random;
use crate::violation::{Violation, violated};
use crate::world::World;

/// Answered batches that may still be sent again by whoever does not listen.
const OLD: usize = 8;

/// One session of a remote producer, on one log.
pub(crate) struct Remote {
    log: usize,
    producer_id: i64,
    epoch: i16,
    next: i32,
    /// From the oldest unanswered one on.
    unanswered: VecDeque<Sent>,
    answered: VecDeque<Bytes>,
    last_offset: Option<u64>,
}

struct Sent {
    batch: SeenBatch,
    bytes: Bytes,
    is_answered: bool,
}

impl World {
    /// A remote producer begins a session.
    pub(crate) fn remote_open(&mut self, random: &mut Random) -> Result<(), Violation> {
        let remote = self.remote_session(random.place(self.logs.len()))?;
        if let Some(remote) = remote {
            self.remotes.push(remote);
        }
        Ok(())
    }

    fn remote_session(&mut self, log: usize) -> Result<Option<Remote>, Violation> {
        let session = match self.engine()?.session() {
            Ok(session) => session,
            Err(_) if self.may_fail() => return Ok(None),
            Err(error) => return violated("I15", format!("no session: {error}")),
        };
        let (producer_id, epoch) = (session.producer_id(), session.epoch());
        self.new_id(producer_id)?;
        self.event(format_args!(
            "remote producer {producer_id} begins on log {log}"
        ));
        Ok(Some(Remote {
            log,
            producer_id,
            epoch,
            next: 0,
            unanswered: VecDeque::new(),
            answered: VecDeque::new(),
            last_offset: None,
        }))
    }

    /// A remote producer makes a batch and sends it.
    pub(crate) fn remote_send(
        &mut self,
        client: usize,
        random: &mut Random,
    ) -> Result<(), Violation> {
        let remote = &self.remotes[client];
        if remote.unanswered.len() as u64 >= self.plan.in_flight {
            return self.remote_resend(client);
        }
        let identity = (remote.producer_id, remote.epoch, remote.next);
        let contents = (0..random.between(1, 3)).map(|_| self.content()).collect();
        let (batch, bytes) = self.made(identity, contents, random)?;
        let remote = &mut self.remotes[client];
        // Sequences go from 0 to i32::MAX and around.
        let next = (i64::from(remote.next) + i64::from(batch.count)) % (1 << 31);
        remote.next = i32::try_from(next).unwrap_or(0);
        remote.unanswered.push_back(Sent {
            batch,
            bytes: bytes.clone(),
            is_answered: false,
        });
        let log = remote.log;
        self.remote_request(log, bytes, Sender::Remote(client));
        Ok(())
    }

    /// Many producers come to a log, send one batch each, and are never heard of again.
    pub(crate) fn remote_crowd(&mut self, random: &mut Random) -> Result<(), Violation> {
        let log = random.place(self.logs.len());
        for _ in 0..random.between(8, 24) {
            let Some(Remote {
                producer_id, epoch, ..
            }) = self.remote_session(log)?
            else {
                return Ok(());
            };
            let content = self.content();
            let (_, bytes) = self.made((producer_id, epoch, 0), vec![content], random)?;
            self.remote_request(log, bytes, Sender::Nobody);
        }
        Ok(())
    }

    fn made(
        &self,
        (producer_id, producer_epoch, base_sequence): (i64, i16, i32),
        contents: Vec<u64>,
        random: &mut Random,
    ) -> Result<(SeenBatch, Bytes), Violation> {
        let mut builder = BatchBuilder::new();
        for content in contents {
            let value = value(content, random.below(self.plan.record_bytes));
            let pushed = builder.push(1_790_000_000_000, None, Some(&value), &[]);
            if let Err(error) = pushed {
                return violated("SIM", error.to_string());
            }
        }
        let identity = ProducerIdentity {
            producer_id,
            producer_epoch,
            base_sequence,
        };
        let bytes = match builder.build(Some(identity)) {
            Ok(bytes) => Bytes::copy_from_slice(bytes),
            Err(error) => return violated("SIM", error.to_string()),
        };
        match SeenBatch::read(&bytes) {
            Some((batch, [])) => Ok((batch, bytes.clone())),
            _ => violated("I35", "the builder made what is no batch".into()),
        }
    }

    fn remote_request(&mut self, log: usize, batch: Bytes, sender: Sender) {
        let log = &self.logs[log];
        let (topic, partition) = (log.topic.to_owned(), log.partition);
        self.network.requests().push(Request {
            topic,
            partition,
            batch,
            sender,
        });
    }

    /// A remote producer sends everything again that it has no answer for.
    pub(crate) fn remote_resend(&mut self, client: usize) -> Result<(), Violation> {
        let again: Vec<Bytes> = self.remotes[client]
            .unanswered
            .iter()
            .filter(|sent| !sent.is_answered)
            .map(|sent| sent.bytes.clone())
            .collect();
        let log = self.remotes[client].log;
        for bytes in again {
            self.remote_request(log, bytes, Sender::Remote(client));
        }
        Ok(())
    }

    /// Something comes that no correct producer sends, or sends so late. The model knows the answer.
    pub(crate) fn remote_misbehave(
        &mut self,
        client: usize,
        random: &mut Random,
    ) -> Result<(), Violation> {
        let remote = &self.remotes[client];
        let (id, epoch, next) = (remote.producer_id, remote.epoch, remote.next);
        let late = remote
            .answered
            .get(random.place(remote.answered.len().max(1)))
            .cloned();
        let old = remote.unanswered.is_empty().then_some(epoch);
        let identity = match random.below(6) {
            0 | 1 => {
                if let Some(bytes) = late {
                    self.remote_request(self.remotes[client].log, bytes, Sender::Nobody);
                }
                return Ok(());
            }
            // A gap; other content under a number that was used; an epoch that is over; a new epoch
            // that does not begin at its beginning.
            2 => (
                id,
                epoch,
                next.saturating_add(1 + i32::try_from(random.below(9)).unwrap_or(0)),
            ),
            3 => (id, epoch, (next - 1).max(0)),
            4 if epoch > 0 => (id, epoch - 1, next),
            5 => (id, epoch + 1, 1),
            _ => {
                // The producer itself goes on under the next epoch.
                if let Some(epoch) = old.filter(|epoch| *epoch < 100) {
                    let remote = &mut self.remotes[client];
                    (remote.epoch, remote.next) = (epoch + 1, 0);
                    remote.answered.clear();
                }
                return Ok(());
            }
        };
        // Nothing of it may ever be stored, so its contents are nobody's.
        let (log, now_ms) = (self.remotes[client].log, self.engine_ms());
        let (batch, bytes) = self.made(identity, vec![u64::MAX; 2], random)?;
        let appends =
            |verdict: &crate::model::Verdict| matches!(verdict, crate::model::Verdict::Append);
        let in_flight = !self.remotes[client].unanswered.is_empty();
        if in_flight
            || self.logs[log]
                .model
                .judge(&batch, now_ms)
                .iter()
                .any(appends)
        {
            return Ok(());
        }
        // At once: later it might be the next one.
        self.network.requests().insert(
            0,
            Request {
                topic: self.logs[log].topic.to_owned(),
                partition: self.logs[log].partition,
                batch: bytes,
                sender: Sender::Nobody,
            },
        );
        self.arrive_first()
    }

    pub(crate) fn remote_acked(
        &mut self,
        client: usize,
        batch: &SeenBatch,
        log: usize,
        offset: u64,
    ) -> Result<(), Violation> {
        let durably = self.is_durable(log);
        for (at, content) in (offset..).zip(&batch.contents) {
            self.history.acked(*content, log, at, durably)?;
        }
        let remote = &mut self.remotes[client];
        let is_it = |sent: &Sent| sent.batch.identity == batch.identity;
        let Some(at) = remote.unanswered.iter().position(is_it) else {
            // An answer to an earlier try.
            return Ok(());
        };
        remote.unanswered[at].is_answered = true;
        if at == 0 {
            if remote.last_offset.is_some_and(|last| offset <= last) {
                return violated(
                    "I3",
                    format!(
                        "producer {}: {offset} after {:?}",
                        remote.producer_id, remote.last_offset
                    ),
                );
            }
            remote.last_offset = Some(offset);
        }
        while remote
            .unanswered
            .front()
            .is_some_and(|sent| sent.is_answered)
        {
            let sent = remote.unanswered.pop_front();
            remote.answered.extend(sent.map(|sent| sent.bytes));
        }
        while remote.answered.len() > OLD {
            remote.answered.pop_front();
        }
        Ok(())
    }

    pub(crate) fn remote_refused(
        &mut self,
        client: usize,
        batch: &SeenBatch,
        error: &AppendError,
    ) -> Result<(), Violation> {
        let AppendError::Rejected { rejection, .. } = error else {
            return Ok(());
        };
        let remote = &self.remotes[client];
        let oldest = remote.unanswered.front().map(|sent| sent.batch.identity);
        if oldest != Some(batch.identity) {
            // One before it is not there yet, or this is an old try.
            return Ok(());
        }
        let log = remote.log;
        let model = &self.logs[log].model;
        let is_lost = !model.rules.is_synced
            || model.rules.expiry_ms > 0
            // Whoever is met first with a later batch, as the network may have it, stays without the earlier.
            || model.rules.kafka_unknown;
        match rejection {
            Rejection::OutOfOrder { .. }
            | Rejection::UnknownProducer { .. }
            | Rejection::Forgotten { .. }
                if is_lost => {}
            Rejection::Forgotten { .. } if batch.identity.2 == 0 => {}
            _ => {
                let name = &model.name;
                return violated(
                    "I1",
                    format!("log {name}: the oldest unanswered batch: {rejection}"),
                );
            }
        }
        // What went before it is lost, or forgotten: a new session, for new records.
        if let Some(session) = self.remote_session(log)? {
            self.remotes[client] = session;
        }
        Ok(())
    }

    /// Whether every remote producer has its answers.
    pub(crate) fn remotes_done(&self) -> bool {
        self.remotes
            .iter()
            .all(|remote| remote.unanswered.is_empty())
    }
}
