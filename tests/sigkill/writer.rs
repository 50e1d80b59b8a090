//! The process that is killed: four idempotent producers, a named one, a reader, and somebody who
//! makes topics and deletes them. It says on its standard output what it is about to do before it
//! does it, and each answer.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use harness::child::say;
use harness::history::BatchName;
use harness::hooked_disk::HookedDisk;
use harness::ledger::{Line, TOPIC};
use oncelog::storage::OsDisk;
use oncelog::testing::Lossy;
use oncelog::{Ack, Engine, Env, Pending, Start, SystemClock, TopicConfig};

use crate::points::KillAt;

/// The data directory. The tests that need it do nothing without it.
pub(crate) const DIRECTORY: &str = "ONCELOG_KILL_DIRECTORY";
/// The level of the sessions' topic.
pub(crate) const ACK: &str = "ONCELOG_KILL_ACK";
/// The level of the named producer's topic; the same, unless given.
pub(crate) const NAMED_ACK: &str = "ONCELOG_KILL_NAMED_ACK";
/// Where the process is to kill itself: `N:NAME`.
pub(crate) const POINT: &str = "ONCELOG_KILL_POINT";

/// The topic of the sessions.
pub(crate) const SESSIONS: &str = "t";
const PARTITIONS: u32 = 2;
const PRODUCERS: usize = 4;
/// What a process sends at most: it waits to be killed then, so that checking stays cheap.
const BATCHES_EACH: usize = 400;
const LINES: u64 = 1_500;
const SCRATCH_TOPICS: usize = 30;

fn config(ack: Ack) -> TopicConfig {
    let mut config = TopicConfig::default().with_ack(ack);
    config.set("segment.bytes", "16384").unwrap();
    config.set("flush.ms", "5").unwrap();
    config
}

// The process. Does nothing unless it was started for this.
#[test]
fn writes_until_it_is_killed_when_asked() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    let ack: Ack = variable(ACK).unwrap().parse().unwrap();
    let named_ack = variable(NAMED_ACK).map_or(ack, |text| text.parse().unwrap());
    let kill = Arc::new(KillAt::new(variable(POINT).map(|p| p.parse().unwrap())));
    // Whatever fails here ends the process at once, so that the parent sees it.
    let say_it = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        say_it(info);
        std::process::exit(101);
    }));
    say(format_args!("\nopening"));
    let disk = Arc::new(OsDisk::open(PathBuf::from(directory)).unwrap());
    let env = Env {
        disk: Arc::new(HookedDisk::new(disk, kill.clone())),
        clock: Arc::new(SystemClock),
        seed: u64::from(std::process::id()),
    };
    let engine = Engine::with_env(env).open().unwrap();
    let opening_calls = kill.opened();
    let lengths = [(SESSIONS, PARTITIONS, ack), (TOPIC, 3, named_ack)];
    for (topic, partitions, ack) in lengths {
        if engine.topic(topic).is_err() {
            engine.create_topic(topic, partitions, config(ack)).unwrap();
        }
    }
    say(format_args!("calls {opening_calls}"));
    say(format_args!("opened"));
    std::thread::scope(|scope| {
        scope.spawn(|| follow(&engine));
        let mut work: Vec<_> = (0..PRODUCERS)
            .map(|_| scope.spawn(|| produce(&engine)))
            .collect();
        work.push(scope.spawn(|| feed(&engine)));
        work.push(scope.spawn(|| scratch(&engine)));
        work.into_iter().for_each(|thread| thread.join().unwrap());
        say(format_args!("idle"));
        loop {
            std::thread::park();
        }
    });
}

