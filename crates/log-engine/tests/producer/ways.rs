//! Ways to the log that watch, hold and lose batches, and a few calls that many tests make.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use log_engine::{
    Ack, Answer, Batch, Direct, Engine, ManualClock, Partition, Producer, Record, Ticket,
    Transport, TransportError,
};
use parking_lot::Mutex;

use crate::world::config;

/// A call, and a copy of every batch that was sent.
#[derive(Clone, Default)]
pub(crate) struct Recorder {
    sent: Arc<Mutex<Vec<(u32, Bytes)>>>,
}

impl Recorder {
    /// Batches so far: partition and bytes, in the order of the calls.
    pub(crate) fn sent(&self) -> Vec<(u32, Bytes)> {
        self.sent.lock().clone()
    }

    /// Records of each batch that was sent to a partition.
    pub(crate) fn sizes(&self, partition: u32) -> Vec<usize> {
        let sent = self.sent();
        let here = sent.iter().filter(|(p, _)| *p == partition);
        let count = |bytes: &Bytes| Batch::parse(bytes).unwrap().header().record_count;
        here.map(|(_, bytes)| usize::try_from(count(bytes)).unwrap())
            .collect()
    }
}

impl Transport for Recorder {
    fn append(&self, partition: Partition, batch: Bytes) -> Answer {
        self.sent.lock().push((partition.index(), batch.clone()));
        Direct.append(partition, batch)
    }
}

/// A network that swallows batches, and may deliver them much later.
#[derive(Clone, Default)]
pub(crate) struct Network {
    state: Arc<Mutex<NetworkState>>,
}

#[derive(Default)]
struct NetworkState {
    is_holding: bool,
    /// Answers come at once, saying that there is none.
    is_losing: bool,
    held: Vec<(Partition, Bytes)>,
}

impl Network {
    /// From now on batches do not arrive, and nobody learns of it.
    pub(crate) fn hold(&self) {
        self.state.lock().is_holding = true;
    }

    /// From now on batches do not arrive, and there is no answer.
    pub(crate) fn lose(&self) {
        let mut state = self.state.lock();
        (state.is_holding, state.is_losing) = (true, true);
    }

    pub(crate) fn mend(&self) {
        let mut state = self.state.lock();
        (state.is_holding, state.is_losing) = (false, false);
    }

    pub(crate) fn held(&self) -> Vec<(Partition, Bytes)> {
        self.state.lock().held.clone()
    }
}

impl Transport for Network {
    fn append(&self, partition: Partition, batch: Bytes) -> Answer {
        let mut state = self.state.lock();
        if !state.is_holding {
            return Direct.append(partition, batch);
        }
        state.held.push((partition, batch));
        if state.is_losing {
            return Box::pin(async { Err(TransportError::NoAnswer) });
        }
        Box::pin(std::future::pending())
    }
}

/// A call that counts how many batches of a partition are unanswered at a time.
#[derive(Clone, Default)]
pub(crate) struct Counting {
    now_and_most: Arc<Mutex<BTreeMap<u32, (usize, usize)>>>,
}

struct Counted {
    counting: Counting,
    partition: u32,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counting.now_and_most.lock();
        counts.get_mut(&self.partition).unwrap().0 -= 1;
    }
}

impl Counting {
    pub(crate) fn now(&self, partition: u32) -> usize {
        let counts = self.now_and_most.lock();
        counts.get(&partition).map_or(0, |c| c.0)
    }

    pub(crate) fn most(&self, partition: u32) -> usize {
        self.now_and_most.lock().get(&partition).map_or(0, |c| c.1)
    }
}

impl Transport for Counting {
    fn append(&self, partition: Partition, batch: Bytes) -> Answer {
        let mut counts = self.now_and_most.lock();
        let (now, most) = counts.entry(partition.index()).or_default();
        *now += 1;
        *most = (*most).max(*now);
        drop(counts);
        let counted = Counted {
            counting: self.clone(),
            partition: partition.index(),
        };
        let answer = Direct.append(partition, batch);
        Box::pin(async move {
            let answer = answer.await;
            drop(counted);
            answer
        })
    }
}

/// The smallest executor there is.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// Waits for what other threads do; fails after 30 seconds.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "not yet: {what}");
        thread::yield_now();
    }
}

/// Lets time pass, `ms` at each look, until something is so; fails after 30 seconds. The pause keeps
/// nothing in step: it is the real time that the engine's threads get for each look, so that the clock
/// does not run days ahead of them.
pub(crate) fn pass_time_until(
    clock: &ManualClock,
    ms: u32,
    what: &str,
    mut is_so: impl FnMut() -> bool,
) {
    wait_until(what, || {
        clock.advance(ms);
        thread::sleep(Duration::from_micros(200));
        is_so()
    });
}

/// A topic `t`.
pub(crate) fn topic(engine: &Engine, partitions: u32, ack: Ack) {
    engine.create_topic("t", partitions, config(ack)).unwrap();
}

/// Sends a record with a value alone to `t`.
pub(crate) fn send(producer: &Producer, value: &str) -> Ticket {
    producer
        .blocking_send(Record::to("t").value(value))
        .unwrap()
}

/// All values of `t`, sorted: one each, if nothing is there twice.
pub(crate) fn sorted(engine: &Engine, topic: &str) -> Vec<String> {
    let partitions = engine.topic(topic).unwrap().partitions();
    let mut all: Vec<String> = (0..partitions)
        .flat_map(|p| crate::world::read(engine, topic, p))
        .map(|(_, value)| value)
        .collect();
    all.sort();
    all
}

/// `n` values that sort as they are numbered.
pub(crate) fn numbered(n: usize) -> Vec<String> {
    (0..n).map(|n| format!("{n:06}")).collect()
}
