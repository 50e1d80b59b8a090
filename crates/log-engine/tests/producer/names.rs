//! Named producers: one holder, positions that rise, and what is stored is not stored again.

use bytes::Bytes;
use log_engine::{
    Ack, Action, Answer, Direct, Engine, Partition, Producer, Record, RecordMetadata, SendError,
    Transport, partition_for_key,
};

use crate::ways::{numbered, sorted, topic, wait_until};
use crate::world::{World, read};

pub(crate) fn open(engine: &Engine) -> Producer {
    let producer = engine.producer().name("feed").batch_bytes(200);
    producer.open().unwrap()
}

/// Record number `n` of the source: every third one has no key.
pub(crate) fn line(n: u64) -> (Option<String>, String) {
    let key = (!n.is_multiple_of(3)).then(|| format!("k{}", n % 7));
    (key, format!("{n:06}"))
}

pub(crate) fn send(producer: &Producer, n: u64) -> Result<log_engine::Ticket, SendError> {
    let (key, value) = line(n);
    let record = Record::to("t").value(&value).position(n);
    match &key {
        Some(key) => producer.blocking_send(record.key(key)),
        None => producer.blocking_send(record),
    }
}

/// Sends a range of the source and waits for the answers.
pub(crate) fn send_all(producer: &Producer, lines: std::ops::Range<u64>) -> Vec<RecordMetadata> {
    let tickets: Vec<_> = lines.map(|n| send(producer, n).unwrap()).collect();
    let wait = |ticket: log_engine::Ticket| ticket.blocking_wait().unwrap();
    tickets.into_iter().map(wait).collect()
}

/// Demands that the first `count` lines are there once each, where they belong, and in order.
pub(crate) fn check_all(engine: &Engine, count: u64) {
    let partitions = engine.topic("t").unwrap().partitions();
    for partition in 0..partitions {
        let found = read(engine, "t", partition);
        assert!(found.is_sorted_by_key(|(_, value)| value), "{found:?}");
        for (_, value) in found {
            let n: u64 = value.parse().unwrap();
            let expected = match line(n).0 {
                Some(key) => partition_for_key(key.as_bytes(), partitions),
                None => u32::try_from(n % u64::from(partitions)).unwrap(),
            };
            assert_eq!(partition, expected, "of line {n}");
        }
    }
    let count = usize::try_from(count).unwrap();
    assert_eq!(sorted(engine, "t"), numbered(count));
}

#[test]
fn the_same_source_twice_is_stored_once() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 3, Ack::Synced);
    let first = open(&engine);
    assert_eq!((first.resume_from(), first.name()), (0, Some("feed")));
    assert!(send_all(&first, 0..100).iter().all(|at| !at.duplicate));
    first.blocking_close().unwrap();
    // In the same run of the engine, from the start again, and then more.
    let second = open(&engine);
    let again = send_all(&second, 0..120);
    for (n, at) in (0..).zip(&again) {
        assert_eq!(
            (at.duplicate, at.offset.is_none()),
            (n < 100, n < 100),
            "{n}"
        );
    }
    assert_eq!(
        (second.counts().skipped, second.counts().records),
        (100, 20)
    );
    drop(second);
    engine.close().unwrap();
    // In another run of it.
    let engine = world.after_power_cut().open();
    let third = open(&engine);
    assert!(third.resume_from() >= 100, "{}", third.resume_from());
    send_all(&third, third.resume_from()..130);
    check_all(&engine, 130);
}

