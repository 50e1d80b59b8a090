//! Whoever waits for an end of a partition against whoever moves it, in every order of their steps.
//! Run by `tests/interleavings`, which has loom run the threads.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it explored; helpers included"
)]

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use partition_log::{OpenContext, PartitionConfig, PartitionLog};
use record_batch::{Batch, BatchBuilder};
use segment_storage::{Marks, MemoryDisk, Place};
use sync::atomic::{AtomicUsize, Ordering};
use sync::{Mutex, thread};

use crate::blocking;
use crate::committer::{self, Committer};
use crate::config::{Ack, TopicConfig};
use crate::ends::{Ends, State};
use crate::env::{ManualClock, Time};
use crate::error::{AppendError, Unknown};
use crate::partition::{PartitionState, Source, Written};
use crate::segment_feeder;

fn explore(name: &str, preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let executions = sync::explore(preemptions, model);
    println!("loom: {name}: {executions} executions");
}

fn wait<F: Future>(future: F) -> F::Output {
    blocking::wait("a model", "nothing", future)
}

#[test]
fn waiter_that_comes_while_the_end_moves_is_woken() {
    explore("move the end, wake | wait | wait", 3, || {
        let ends = Arc::new(Ends::default());
        let waiters = [1, 2].map(|offset| {
            let ends = ends.clone();
            let reached = move || {
                let done = || (ends.synced() >= offset).then(|| ends.synced());
                wait(ends.wait(done))
            };
            thread::spawn(reached)
        });
        for offset in [1, 2] {
            ends.set_synced(offset);
            ends.wake();
        }
        for waiter in waiters {
            assert!(waiter.join().unwrap() >= 1);
        }
        assert!(!ends.is_waited_for());
    });
}

#[test]
fn waiters_that_come_while_a_partition_ends_are_all_told() {
    explore("end for good | wait | wait", 3, || {
        let ends = Arc::new(Ends::default());
        let waiters = [(); 2].map(|()| {
            let ends = ends.clone();
            let ended = move || {
                let done = || (ends.state() != State::Open).then(|| ends.state());
                wait(ends.wait(done))
            };
            thread::spawn(ended)
        });
        ends.set_state(State::Fenced);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), State::Fenced);
        }
    });
}

#[test]
fn waiter_that_gives_up_takes_no_wake_up_along() {
    explore("move the end, wake | wait | give up", 3, || {
        let ends = Arc::new(Ends::default());
        let (one, other) = (ends.clone(), ends.clone());
        let reached = move || (one.synced() >= 1).then_some(());
        let waiting = ends.clone();
        let waiter = thread::spawn(move || wait(waiting.wait(reached)));
        let gives_up = thread::spawn(move || {
            let never = pin!(other.wait(|| None::<()>));
            let poll = never.poll(&mut Context::from_waker(Waker::noop()));
            assert!(poll.is_pending());
        });
        ends.set_synced(1);
        ends.wake();
        waiter.join().unwrap();
        gives_up.join().unwrap();
        assert!(!ends.is_waited_for());
    });
}

/// A partition on a disk in memory, open and with room for a few batches.
fn partition(ack: Ack) -> (Arc<PartitionState>, Time) {
    let place = Place {
        disk: Arc::new(MemoryDisk::new()),
        directory: "t-0".into(),
        log_id: 7,
    };
    place.disk.create_directory("t-0").unwrap();
    Marks::create(&place.disk, "t-0", place.log_id).unwrap();
    let time = Time::from(Arc::new(ManualClock::at(0)), 0);
    let context = OpenContext {
        generation: 1,
        now: time.now(),
        producer_id_bound: 0,
    };
    let config = TopicConfig::default().with_ack(ack);
    let small = PartitionConfig {
        segment_bytes: 2_000,
        ..config.partition()
    };
    let (log, _) = PartitionLog::open(place, small, context).unwrap();
    let reader = log.reader();
    let source = Source::Writer(Box::new(Mutex::new(log)));
    let state = PartitionState::new(("t".into(), 0), config, reader, source);
    // The first append finds no segment, and asks for one.
    assert!(matches!(
        append(&state, &time),
        Err(AppendError::NotReady { .. })
    ));
    segment_feeder::turn(&state);
    (Arc::new(state), time)
}

