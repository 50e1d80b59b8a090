//! The thread that owns the connection. Transactions follow each other on it; what has to wait too long is told so.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::{
    Connection, ErrorCode, InterruptHandle, OpenFlags, Transaction, TransactionBehavior,
};
use tokio::sync::oneshot;

use super::session::failed;
use crate::error::StoreError;
use crate::sql::{LOCKED, OpenError};

/// The most short transactions that share one commit.
const GROUP: usize = 64;

const ENDED: &str = "the transaction ended inside the handler, by a commit or rollback of its own or an error that rolls back all: the delivery must come again";

type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// A short transaction: what it leaves to say when it is committed, and whether its writes are wanted.
type Short = Box<dyn FnOnce(&Connection) -> (bool, Done) + Send>;
type Job = Box<dyn FnOnce(Result<&Transaction<'_>, StoreError>) + Send>;

enum Message {
    /// A short transaction; refused with the second one.
    Short(Short, Done),
    Begin(u64, Done),
    Run(u64, Job),
    Commit(u64, Done),
    Rollback(u64),
}

struct Waiting {
    message: Message,
    until: Instant,
}

/// A handle of the thread, which ends with the last one.
pub(crate) struct Writer {
    /// None only while it is dropped.
    messages: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
    /// The transaction whose statement runs now.
    running: Arc<Mutex<Option<u64>>>,
    interrupt: InterruptHandle,
}

impl Writer {
    pub(crate) fn start(connection: Connection, wait: Duration) -> Result<Writer, OpenError> {
        Writer::begin_with(connection, wait, TransactionBehavior::Immediate)
    }

    /// One that only reads, and so waits for nobody; none if the connection's database is in memory and nobody else can read it.
    pub(crate) fn beside(
        connection: &Connection,
        wait: Duration,
    ) -> Result<Option<Writer>, OpenError> {
        let Some(path) = connection.path().filter(|path| !path.is_empty()) else {
            return Ok(None);
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(path, flags).map_err(failed)?;
        reader.busy_timeout(wait).map_err(failed)?;
        Writer::begin_with(reader, wait, TransactionBehavior::Deferred).map(Some)
    }

    fn begin_with(
        connection: Connection,
        wait: Duration,
        behavior: TransactionBehavior,
    ) -> Result<Writer, OpenError> {
        let (messages, receiver) = channel();
        let running = Arc::new(Mutex::new(None));
        let interrupt = connection.get_interrupt_handle();
        let state = Loop {
            receiver,
            waiting: VecDeque::new(),
            wait,
            behavior,
            running: running.clone(),
        };
        let thread = std::thread::Builder::new().name("oncelog-sqlite".to_owned());
        let thread = thread
            .spawn(move || state.run(connection))
            .map_err(StoreError::backend)?;
        Ok(Writer {
            messages: Some(messages),
            thread: Some(thread),
            running,
            interrupt,
        })
    }

    /// Runs a short transaction, perhaps with others in one commit: its result when that is durable.
    pub(crate) async fn short<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        // Whoever answers takes it: a refusal, or the job.
        let reply = Arc::new(Mutex::new(Some(reply)));
        let refusal = reply.clone();
        let refuse: Done = Box::new(move |refused| {
            if let (Some(reply), Err(error)) = (refusal.lock().take(), refused) {
                let _ = reply.send(Err(error));
            }
        });
        let run: Short = Box::new(move |connection| {
            let result = job(connection);
            let keep = result.is_ok();
            let done: Done = Box::new(move |committed| {
                if let Some(reply) = reply.lock().take() {
                    let _ = reply.send(result.and_then(|value| committed.map(|()| value)));
                }
            });
            (keep, done)
        });
        self.send(Message::Short(run, refuse))?;
        answer.await.unwrap_or(Err(StoreError::Unavailable))
    }

    pub(crate) async fn begin(&self, id: u64) -> Result<(), StoreError> {
        self.ask(|done| Message::Begin(id, done)).await
    }

    /// Runs a piece of a transaction that was begun. A panic in it is a panic here.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        id: u64,
        job: impl FnOnce(&Transaction<'_>) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |tx| {
            let result: Result<_, Box<dyn Any + Send>> =
                catch_unwind(AssertUnwindSafe(|| tx.map(job)));
            let _ = reply.send(result);
        });
        self.send(Message::Run(id, job))?;
        match answer.await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(StoreError::Unavailable),
        }
    }

    /// After an error nothing is committed, unless that is `Unknown`.
    pub(crate) async fn commit(&self, id: u64) -> Result<(), StoreError> {
        self.ask(|done| Message::Commit(id, done)).await
    }

    /// Ends a transaction, and the statement of it that may still run.
    pub(crate) fn abandon(&self, id: u64) {
        let running = self.running.lock();
        // A failure to send means that the thread is gone, and its transaction with it.
        let _ = self.send(Message::Rollback(id));
        if *running == Some(id) {
            self.interrupt.interrupt();
        }
    }

    async fn ask(&self, message: impl FnOnce(Done) -> Message) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let done: Done = Box::new(|result| {
            let _ = reply.send(result);
        });
        self.send(message(done))?;
        answer.await.unwrap_or(Err(StoreError::Unavailable))
    }

    fn send(&self, message: Message) -> Result<(), StoreError> {
        let messages = self.messages.as_ref().ok_or(StoreError::Unavailable)?;
        messages.send(message).map_err(|_| StoreError::Unavailable)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.messages = None;
        if let Some(thread) = self.thread.take() {
            // It closes the file; jobs that panic are caught.
            let _ = thread.join();
        }
    }
}

