//! The link of one session of a producer to the log: loses acknowledgements by a seed, hangs when
//! it is told to, is cut in the end, and sees what is answered.
//!
//! Which acknowledgements it loses depends on whose batch it is and on how often that was sent, not
//! on when. Batches reach a partition in the order in which they were sent, so that none is refused
//! because another one waits for room.

mod seen;

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bytes::Bytes;
use oncelog::{Answer, AppendError, BatchHeader, Partition, Transport, TransportError};

use crate::dice::Dice;

pub(crate) use self::seen::Acknowledged;
use self::seen::Seen;

/// What sets the dice of a link apart from those of all others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whose {
    pub(crate) seed: u64,
    pub(crate) producer: u32,
    /// Which session of the producer it is, from 0.
    pub(crate) session: u64,
}

/// See the module. Clones are the same link.
#[derive(Clone)]
pub(crate) struct Link(Arc<Shared>);

struct Shared {
    whose: Whose,
    lost: f64,
    state: Mutex<State>,
    delivered: Condvar,
    seen: Seen,
}

#[derive(Default)]
struct State {
    mode: Mode,
    lanes: HashMap<u32, Lane>,
    /// Of answers that wait for their turn, or for the end.
    waiting: Vec<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    #[default]
    Up,
    /// Delivers, and answers no more.
    Hanging,
    /// Delivers no more.
    Cut,
}

/// What is on its way to a partition.
#[derive(Default)]
struct Lane {
    sent: u64,
    delivered: u64,
    /// Tries of each batch without an answer, by its epoch and first sequence.
    tries: HashMap<(i16, i32), u64>,
}

impl Link {
    /// `lost` is the share of acknowledgements that do not arrive, 0 to below 1.
    pub(crate) fn new(whose: Whose, lost: f64) -> Link {
        Link(Arc::new(Shared {
            whose,
            lost,
            state: Mutex::default(),
            delivered: Condvar::new(),
            seen: Seen::default(),
        }))
    }

    /// What arrived.
    pub(crate) fn acknowledged(&self) -> Acknowledged {
        self.0.seen.acknowledged()
    }

    /// Records that the log answered as known already.
    pub(crate) fn duplicates_answered(&self) -> u64 {
        self.0.seen.duplicates_answered()
    }

    /// The first refusal that does not pass. The producer would try again until its delivery
    /// timeout, for what is a full disk, say.
    pub(crate) fn trouble(&self) -> Option<AppendError> {
        self.0.seen.trouble()
    }

    /// From now on batches arrive, and nobody learns of it.
    pub(crate) fn hang(&self) {
        self.0.lock().mode = Mode::Hanging;
    }