// Up to five batches in flight, as Kafka's clients have, and a repeat now and then.
fn produce(engine: &Engine) {
    let session = engine.session().unwrap();
    let producer_id = session.producer_id();
    say(format_args!("id {producer_id}"));
    let topic = engine.topic(SESSIONS).unwrap();
    let mut in_flight = VecDeque::new();
    let mut next: Vec<BatchName> = (0..PARTITIONS)
        .map(|partition| BatchName {
            producer_id,
            partition,
            sequence: 0,
        })
        .collect();
    for n in 0..BATCHES_EACH {
        let slot = n % next.len();
        let batch = next[slot];
        next[slot] = batch.next();
        let partition = topic.partition(batch.partition).unwrap();
        let (place, sequence) = (batch.partition, batch.sequence);
        say(format_args!("sent {producer_id} {place} {sequence}"));
        let bytes = batch.bytes();
        let pending = partition.blocking_start(&bytes).unwrap();
        if n % 7 == 0 {
            let again = partition.blocking_append(&bytes).unwrap();
            assert!(again.duplicate && again.offset == pending.appended().offset);
        }
        in_flight.push_back((batch, pending));
        if in_flight.len() == 5 {
            answer(in_flight.pop_front().unwrap());
        }
    }
    in_flight.into_iter().for_each(answer);
}

fn answer((batch, pending): (BatchName, Pending)) {
    let at = pending.blocking_wait().unwrap();
    let BatchName {
        producer_id,
        partition,
        sequence,
    } = batch;
    let offset = at.offset;
    say(format_args!(
        "answered {producer_id} {partition} {sequence} {offset}"
    ));
}

// The named producer, over a transport that loses answers. Every third process begins at its
// source's start again.
fn feed(engine: &Engine) {
    let process = u64::from(std::process::id());
    let lossy = Lossy::seed(process).lose_answers(0.1);
    let producer = engine.producer().name("feed").transport(lossy);
    let producer = producer.batch_bytes(400).open().unwrap();
    let resume_from = producer.resume_from();
    say(format_args!("resumes {resume_from}"));
    let from = if process % 3 == 0 { 0 } else { resume_from };
    let mut waiting = VecDeque::new();
    for position in from..resume_from + LINES {
        say(format_args!("line {position}"));
        let ticket = producer.blocking_send(Line::at(0, position).record(true));
        waiting.push_back((position, ticket.unwrap()));
        while waiting.front().is_some_and(|(_, ticket)| ticket.is_done()) || waiting.len() > 60 {
            stored(waiting.pop_front().unwrap());
        }
    }
    drop(producer);
    waiting.into_iter().for_each(stored);
}

fn stored((position, ticket): (u64, oncelog::Ticket)) {
    let at = ticket.blocking_wait().unwrap();
    let offset = at.offset.map_or(-1, |offset| offset.cast_signed());
    say(format_args!("stored {position} {} {offset}", at.partition));
}

// Says what a reader is given that begins at the end.
fn follow(engine: &Engine) {
    let reader = engine.reader(SESSIONS).start(Start::Latest).follow();
    let mut reader = reader.open().unwrap();
    for record in reader.blocking_iter() {
        let record = record.unwrap();
        let (partition, offset) = (record.partition(), record.offset());
        let id = record.producer_id().unwrap_or(-1);
        let sequence = record.sequence().unwrap_or(-1);
        say(format_args!("read {partition} {offset} {id} {sequence}"));
    }
}

// Topics come and go beside all that.
fn scratch(engine: &Engine) {
    for n in 0..SCRATCH_TOPICS {
        let name = format!("scratch-{}", n % 2);
        if engine.topic(&name).is_ok() {
            engine.delete_topic(&name).unwrap();
        }
        let topic = engine.create_topic(&name, 1, config(Ack::Synced)).unwrap();
        let partition = topic.partition(0).unwrap();
        for at in 0..3 {
            let mut batch = oncelog::BatchBuilder::new();
            let value = format!("{n} {at}");
            batch.push(0, None, Some(value.as_bytes()), &[]).unwrap();
            let bytes = batch.build(None).unwrap();
            assert_eq!(partition.blocking_append(bytes).unwrap().offset, at);
        }
    }
}
