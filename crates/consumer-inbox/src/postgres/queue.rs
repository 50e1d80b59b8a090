//! Calls that come together are done together: one transaction for all that wait, and one sync.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The most calls of one transaction.
const GROUP: usize = 64;

/// Transactions at the same time: while one waits for the disk, the next one is prepared.
const WORKERS: usize = 2;

/// The answer to a commit was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unknown;

/// How calls of one kind are done.
pub(super) trait Together: Send + Sync + 'static {
    type Call: Send;
    type Answer: Send;

    fn queue(&self) -> &Queue<Self::Call, Self::Answer>;

    /// Does what can be done in one transaction: an answer for each call, none for those that have to be done alone.
    fn run(&self, calls: &[Self::Call]) -> impl Future<Output = Vec<Option<Self::Answer>>> + Send;
}

struct Waiting<C, A> {
    call: C,
    reply: oneshot::Sender<Option<A>>,
}

pub(super) struct Queue<C, A>(Mutex<State<C, A>>);

struct State<C, A> {
    waiting: VecDeque<Waiting<C, A>>,
    workers: usize,
}

impl<C, A> Default for Queue<C, A> {
    fn default() -> Self {
        Queue(Mutex::new(State {
            waiting: VecDeque::new(),
            workers: 0,
        }))
    }
}

/// Has a call done with others that came meanwhile. None if it has to be done alone, where nothing was changed or the same call may follow.
pub(super) async fn ask<T: Together>(all: &Arc<T>, call: T::Call) -> Option<T::Answer> {
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    let (reply, answer) = oneshot::channel();
    let is_needed = {
        let mut state = all.queue().0.lock();
        state.waiting.push_back(Waiting { call, reply });
        let is_needed = state.workers < WORKERS;
        state.workers += usize::from(is_needed);
        is_needed
    };
    if is_needed {
        let worker = Worker {
            all: all.clone(),
            is_over: AtomicBool::new(false),
        };
        runtime.spawn(async move { worker.work().await });
    }
    answer.await.ok().flatten()
}

/// Works until nobody waits.
struct Worker<T: Together> {
    all: Arc<T>,
    is_over: AtomicBool,
}

impl<T: Together> Worker<T> {
    async fn work(self) {
        while let Some(group) = self.next() {
            let (calls, replies): (Vec<_>, Vec<_>) =
                group.into_iter().map(|one| (one.call, one.reply)).unzip();
            let answers = self.all.run(&calls).await;
            for (reply, answer) in replies.into_iter().zip(answers) {
                let _ = reply.send(answer);
            }
        }
    }

    fn next(&self) -> Option<Vec<Waiting<T::Call, T::Answer>>> {
        let mut state = self.all.queue().0.lock();
        // Who has given up is not served.
        state.waiting.retain(|one| !one.reply.is_closed());
        let most = GROUP.min(state.waiting.len());
        if most == 0 {
            // In one step with the look: who comes next needs another worker.
            state.workers -= 1;
            self.is_over.store(true, Ordering::Relaxed);
            return None;
        }
        Some(state.waiting.drain(..most).collect())
    }
}

impl<T: Together> Drop for Worker<T> {
    // One that was stopped, with its runtime say: those who wait do it alone.
    fn drop(&mut self) {
        if !self.is_over.load(Ordering::Relaxed) {
            let mut state = self.all.queue().0.lock();
            state.workers -= 1;
            state.waiting.clear();
        }
    }
}
