//! What is between producers and the log: requests wait here until the world delivers them.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bytes::Bytes;
use oncelog::{Answer, Appended, Partition, Transport, TransportError};

/// Where an embedded producer waits for its answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<SlotState>>);

#[derive(Debug, Default)]
struct SlotState {
    answer: Option<Result<Appended, TransportError>>,
    waker: Option<Waker>,
}

impl Slot {
    pub(crate) fn answer(&self, answer: Result<Appended, TransportError>) {
        let mut state = locked(&self.0);
        state.answer.get_or_insert(answer);
        if let Some(waker) = state.waker.take() {
            drop(state);
            waker.wake();
        }
    }
}

impl Slot {
    pub(crate) fn forget(&self) {
        locked(&self.0).waker = None;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who waits for the answer to a request.
#[derive(Debug, Clone)]
pub(crate) enum Sender {
    /// An embedded producer, and its number if it has no name.
    Embedded(Slot, Option<u64>),
    /// A remote client, by number.
    Remote(usize),
    /// An embedded producer that has given up on it.
    EmbeddedLate,
    /// A copy of what a remote client sent, or something that it does not wait for.
    Nobody,
}

impl Sender {
    /// Nobody waits for the answer any more: who does and the slot would keep each other for ever.
    pub(crate) fn forget(&self) {
        if let Sender::Embedded(slot, _) = self {
            slot.forget();
        }
    }
}

/// A batch on its way.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) batch: Bytes,
    pub(crate) sender: Sender,
}

/// The requests on their way, oldest first; and whose they are that come through this handle.
#[derive(Clone, Default)]
pub(crate) struct Network {
    requests: Arc<Mutex<Vec<Request>>>,
    owner: Option<u64>,
}

impl Network {
    pub(crate) fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        locked(&self.requests)
    }

    /// The same network as an embedded producer without a name uses it.
    pub(crate) fn of(&self, owner: u64) -> Network {
        Network {
            owner: Some(owner),
            ..self.clone()
        }
    }

    /// The process is gone: its producers wait for nothing any more, and what they sent is lost.
    pub(crate) fn process_ended(&self) {
        self.requests().retain(|request| {
            request.sender.forget();
            matches!(request.sender, Sender::Remote(_) | Sender::Nobody)
        });
    }
}

impl Transport for Network {
    fn append(&self, partition: Partition, batch: Bytes) -> Answer {
        let slot = Slot::default();
        self.requests().push(Request {
            topic: partition.topic().to_owned(),
            partition: partition.index(),
            batch,
            sender: Sender::Embedded(slot.clone(), self.owner),
        });
        Box::pin(poll_fn(move |context| {
            let mut state = locked(&slot.0);
            match state.answer.take() {
                Some(answer) => Poll::Ready(answer),
                None => {
                    state.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }
}
