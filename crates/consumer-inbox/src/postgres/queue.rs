//! Calls that come together are done together: one transaction for all that wait, and one sync.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::Pool;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::tx::PgTx;
use crate::error::StoreError;

/// The most calls of one transaction.
const GROUP: usize = 64;

/// Transactions at the same time: while one waits for the disk, the next one is prepared.
const WORKERS: usize = 2;

/// How long a transaction may take, which never waits long for a row: behind that its connection is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// How calls of one kind are done.
pub(super) trait Together: Send + Sync + 'static {
    type Call: Send + Sync;
    type Answer: Send;

    fn queue(&self) -> &Queue<Self::Call, Self::Answer>;

    fn pool(&self) -> &Pool;

    /// Does what can be done in one transaction, and ends it: an answer for each call, none for those that have to be done alone.
    fn run(
        &self,
        tx: PgTx,
        calls: &[Self::Call],
    ) -> impl Future<Output = Result<Vec<Option<Self::Answer>>, StoreError>> + Send;
}

type Reply<A> = oneshot::Sender<Option<Result<A, StoreError>>>;

struct Waiting<C, A> {
    call: C,
    reply: Reply<A>,
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
pub(super) async fn ask<T: Together>(
    all: &Arc<T>,
    call: T::Call,
) -> Option<Result<T::Answer, StoreError>> {
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
        while self.is_wanted() {
            // First the connection, which may take long: who has given up by then is not served.
            match PgTx::take(self.all.pool()).await {
                Ok(tx) => self.serve(tx, self.group(GROUP)).await,
                Err(error) => {
                    for one in self.group(usize::MAX) {
                        let _ = one.reply.send(for_all(&error));
                    }
                }
            }
        }
    }

    async fn serve(&self, tx: PgTx, group: Vec<Waiting<T::Call, T::Answer>>) {
        let (calls, mut replies): (Vec<_>, Vec<_>) =
            group.into_iter().map(|one| (one.call, one.reply)).unzip();
        if calls.is_empty() {
            tx.ended();
            return;
        }
        let given_up = async {
            for reply in &mut replies {
                reply.closed().await;
            }
        };
        // Dropped, a transaction takes its connection with it.
        let answers = tokio::select! {
            biased;
            answers = timeout(PATIENCE, self.all.run(tx, &calls)) => answers,
            () = given_up => return,
        };
        match answers.unwrap_or(Err(StoreError::Unknown)) {
            Ok(answers) => {
                for (reply, answer) in replies.into_iter().zip(answers) {
                    let _ = reply.send(answer.map(Ok));
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(for_all(&error));
                }
            }
        }
    }

    fn is_wanted(&self) -> bool {
        let mut state = self.all.queue().0.lock();
        state.waiting.retain(|one| !one.reply.is_closed());
        let is_wanted = !state.waiting.is_empty();
        if !is_wanted {
            // In one step with the look: who comes next needs another worker.
            state.workers -= 1;
            self.is_over.store(true, Ordering::Relaxed);
        }
        is_wanted
    }

    fn group(&self, most: usize) -> Vec<Waiting<T::Call, T::Answer>> {
        let mut state = self.all.queue().0.lock();
        state.waiting.retain(|one| !one.reply.is_closed());
        let most = most.min(state.waiting.len());
        state.waiting.drain(..most).collect()
    }
}

/// What each is told of an error of all: whether to ask again, or to find out alone.
fn for_all<A>(error: &StoreError) -> Option<Result<A, StoreError>> {
    match error {
        StoreError::Unknown => Some(Err(StoreError::Unknown)),
        StoreError::Unavailable => Some(Err(StoreError::Unavailable)),
        StoreError::Busy { retry_after } => Some(Err(StoreError::Busy {
            retry_after: *retry_after,
        })),
        _ => None,
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
