//! Readers as streams: under any executor, from any place, over several partitions, dropped at any
//! moment, and how they end.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use futures_core::Stream;
use log_engine::{Ack, ConsumedRecord, Engine, ReadError, RecordStream, Start};

use crate::futures::block_on;
use crate::world::{World, config, one_partition, plain};

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

// By the trait alone, as adaptors do.
fn poll(
    stream: &mut RecordStream,
    waker: &Waker,
) -> Poll<Option<Result<ConsumedRecord, ReadError>>> {
    Pin::new(stream).poll_next(&mut Context::from_waker(waker))
}

fn offset(polled: Poll<Option<Result<ConsumedRecord, ReadError>>>) -> Option<u64> {
    match polled {
        Poll::Ready(Some(record)) => Some(record.unwrap().offset()),
        Poll::Ready(None) => panic!("the stream ended"),
        Poll::Pending => None,
    }
}

fn filled(engine: &Engine, partitions: u32, records: u32) {
    let topic = engine
        .create_topic("t", partitions, config(Ack::Memory))
        .unwrap();
    for n in 0..records {
        let partition = topic.partition(n % partitions).unwrap();
        partition.blocking_append(&plain(&n.to_string())).unwrap();
    }
}

#[test]
fn a_stream_without_follow_reads_all_partitions_and_stays_ended() {
    let engine = World::new().open();
    filled(&engine, 3, 30);
    let mut stream = engine.reader("t").stream().unwrap();
    let mut next = [0_u64; 3];
    block_on(async {
        while let Some(record) = stream.next().await.transpose().unwrap() {
            let at = &mut next[record.partition() as usize];
            assert_eq!(record.offset(), *at);
            *at += 1;
        }
    });
    assert_eq!(next, [10; 3]);
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    partition.blocking_append(&plain("later")).unwrap();
    assert!(matches!(
        poll(&mut stream, Waker::noop()),
        Poll::Ready(None)
    ));
    // The place is kept all the same.
    let mut reader = stream.into_reader();
    let rest: Vec<_> = reader
        .blocking_iter()
        .map(|r| r.unwrap().offset())
        .collect();
    assert_eq!(rest, [10]);
}

#[test]
fn a_stream_begins_where_it_is_told() {
    let engine = World::new().open();
    filled(&engine, 1, 5);
    for (start, expected) in [
        (Start::Earliest, 0),
        (Start::Offset(3), 3),
        (Start::Latest, 5),
    ] {
        let builder = engine.reader("t").partition(0).start(start).follow();
        let mut stream = builder.stream().unwrap();
        assert_eq!(stream.position(0), Some(expected));
        let first = offset(poll(&mut stream, Waker::noop()));
        assert_eq!(first, (expected < 5).then_some(expected));
    }
    let absent = engine.reader("absent").stream().err().unwrap();
    assert!(matches!(absent, ReadError::Topic(_)), "{absent}");
}

#[test]
fn an_append_wakes_the_task_that_polled_last() {
    let engine = World::new().open();
    filled(&engine, 3, 0);
    let topic = engine.topic("t").unwrap();
    let mut stream = engine.reader("t").follow().stream().unwrap();
    let (first, second) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
    for turn in 0..6_u32 {
        assert_eq!(offset(poll(&mut stream, &first.clone().into())), None);
        assert_eq!(offset(poll(&mut stream, &second.clone().into())), None);
        let before = (first.count(), second.count());
        let partition = topic.partition(turn % 3).unwrap();
        let at = partition.blocking_append(&plain("x")).unwrap();
        assert!(second.count() > before.1, "turn {turn}");
        assert_eq!(first.count(), before.0, "turn {turn}");
        let read = poll(&mut stream, &second.clone().into());
        assert_eq!(offset(read), Some(at.offset), "turn {turn}");
    }
}