#[test]
fn a_name_has_one_holder() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let first = open(&engine);
    let clone = first.clone();
    let in_use = || engine.producer().name("feed").open().err().unwrap();
    let error = in_use();
    let SendError::NameInUse { name, holder } = &error else {
        panic!("{error}");
    };
    assert_eq!(&**name, "feed");
    assert!(holder.contains(&std::process::id().to_string()), "{holder}");
    assert!(error.to_string().contains("take_over"), "{error}");
    drop(first);
    assert!(
        matches!(in_use(), SendError::NameInUse { .. }),
        "a clone lives"
    );
    let other = engine.producer().name("other").open().unwrap();
    assert_ne!(other.identity().0, clone.identity().0);
    drop(clone);
    let second = open(&engine);
    send_all(&second, 0..1);
    second.blocking_close().unwrap();
    // Closed is free, though the handle lives; and so is a name whose holder was killed.
    let third = open(&engine);
    let killed = world.after_kill().open();
    let fourth = open(&killed);
    assert_eq!(third.identity().0, fourth.identity().0);
    assert_eq!(fourth.identity().1, third.identity().1 + 1);
    let names = killed.named_producers();
    let names: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["feed", "other"]);
}

#[test]
fn a_name_that_is_still_handing_over_is_in_use() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let first = open(&engine);
    send_all(&first, 0..1);
    let gate = world.disk.hold_syncs();
    let ticket = send(&first, 1).unwrap();
    gate.wait_until_syncs_wait(1);
    drop(first);
    let error = engine.producer().name("feed").open().err().unwrap();
    assert_eq!(error.action(), Action::Retry);
    drop(gate);
    ticket.blocking_wait().unwrap();
    wait_until("the name is free", || {
        engine.producer().name("feed").open().is_ok()
    });
}

#[test]
fn names_that_nobody_may_have() {
    let engine = World::new().open();
    let long = "x".repeat(256);
    for name in ["", "a\0b", &long] {
        let error = engine.producer().name(name).open().err().unwrap();
        assert!(matches!(error, SendError::IllegalName { .. }), "{error}");
        assert_eq!(error.action(), Action::FixCall);
    }
    let longest = "\u{1f980}".repeat(63);
    for name in ["a", "spaces and / slashes", &longest] {
        engine.producer().name(name).open().unwrap();
    }
}

