//! A link that loses answers, and notes what it carried and what the log made of it.

use std::sync::{Arc, Mutex};

use oncelog::storage::MemoryDisk;
use oncelog::testing::Lossy;
use oncelog::{
    Answer, AppendError, BatchHeader, Clock, Decision, Engine, Env, Partition, ProducerIdentity,
    SystemClock, Transport, TransportError,
};

/// A batch on its way, and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) identity: ProducerIdentity,
    pub(crate) records: u32,
    /// What the log said when it was asked just before ([`Partition::explain`]).
    pub(crate) decision: Decision,
    /// Offset of the first record, by the same answer.
    pub(crate) offset: u64,
    /// Whether the producer got the answer.
    pub(crate) is_answered: bool,
}

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    /// The program's disk, if it is to be killed when an answer is lost.
    disk: Option<MemoryDisk>,
    killed: Option<MemoryDisk>,
}

/// See the module. Clones are the same link.
#[derive(Clone)]
pub(crate) struct Watched {
    lossy: Lossy,
    state: Arc<Mutex<State>>,
}

impl Watched {
    pub(crate) fn new(lossy: Lossy) -> Watched {
        let state = Arc::default();
        Watched { lossy, state }
    }

    /// Kills the program when an answer is lost, before it can send again.
    pub(crate) fn killing(self, disk: &MemoryDisk) -> Watched {
        self.state.lock().unwrap().disk = Some(disk.clone());
        self
    }

    /// What it carried so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// What the next run of the program finds, if this one was killed.
    pub(crate) fn disk_of_the_killed(&self) -> Option<MemoryDisk> {
        self.state.lock().unwrap().killed.clone()
    }
}

impl Transport for Watched {
    fn append(&self, partition: Partition, batch: bytes::Bytes) -> Answer {
        let mut state = self.state.lock().unwrap();
        if state.killed.is_some() {
            return Box::pin(std::future::ready(Err(AppendError::Closed.into())));
        }
        let header = BatchHeader::read(&batch).unwrap();
        let identity = ProducerIdentity {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
        };
        let records = u32::try_from(header.record_count).unwrap();
        let explained = partition.explain(identity, records).unwrap();
        let at = state.requests.len();
        state.requests.push(Request {
            identity,
            records,
            decision: explained.decision,
            offset: explained.offset.expect("nothing here is refused"),
            is_answered: false,
        });
        drop(state);
        let (answer, watched) = (self.lossy.append(partition, batch), self.clone());
        Box::pin(async move {
            let answer = answer.await;
            let mut state = watched.state.lock().unwrap();
            match &answer {
                Ok(appended) => {
                    let request = &mut state.requests[at];
                    request.is_answered = true;
                    assert_eq!(appended.offset, request.offset);
                    assert_eq!(
                        appended.duplicate,
                        request.decision == Decision::Duplicate,
                        "the log does as it says"
                    );
                }
                Err(TransportError::NoAnswer) => {
                    state.killed = state.disk.as_ref().map(MemoryDisk::after_kill);
                }
                Err(error) => panic!("{error}"),
            }
            answer
        })
    }
}

/// An engine in memory whose answers are the same each time.
pub(crate) fn engine(disk: &MemoryDisk) -> Engine {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let disk = Arc::new(disk.clone());
    let env = Env {
        disk,
        clock,
        seed: 1,
    };
    Engine::with_env(env).open().unwrap()
}