#[test]
fn a_stream_follows_without_a_runtime() {
    for ack in [Ack::Memory, Ack::Synced] {
        let engine = World::new().open();
        let topic = engine.create_topic("t", 2, config(ack)).unwrap();
        let mut stream = engine.reader("t").follow().stream().unwrap();
        let writer = thread::spawn(move || {
            for n in 0..500 {
                let partition = topic.partition(n % 2).unwrap();
                partition.blocking_append(&plain(&n.to_string())).unwrap();
            }
        });
        let mut next = [0_u64; 2];
        block_on(async {
            for _ in 0..500 {
                let record = stream.next().await.unwrap().unwrap();
                let at = &mut next[record.partition() as usize];
                assert_eq!(record.offset(), *at, "{ack}");
                *at += 1;
            }
        });
        assert_eq!(next, [250; 2]);
        writer.join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_follows_under_tokio() {
    let engine = Engine::in_memory();
    let topic = engine.create_topic("t", 2, config(Ack::Synced)).unwrap();
    let mut stream = engine.reader("t").follow().stream().unwrap();
    let following = tokio::spawn(async move {
        let mut next = [0_u64; 2];
        while next != [100; 2] {
            let record = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await;
            let record = record.unwrap().unwrap();
            let at = &mut next[record.partition() as usize];
            assert_eq!(record.offset(), *at);
            *at += 1;
        }
    });
    for n in 0..200 {
        let partition = topic.partition(n % 2).unwrap();
        partition.append(&plain("x")).await.unwrap();
    }
    following.await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_long_log_does_not_starve_other_tasks() {
    let engine = Engine::in_memory();
    let topic = engine.create_topic("t", 1, config(Ack::Memory)).unwrap();
    let partition = topic.partition(0).unwrap();
    for _ in 0..2_000 {
        partition.append(&plain("x")).await.unwrap();
    }
    for as_stream in [true, false] {
        let has_read = Arc::new(AtomicBool::new(false));
        let (reader, done) = (engine.reader("t").open().unwrap(), has_read.clone());
        let reading = tokio::spawn(async move {
            let mut count = 0;
            let (mut stream, mut reader) = (reader.clone().into_stream(), reader);
            loop {
                let record = if as_stream {
                    stream.next().await
                } else {
                    reader.next().await
                };
                let Some(record) = record else { break };
                assert_eq!(record.unwrap().offset(), count);
                count += 1;
            }
            done.store(true, Ordering::SeqCst);
            count
        });
        let mut turns = 0;
        while !has_read.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
            turns += 1;
        }
        assert_eq!(reading.await.unwrap(), 2_000);
        assert!(turns > 5, "{turns} turns while 2,000 records were read");
    }
}

#[test]
fn nothing_is_lost_or_repeated_wherever_a_stream_is_dropped() {
    let seed = 0x51_7e_a3;
    println!("seed {seed}");
    let mut random = seed;
    let mut dice = |sides: u64| {
        // Xorshift, by Marsaglia.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % sides
    };
    let engine = World::new().open();
    let partition = one_partition(&engine, Ack::Memory);
    let (mut appended, mut next, mut waits) = (1, 0, 0);
    let mut stream = engine.reader("t").follow().stream().unwrap();
    while next < 2_000 {
        match dice(4) {
            0 if appended < 2_000 => {
                partition.blocking_append(&plain("x")).unwrap();
                appended += 1;
            }
            // A `next` of its own for each poll, dropped when it is not ready.
            1 | 2 => {
                let mut future = std::pin::pin!(stream.next());
                let mut context = Context::from_waker(Waker::noop());
                match offset(future.as_mut().poll(&mut context)) {
                    Some(read) => {
                        assert_eq!(read, next, "seed {seed}");
                        next += 1;
                    }
                    None => {
                        assert_eq!(next, appended, "seed {seed}");
                        waits += 1;
                    }
                }
            }
            _ => {
                // As a reader, or opened anew at the same place.
                assert_eq!(stream.position(0), Some(next), "seed {seed}");
                stream = match dice(2) {
                    0 => stream.into_reader().into_stream(),
                    _ => {
                        let builder = engine.reader("t").follow();
                        builder.start(Start::Offset(next)).stream().unwrap()
                    }
                };
            }
        }
    }
    assert!(waits > 10, "{waits}");
}

#[test]
fn closing_and_deleting_wake_a_stream_and_end_it_after_one_error() {
    for deletes in [false, true] {
        let engine = World::new().open();
        filled(&engine, 3, 0);
        let mut stream = engine.reader("t").follow().stream().unwrap();
        let woken = Arc::new(Woken::default());
        assert!(poll(&mut stream, &woken.clone().into()).is_pending());
        if deletes {
            engine.delete_topic("t").unwrap();
        } else {
            engine.close().unwrap();
        }
        assert!(woken.count() > 0, "deletes: {deletes}");
        let Poll::Ready(Some(Err(error))) = poll(&mut stream, Waker::noop()) else {
            panic!("no error");
        };
        let expected = match error {
            ReadError::TopicDeleted { .. } => deletes,
            ReadError::Closed => !deletes,
            _ => false,
        };
        assert!(expected, "{error}");
        assert!(matches!(
            poll(&mut stream, Waker::noop()),
            Poll::Ready(None)
        ));
    }
}

#[test]
fn a_deleted_offset_ends_a_stream_whose_reader_can_go_on() {
    let engine = World::new().open();
    filled(&engine, 1, 5);
    let mut stream = engine.reader("t").follow().stream().unwrap();
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    partition.delete_before(3).unwrap();
    let Poll::Ready(Some(Err(error))) = poll(&mut stream, Waker::noop()) else {
        panic!("no error");
    };
    assert_eq!(error.first_available(), Some(3));
    assert!(matches!(
        poll(&mut stream, Waker::noop()),
        Poll::Ready(None)
    ));
    let mut reader = stream.into_reader();
    reader.seek(0, 3);
    let mut stream = reader.into_stream();
    let rest = [(); 3].map(|()| offset(poll(&mut stream, Waker::noop())));
    assert_eq!(rest, [Some(3), Some(4), None]);
}

#[test]
fn a_stream_goes_on_behind_records_that_their_producer_wrote_wrongly() {
    let engine = World::new().open();
    let partition = one_partition(&engine, Ack::Memory);
    let mut forged = plain("forged");
    // The record's length, under a right CRC.
    forged[61] = 2;
    let crc = record_batch::crc32c(&forged[21..]);
    forged[17..21].copy_from_slice(&crc.to_be_bytes());
    partition.blocking_append(&forged).unwrap();
    partition.blocking_append(&plain("third")).unwrap();
    let mut stream = engine.reader("t").stream().unwrap();
    assert_eq!(offset(poll(&mut stream, Waker::noop())), Some(0));
    let Poll::Ready(Some(Err(error))) = poll(&mut stream, Waker::noop()) else {
        panic!("no error");
    };
    let malformed = matches!(error, ReadError::Malformed { offset: 1, .. });
    assert!(malformed, "{error}");
    assert_eq!(offset(poll(&mut stream, Waker::noop())), Some(2));
    assert!(matches!(
        poll(&mut stream, Waker::noop()),
        Poll::Ready(None)
    ));
}

#[test]
fn a_stream_may_go_to_another_thread_and_says_where_it_is() {
    fn handle<T: Send + Sync + Unpin>(_: &T) {}
    let engine = World::new().open();
    filled(&engine, 2, 3);
    let mut stream = engine.reader("t").stream().unwrap();
    handle(&stream);
    assert_eq!(offset(poll(&mut stream, Waker::noop())), Some(0));
    let text = format!("{stream:?}");
    assert!(text.contains("positions: {0: 1, 1: 0}"), "{text}");
}