struct Loop {
    receiver: Receiver<Message>,
    waiting: VecDeque<Waiting>,
    wait: Duration,
    behavior: TransactionBehavior,
    running: Arc<Mutex<Option<u64>>>,
}

impl Loop {
    fn run(mut self, mut connection: Connection) {
        while let Some(message) = self.next() {
            match message {
                Message::Short(run, refuse) => {
                    let group = self.group((run, refuse));
                    commit_together(&mut connection, self.behavior, group);
                }
                Message::Begin(id, done) => self.transaction(&mut connection, id, done),
                Message::Run(_, job) => job(Err(StoreError::Misuse(ENDED))),
                Message::Commit(_, done) => done(Err(StoreError::Misuse(ENDED))),
                Message::Rollback(_) => {}
            }
        }
    }

    fn next(&mut self) -> Option<Message> {
        let waiting = self.waiting.pop_front().map(|waiting| waiting.message);
        waiting.or_else(|| self.receiver.recv().ok())
    }

    /// Short transactions that came meanwhile, in their order, up to the first of another kind.
    fn group(&mut self, first: (Short, Done)) -> Vec<(Short, Done)> {
        let mut group = vec![first];
        while group.len() < GROUP {
            let waiting = self.waiting.pop_front().map(|waiting| waiting.message);
            match waiting.or_else(|| self.receiver.try_recv().ok()) {
                Some(Message::Short(run, refuse)) => group.push((run, refuse)),
                Some(message) => {
                    let until = Instant::now() + self.wait;
                    self.waiting.push_front(Waiting { message, until });
                    break;
                }
                None => break,
            }
        }
        group
    }

    /// One transaction, until its holder ends it. Everybody else waits, but not for ever.
    fn transaction(&mut self, connection: &mut Connection, id: u64, done: Done) {
        let tx = match connection.transaction_with_behavior(self.behavior) {
            Ok(tx) => tx,
            Err(error) => return done(Err(failed(error))),
        };
        done(Ok(()));
        while let Some(message) = self.message() {
            match message {
                Message::Run(of, job) if of == id => {
                    *self.running.lock() = Some(id);
                    match tx.is_autocommit() {
                        false => job(Ok(&tx)),
                        true => job(Err(StoreError::Misuse(ENDED))),
                    }
                    *self.running.lock() = None;
                }
                Message::Commit(of, done) if of == id => {
                    let result = match tx.is_autocommit() {
                        false => tx.commit().map_err(|error| commit_failed(&error)),
                        true => Err(StoreError::Misuse(ENDED)),
                    };
                    return done(result);
                }
                Message::Rollback(of) if of == id => return,
                Message::Run(_, job) => job(Err(StoreError::Misuse(ENDED))),
                Message::Commit(_, done) => done(Err(StoreError::Misuse(ENDED))),
                Message::Rollback(_) => {}
                message @ (Message::Short(..) | Message::Begin(..)) => {
                    let until = Instant::now() + self.wait;
                    self.waiting.push_back(Waiting { message, until });
                }
            }
        }
    }

    /// The next message for an open transaction. Refuses, meanwhile, what has waited for too long; none when nobody is left.
    fn message(&mut self) -> Option<Message> {
        loop {
            let now = Instant::now();
            while self.waiting.front().is_some_and(|first| first.until <= now) {
                let refuse = match self.waiting.pop_front().map(|waiting| waiting.message) {
                    Some(Message::Short(_, refuse) | Message::Begin(_, refuse)) => refuse,
                    _ => continue,
                };
                refuse(Err(BUSY));
            }
            let Some(first) = self.waiting.front() else {
                return self.receiver.recv().ok();
            };
            match self.receiver.recv_timeout(first.until - now) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }
}

/// One commit for all. Each has a savepoint, so that one that fails takes nothing of the others back.
fn commit_together(
    connection: &mut Connection,
    behavior: TransactionBehavior,
    group: Vec<(Short, Done)>,
) {
    let tx = match connection.transaction_with_behavior(behavior) {
        Ok(tx) => tx,
        Err(error) => {
            for (_, refuse) in group {
                refuse(Err(match is_busy(&error) {
                    true => BUSY,
                    false => StoreError::Unavailable,
                }));
            }
            return;
        }
    };
    let mut done = Vec::with_capacity(group.len());
    for (run, refuse) in group {
        if let Err(error) = tx.execute_batch("savepoint short") {
            refuse(Err(failed(error)));
            continue;
        }
        let (keep, reply) = run(&tx);
        let end = match keep {
            true => "release savepoint short",
            false => "rollback to savepoint short; release savepoint short",
        };
        match tx.execute_batch(end) {
            Ok(()) => done.push(reply),
            Err(error) => reply(Err(failed(error))),
        }
    }
    let committed = tx.commit();
    for reply in done {
        reply(match &committed {
            Ok(()) => Ok(()),
            Err(error) => Err(commit_failed(error)),
        });
    }
}

const BUSY: StoreError = StoreError::Busy {
    retry_after: LOCKED,
};

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// A commit that failed. Of a disk that failed nobody knows what it kept.
fn commit_failed(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        _ if is_busy(error) => BUSY,
        // A deferred constraint of the user's, say.
        Some(ErrorCode::ConstraintViolation) => StoreError::backend(error.to_string()),
        _ => StoreError::Unknown,
    }
}
