//! Any executor, or none; blocking calls where nothing may block; one producer for many threads.

use log_engine::{Ack, Engine, Producer, ProducerBuilder, Record, RecordMetadata, Ticket};

use crate::ways::{block_on, numbered, send, sorted, topic};
use crate::world::World;

#[test]
fn no_runtime_is_needed() {
    let engine = Engine::in_memory();
    topic(&engine, 1, Ack::Synced);
    let producer = engine.producer().open().unwrap();
    block_on(async {
        let record = || Record::to("t").key("k").value("v");
        let at = producer.append(record().timestamp(77)).await.unwrap();
        assert_eq!((at.partition, at.offset, at.timestamp), (0, Some(0), 77));
        assert_eq!((&*at.topic, at.duplicate), ("t", false));
        let ticket = producer.send(record()).await.unwrap();
        assert_eq!(ticket.await.unwrap().offset, Some(1));
        let _ = producer.send(record()).await.unwrap();
        producer.flush().await.unwrap();
        producer.close().await.unwrap();
    });
    assert_eq!(engine.topic("t").unwrap().describe().records, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_share_a_producer_under_tokio() {
    let engine = Engine::in_memory();
    topic(&engine, 3, Ack::Synced);
    let producer = engine.producer().buffer_bytes(1 << 20).open().unwrap();
    let tasks: Vec<_> = (0..20)
        .map(|task| {
            let producer = producer.clone();
            tokio::spawn(async move {
                for n in 0..50 {
                    let value = format!("{:06}", task * 50 + n);
                    let record = Record::to("t").key(&value).value(&value);
                    if n % 2 == 0 {
                        producer.append(record).await.unwrap();
                    } else {
                        let _ = producer.send(record).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    producer.flush().await.unwrap();
    let all = tokio::task::spawn_blocking(move || sorted(&engine, "t"));
    assert_eq!(all.await.unwrap(), numbered(1_000));
}

#[test]
fn threads_share_clones_and_each_keeps_its_order() {
    let engine = World::new().open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine.producer().batch_bytes(200).open().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let producer = producer.clone();
            scope.spawn(move || {
                for n in 0..200 {
                    let value = format!("{thread} {n:04}");
                    let _ = producer
                        .blocking_send(Record::to("t").value(&value))
                        .unwrap();
                }
            });
        }
    });
    producer.blocking_close().unwrap();
    let all = crate::world::values(&engine, "t");
    assert_eq!(all.len(), 800);
    for thread in 0..4 {
        let own = |v: &&String| v.starts_with(&format!("{thread} "));
        let own: Vec<&String> = all.iter().filter(own).collect();
        assert!(own.is_sorted() && own.len() == 200, "{own:?}");
    }
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
    topic(&engine, 1, Ack::Synced);
    let producer = engine.producer().open().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let on_worker = runtime.spawn({
        let (engine, producer) = (engine.clone(), producer.clone());
        async move {
            let record = || Record::to("t").value("x");
            let ticket = producer.try_send(record()).unwrap();
            let id = ticket.id().clone();
            [
                (
                    panic_text(|| drop(producer.blocking_send(record()))),
                    "send",
                ),
                (
                    panic_text(|| drop(producer.blocking_append(record()))),
                    "append",
                ),
                (panic_text(|| drop(producer.blocking_flush())), "flush"),
                (panic_text(|| drop(producer.blocking_close())), "close"),
                (panic_text(|| drop(ticket.blocking_wait())), "ticket.await"),
                (panic_text(|| drop(engine.blocking_resolve(&id))), "resolve"),
            ]
        }
    });
    for (text, instead) in runtime.block_on(on_worker).unwrap() {
        let expected = format!("would block an async worker; use `{instead}` there");
        assert!(text.contains(&expected), "{text}");
    }
    // Nothing of it was sent but the one that was tried, and the producer lives.
    let allowed = runtime.spawn_blocking(move || {
        producer
            .blocking_append(Record::to("t").value("allowed"))
            .unwrap()
    });
    assert_eq!(runtime.block_on(allowed).unwrap().offset, Some(1));
}

#[test]
fn handles_may_go_to_other_threads() {
    fn send_and_sync<T: Send + Sync>() {}
    fn is_send<T: Send>(_: &T) {}
    send_and_sync::<Producer>();
    send_and_sync::<ProducerBuilder>();
    send_and_sync::<Ticket>();
    send_and_sync::<RecordMetadata>();
    send_and_sync::<log_engine::AppendId>();
    send_and_sync::<log_engine::SendError>();
    let engine = Engine::in_memory();
    topic(&engine, 1, Ack::Memory);
    let producer = engine.producer().open().unwrap();
    is_send(&producer.append(Record::to("t").value("x")));
    is_send(&producer.flush());
    is_send(&producer.close());
    is_send(&engine.resolve(send(&producer, "y").id()));
}
