//! Futures: any executor, or none; dropped at every step; and blocking calls on the wrong thread.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use log_engine::{Ack, Engine};

use crate::world::{World, config, numbered, one_partition, plain, read, record, values};

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

#[test]
fn no_runtime_is_needed() {
    let engine = Engine::in_memory();
    let partition = one_partition(&engine, Ack::Synced);
    block_on(async {
        assert_eq!(partition.append(&plain("a")).await.unwrap().offset, 1);
        let session = engine.session().unwrap();
        let mut appender = session.appender("t", 0).unwrap();
        assert_eq!(appender.append(&[record("b")]).await.unwrap().offset, 2);
        let mut reader = engine.reader("t").open().unwrap();
        let mut count = 0;
        while let Some(record) = reader.next().await {
            assert_eq!(record.unwrap().offset(), count);
            count += 1;
        }
        assert_eq!(count, 3);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_append_under_tokio() {
    let engine = Engine::in_memory();
    engine.create_topic("t", 1, config(Ack::Synced)).unwrap();
    let mut follower = engine.reader("t").follow().open().unwrap();
    let following = tokio::spawn(async move {
        for expected in 0..200 {
            let record = follower.next().await.unwrap().unwrap();
            assert_eq!(record.offset(), expected);
        }
    });
    let tasks: Vec<_> = (0..20)
        .map(|task| {
            let session = engine.session().unwrap();
            let mut appender = session.appender("t", 0).unwrap();
            tokio::spawn(async move {
                for n in 0..10 {
                    let value = format!("{task} {n}");
                    appender.append(&[record(&value)]).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    following.await.unwrap();
    assert_eq!(engine.topic("t").unwrap().describe().records, 200);
}

fn panic_text(call: impl FnOnce()) -> String {
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).unwrap_err();
    let text = panicked.downcast_ref::<String>().cloned();
    text.or_else(|| panicked.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap()
}

#[test]
fn a_blocking_call_on_an_async_worker_panics_and_names_the_other_one() {
    let engine = Engine::in_memory();
    let partition = one_partition(&engine, Ack::Synced);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let on_worker = tokio::spawn({
            let (engine, partition) = (engine.clone(), partition.clone());
            async move {
                let session = engine.session().unwrap();
                let mut appender = session.appender("t", 0).unwrap();
                let mut reader = engine.reader("t").open().unwrap();
                let pending = partition.try_append(&plain("tried")).unwrap();
                vec![
                    panic_text(|| drop(partition.blocking_append(&plain("x")))),
                    panic_text(|| drop(partition.blocking_start(&plain("x")))),
                    panic_text(|| drop(appender.blocking_append(&[record("x")]))),
                    panic_text(|| drop(pending.blocking_wait())),
                    panic_text(|| drop(reader.blocking_iter().next())),
                    panic_text(|| drop(reader.blocking_next_batches())),
                ]
            }
        });
        let texts = on_worker.await.unwrap();
        let instead = ["append", "append", "append", "wait", "next", "next_batches"];
        for (text, instead) in texts.iter().zip(instead) {
            let names = text.contains("would block an async worker; use `");
            assert!(
                names && text.contains(&format!("use `{instead}`")),
                "{text}"
            );
        }
        assert_eq!(texts.len(), instead.len());
        // Where waiting is allowed it works, and nothing of the above was written.
        let blocking = tokio::task::spawn_blocking({
            let partition = partition.clone();
            move || partition.blocking_append(&plain("allowed")).unwrap().offset
        });
        assert_eq!(blocking.await.unwrap(), 2);
    });
    assert_eq!(values(&engine, "t"), ["first", "tried", "allowed"]);
}

// Polls `future` at most `polls` times, then drops it.
fn poll_and_drop<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..polls {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Some(value);
        }
    }
    None
}

#[test]
fn a_future_dropped_at_any_step_leaves_the_log_usable_and_its_outcome_known() {
    let world = World::new();
    let engine = world.open();
    // Cold: the first append of a log has no segment yet, so a drop can fall before the write.
    for (n, ack) in [Ack::Synced, Ack::Memory, Ack::Synced, Ack::Memory]
        .into_iter()
        .enumerate()
    {
        for polls in 0..4 {
            let name = format!("t{n}-{polls}");
            let topic = engine.create_topic(&name, 1, config(ack)).unwrap();
            let partition = topic.partition(0).unwrap();
            let id = engine.session().unwrap().producer_id();
            let gate = (n % 2 == 0).then(|| world.disk.hold_syncs());
            let batch = numbered(id, 0, &["once"]);
            let answered = poll_and_drop(partition.append(&batch), polls);
            drop(gate);
            // The same again tells, whatever had happened (I7, I43).
            let again = partition.blocking_append(&batch).unwrap();
            assert_eq!(again.offset, 0);
            if let Some(answered) = answered {
                assert!(answered.unwrap().offset == 0 && again.duplicate);
            }
            let next = partition
                .blocking_append(&numbered(id, 1, &["next"]))
                .unwrap();
            assert_eq!((next.offset, next.duplicate), (1, false));
            assert_eq!(read(&engine, &name, 0).len(), 2);
        }
    }
}

#[test]
fn a_dropped_wait_and_a_dropped_read_leave_nothing_behind() {
    let world = World::new();
    let engine = world.open();
    let partition = one_partition(&engine, Ack::Synced);
    let gate = world.disk.hold_syncs();
    let session = engine.session().unwrap();
    let mut appender = session.appender("t", 0).unwrap();
    assert!(poll_and_drop(appender.append(&[record("dropped")]), 3).is_none());
    assert_eq!(appender.next_sequence(), 1, "the batch is in the log");
    let mut follower = engine.reader("t").follow().open().unwrap();
    assert_eq!(
        follower.blocking_iter().next().unwrap().unwrap().offset(),
        0
    );
    for polls in 1..4 {
        assert!(poll_and_drop(follower.next(), polls).is_none());
    }
    drop(gate);
    assert_eq!(
        follower.blocking_iter().next().unwrap().unwrap().offset(),
        1
    );
    assert_eq!(
        appender.blocking_append(&[record("next")]).unwrap().offset,
        2
    );
    assert_eq!(partition.blocking_append(&plain("last")).unwrap().offset, 3);
    assert_eq!(
        follower.blocking_iter().next().unwrap().unwrap().offset(),
        2
    );
}

#[test]
fn handles_may_go_to_other_threads() {
    fn send_and_sync<T: Send + Sync>() {}
    fn send<T: Send>(_: &T) {}
    send_and_sync::<Engine>();
    send_and_sync::<log_engine::Topic>();
    send_and_sync::<log_engine::Partition>();
    send_and_sync::<log_engine::Reader>();
    send_and_sync::<log_engine::ProducerSession>();
    send_and_sync::<log_engine::Appender>();
    send_and_sync::<log_engine::Pending>();
    let engine = Engine::in_memory();
    let partition = one_partition(&engine, Ack::Memory);
    let batch = plain("x");
    send(&partition.append(&batch));
    let mut reader = engine.reader("t").open().unwrap();
    send(&reader.next());
}