    /// Waits until everything that was sent is in the log.
    pub(crate) fn wait_for_delivery(&self) {
        let mut state = self.0.lock();
        while state.lanes.values().any(|lane| lane.delivered < lane.sent) {
            let woken = self.0.delivered.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// From now on nothing arrives, and whoever waits is told so.
    pub(crate) fn cut(&self) {
        let mut state = self.0.lock();
        state.mode = Mode::Cut;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn until(&self, is_so: impl Fn(&State) -> bool) {
        std::future::poll_fn(|context| {
            let mut state = self.lock();
            if is_so(&state) {
                return Poll::Ready(());
            }
            state.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The batch with that number is in the log, or refused: the next one's turn.
    fn note_delivered(&self, partition: u32, number: u64) {
        let mut state = self.lock();
        state.lanes.entry(partition).or_default().delivered = number + 1;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.delivered.notify_all();
        waiting.into_iter().for_each(Waker::wake);
    }

    fn loses(&self, partition: u32, (epoch, sequence): (i16, i32)) -> bool {
        if self.lost == 0.0 {
            return false;
        }
        let mut state = self.lock();
        let tries = &mut state.lanes.entry(partition).or_default().tries;
        let tried = tries.entry((epoch, sequence)).or_default();
        let whose = self.whose;
        let is_lost = Dice::of(&[
            whose.seed,
            u64::from(whose.producer),
            whose.session,
            u64::from(partition),
            u64::from(epoch.unsigned_abs()),
            u64::from(sequence.unsigned_abs()),
            *tried,
        ])
        .falls(self.lost);
        *tried += 1;
        if !is_lost {
            tries.remove(&(epoch, sequence));
        }
        is_lost
    }

    /// Carries one batch when it is its turn, and the answer back.
    async fn carry(
        &self,
        partition: Partition,
        batch: Bytes,
        (number, mode): (u64, Mode),
    ) -> Result<oncelog::Appended, TransportError> {
        let index = partition.index();
        let is_next = |state: &State| {
            let lane = state.lanes.get(&index);
            lane.is_none_or(|lane| lane.delivered == number)
        };
        self.until(is_next).await;
        let started = partition.start(&batch).await;
        self.note_delivered(index, number);
        let appended = started?.wait().await?;
        self.seen.note_answer(&appended);
        if mode == Mode::Hanging {
            self.until(|state| state.mode == Mode::Cut).await;
            return Err(AppendError::Closed.into());
        }
        let header = BatchHeader::read(&batch);
        let whose = header.map_or((0, -1), |h| (h.producer_epoch, h.base_sequence));
        if self.loses(index, whose) {
            return Err(TransportError::NoAnswer);
        }
        self.seen.note_arrival(&appended, batch.len());
        Ok(appended)
    }
}

impl Transport for Link {
    fn append(&self, partition: Partition, batch: Bytes) -> Answer {
        let shared = self.0.clone();
        let mut state = shared.lock();
        let mode = state.mode;
        if mode == Mode::Cut {
            return Box::pin(std::future::ready(Err(AppendError::Closed.into())));
        }
        let lane = state.lanes.entry(partition.index()).or_default();
        let number = lane.sent;
        lane.sent += 1;
        drop(state);
        Box::pin(async move {
            let answer = shared.carry(partition, batch, (number, mode)).await;
            if mode == Mode::Up
                && let Err(TransportError::Append(error)) = &answer
            {
                shared.seen.note_refusal(error);
            }
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use oncelog::{Engine, Record, TopicConfig};

    use super::*;

    /// Sends 600 records in 60 batches: the link, how many were sent again, how many are stored.
    fn send(lost: f64, idempotence: bool, max_in_flight: usize) -> (Link, u64, u64) {
        let engine = Engine::in_memory();
        let config = TopicConfig::default().with_idempotence(idempotence);
        let topic = engine.create_topic("t", 1, config).unwrap();
        let whose = Whose {
            seed: 7,
            producer: 0,
            session: 0,
        };
        let link = Link::new(whose, lost);
        let producer = engine
            .producer()
            .transport(link.clone())
            .max_in_flight(max_in_flight)
            .batch_records(10)
            .linger(std::time::Duration::from_secs(60))
            .retry_backoff_max(std::time::Duration::from_millis(1))
            .open()
            .unwrap();
        for record in 0..600 {
            let value = format!("record {record}");
            let record = Record::to("t").value(&value);
            drop(producer.blocking_send(record).unwrap());
        }
        producer.blocking_flush().unwrap();
        (
            link,
            producer.counts().retransmitted,
            topic.describe().records,
        )
    }

    #[test]
    fn every_record_is_stored_once_however_many_acknowledgements_are_lost() {
        for (lost, max_in_flight) in [(0.0, 5), (0.2, 1), (0.2, 5), (0.9, 5)] {
            let (link, resent, stored) = send(lost, true, max_in_flight);
            let acknowledged = link.acknowledged();
            assert_eq!((acknowledged.records, acknowledged.batches), (600, 60));
            assert!(acknowledged.bytes > 600 * 10);
            assert_eq!((stored, link.duplicates_answered()), (600, resent));
            assert_eq!(resent > 0, lost > 0.0);
            assert!(link.trouble().is_none());
        }
    }

    #[test]
    fn without_the_check_what_is_sent_again_is_stored_again() {
        let (link, resent, stored) = send(0.5, false, 5);
        assert!(resent > 0);
        assert_eq!((stored, link.duplicates_answered()), (600 + resent, 0));
    }

    #[test]
    fn losses_do_not_depend_on_how_many_are_in_flight() {
        assert_eq!(send(0.3, true, 1).1, send(0.3, true, 5).1);
    }

    #[test]
    fn a_refusal_that_does_not_pass_is_remembered() {
        let engine = Engine::in_memory();
        let topic = engine.ensure_topic("t", 1).unwrap();
        let whose = Whose {
            seed: 7,
            producer: 0,
            session: 0,
        };
        let link = Link::new(whose, 0.0);
        let partition = topic.partition(0).unwrap();
        drop(engine.close());
        let answer = link.append(partition, Bytes::from_static(b"no batch"));
        assert!(crate::wait::wait_unless(answer, || false).unwrap().is_err());
        assert!(link.trouble().is_some());
    }
}