fn append(partition: &PartitionState, time: &Time) -> Result<Written, AppendError> {
    let mut batch = BatchBuilder::new();
    batch.push(0, None, Some(b"value"), &[]).unwrap();
    let batch = batch.build(None).unwrap();
    let (written, _) = partition.write(&Batch::parse(batch).unwrap(), Ack::Synced, time.now());
    written
}

fn answer(partition: &PartitionState, written: &Written) -> Result<(), AppendError> {
    let promised = || partition.promised(written, Ack::Synced);
    wait(partition.ends.wait(promised))
}

#[test]
fn latch_that_closes_gives_every_waiter_its_reason() {
    explore("fence | append, wait | wait", 2, || {
        let (partition, time) = partition(Ack::Synced);
        let written = append(&partition, &time).unwrap();
        let fenced = |answer| match answer {
            Err(AppendError::OutcomeUnknown {
                why: Unknown::Fenced(latched),
                ..
            }) => assert_eq!(latched.errno, Some(5)),
            other => panic!("{other:?}"),
        };
        let state = partition.clone();
        let waiter = thread::spawn(move || fenced(answer(&state, &written)));
        let state = partition.clone();
        let appender = thread::spawn(move || match append(&state, &time) {
            Ok(written) => fenced(answer(&state, &written)),
            Err(AppendError::LogFenced(latched)) => assert_eq!(latched.errno, Some(5)),
            Err(other) => panic!("{other}"),
        });
        let error = io::Error::from_raw_os_error(5);
        committer::fence(&partition, "sync", &error);
        waiter.join().unwrap();
        appender.join().unwrap();
    });
}

#[test]
fn every_append_is_covered_by_a_turn_of_the_committer() {
    explore("append, ask, wait | append, ask, wait | turns", 2, || {
        let (partition, time) = partition(Ack::Synced);
        let committer = Arc::new(Committer::default());
        let left = Arc::new(AtomicUsize::new(2));
        let appenders = [(); 2].map(|()| {
            let (partition, time) = (partition.clone(), time.clone());
            let (committer, left) = (committer.clone(), left.clone());
            thread::spawn(move || {
                let written = append(&partition, &time).unwrap();
                committer.sync(&partition);
                answer(&partition, &written).unwrap();
                // Whoever has the answer reads what it is about.
                assert!(partition.reader.high_watermark() > written.last_offset);
                if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    committer.stop();
                }
            })
        });
        committer.add_worker();
        committer.work(&time, &|| {});
        for appender in appenders {
            appender.join().unwrap();
        }
        assert_eq!(partition.ends.synced(), 2);
        assert_eq!(partition.reader.high_watermark(), 2);
    });
}

#[test]
fn every_request_is_seen_by_a_turn_of_the_committer() {
    explore("ask for upkeep | ask for upkeep | turns", 3, || {
        let (partition, time) = partition(Ack::Synced);
        let committer = Arc::new(Committer::default());
        let left = Arc::new(AtomicUsize::new(2));
        let askers = [(); 2].map(|()| {
            let (partition, committer) = (partition.clone(), committer.clone());
            let left = left.clone();
            thread::spawn(move || {
                committer.retain(&partition);
                if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                    committer.stop();
                }
            })
        });
        committer.add_worker();
        committer.work(&time, &|| {});
        for asker in askers {
            asker.join().unwrap();
        }
        assert!(!partition.turn.retain.load(Ordering::Acquire));
    });
}

#[test]
fn append_before_a_close_is_durable_and_none_comes_after_it() {
    explore("append, wait | append, wait | close", 3, || {
        let (partition, time) = partition(Ack::Synced);
        let appenders = [(); 2].map(|()| {
            let (partition, time) = (partition.clone(), time.clone());
            thread::spawn(move || match append(&partition, &time) {
                Ok(written) => answer(&partition, &written).map(|()| 1).unwrap(),
                Err(AppendError::Closed) => 0,
                Err(other) => panic!("{other}"),
            })
        });
        partition.refuse_appends();
        committer::close(&partition, &time).unwrap();
        partition.ends.set_state(State::Closed);
        let appended: u64 = appenders.map(|a| a.join().unwrap()).iter().sum();
        assert_eq!(partition.ends.synced(), appended);
    });
}