#[test]
fn positions_are_there_and_rise() {
    let engine = World::new().open();
    topic(&engine, 1, Ack::Synced);
    let named = open(&engine);
    send_all(&named, 5..7);
    for given in [0, 5, 6] {
        let error = send(&named, given).unwrap_err();
        let SendError::PositionOrder {
            last: 6,
            given: told,
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(told, given);
    }
    let error = named.try_send(Record::to("t").value("v")).unwrap_err();
    assert!(matches!(error, SendError::Position), "{error}");
    let unnamed = engine.producer().open().unwrap();
    let error = unnamed.try_send(Record::to("t").value("v").position(1));
    assert!(matches!(error, Err(SendError::Position)));
    // It goes on as if nothing had been; gaps are fine, and so is the highest number there is.
    send_all(&named, 7..8);
    let last = Record::to("t").value("999999").position(u64::MAX);
    named.blocking_append(last).unwrap();
    assert!(matches!(
        send(&named, 9),
        Err(SendError::PositionOrder { .. })
    ));
    drop(named);
    let again = open(&engine);
    assert!(again.resume_from() >= 7);
    assert!(send(&again, 8).unwrap().blocking_wait().unwrap().duplicate);
    assert_eq!(
        sorted(&engine, "t"),
        ["000005", "000006", "000007", "999999"]
    );
}

/// Holds the batches of one partition for good.
struct Holds(u32);

impl Transport for Holds {
    fn append(&self, partition: Partition, batch: Bytes) -> Answer {
        if partition.index() == self.0 {
            return Box::pin(std::future::pending());
        }
        Direct.append(partition, batch)
    }
}

#[test]
fn a_run_goes_on_at_the_partition_that_lags_most() {
    for is_cut in [false, true] {
        let world = World::new();
        let engine = world.open();
        topic(&engine, 3, Ack::Synced);
        let record = |n: u64, value: &'static str| Record::to("t").value(value).position(n);
        let first = engine
            .producer()
            .name("feed")
            .transport(Holds(1))
            .open()
            .unwrap();
        // Without a key the position says where: 0, 3, 6 in partition 0; 1, 4, 7 in 1.
        for (n, value) in [
            (0, "0"),
            (1, "1"),
            (2, "2"),
            (3, "3"),
            (4, "4"),
            (5, "5"),
            (6, "6"),
        ] {
            let ticket = first.blocking_send(record(n, value)).unwrap();
            if n % 3 != 1 {
                ticket.blocking_wait().unwrap();
            }
        }
        let world = if is_cut {
            world.after_power_cut()
        } else {
            world.after_kill()
        };
        let engine = world.open();
        let second = engine.producer().name("feed").open().unwrap();
        assert_eq!(second.resume_from(), 1);
        let mut stored = Vec::new();
        for (n, value) in [
            (1, "1"),
            (2, "2"),
            (3, "3"),
            (4, "4"),
            (5, "5"),
            (6, "6"),
            (7, "7"),
        ] {
            let at = second.blocking_append(record(n, value)).unwrap();
            if !at.duplicate {
                stored.push(n);
            }
        }
        assert_eq!(stored, [1, 4, 7]);
        assert_eq!(
            sorted(&engine, "t"),
            ["0", "1", "2", "3", "4", "5", "6", "7"]
        );
    }
}

#[test]
fn what_a_run_skips_survives_a_power_cut() {
    // At `memory`: what a killed process wrote is there, but not durable before the name is
    // opened; and then it must be, for nobody will send it again.
    let world = World::new();
    let engine = world.open();
    topic(&engine, 2, Ack::Memory);
    let first = open(&engine);
    send_all(&first, 0..50);
    for killed in [true, false] {
        let second_world = match killed {
            true => world.after_kill(),
            false => world.clone(),
        };
        let engine = match killed {
            true => second_world.open(),
            false => engine.clone(),
        };
        let second = engine.producer().name("feed").take_over().open().unwrap();
        assert!(send_all(&second, 0..50).iter().all(|at| at.duplicate));
        let third_world = second_world.after_power_cut();
        let engine = third_world.open();
        let third = open(&engine);
        assert!(third.resume_from() >= second.resume_from());
        check_all(&engine, 50);
    }
}

#[test]
fn a_name_writes_to_several_topics() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 2, Ack::Synced);
    engine.ensure_topic("s", 3).unwrap();
    let send_both = |producer: &Producer, lines: std::ops::Range<u64>| {
        for n in lines {
            let (_, value) = line(n);
            let to = if n % 2 == 0 { "t" } else { "s" };
            let record = Record::to(to).value(&value).position(n);
            producer.blocking_append(record).unwrap();
        }
    };
    send_both(&open(&engine), 0..40);
    drop(engine);
    let engine = world.after_kill().open();
    let second = open(&engine);
    assert!(second.resume_from() >= 39);
    // A topic that comes later is no different.
    send_both(&second, 0..60);
    let mut all = sorted(&engine, "t");
    all.extend(sorted(&engine, "s"));
    all.sort();
    assert_eq!(all, numbered(60));
    // One that is made again is empty, and gets everything it is sent.
    drop(second);
    engine.delete_topic("t").unwrap();
    topic(&engine, 2, Ack::Synced);
    send_both(&open(&engine), 0..60);
    assert_eq!(sorted(&engine, "t").len(), 30);
    assert_eq!(sorted(&engine, "s").len(), 30);
}

#[test]
fn consumers_see_the_position_and_no_header() {
    let engine = World::new().open();
    topic(&engine, 1, Ack::Synced);
    let named = open(&engine);
    let record = Record::to("t").value("v").header("own", Some(b"1"));
    named.blocking_append(record.position(7)).unwrap();
    let mut reader = engine.reader("t").open().unwrap();
    let found = reader.blocking_iter().next().unwrap().unwrap();
    let names: Vec<&str> = found.headers().map(|(name, _)| name).collect();
    assert_eq!((names, found.source_position()), (vec!["own"], Some(7)));
}
