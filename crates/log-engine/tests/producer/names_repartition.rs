//! A topic that got more partitions under a named producer.

use log_engine::{Ack, Action, Engine, SendError};

use crate::lossy::Lossy;
use crate::names::{open, send, send_all};
use crate::ways::{Network, numbered, sorted, topic};
use crate::world::World;

fn reopened(engine: &Engine) -> log_engine::Producer {
    let producer = engine.producer().name("feed").batch_bytes(200);
    producer.repartition().open().unwrap()
}

#[test]
fn another_number_of_partitions_is_refused_until_it_is_accepted() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 2, Ack::Synced);
    let first = open(&engine);
    send_all(&first, 0..20);
    engine.add_partitions("t", 5).unwrap();
    // The one that is open knows the number that it began with.
    send_all(&first, 20..30);
    first.blocking_close().unwrap();
    let second = open(&engine);
    let error = send(&second, second.resume_from()).unwrap_err();
    let SendError::Repartitioned { before, now, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!((*before, *now), (2, 5));
    assert_eq!(error.action(), Action::FixCall);
    assert!(error.to_string().contains("repartition"), "{error}");
    second.blocking_close().unwrap();
    let third = reopened(&engine);
    send_all(&third, 0..60);
    third.blocking_close().unwrap();
    assert_eq!(sorted(&engine, "t"), numbered(60));
    // Once accepted, it is the number.
    let fourth = open(&engine);
    send_all(&fourth, 0..70);
    assert_eq!(sorted(&engine, "t"), numbered(70));
    assert!((0..5).all(|p| !crate::world::read(&engine, "t", p).is_empty()));
}

#[test]
fn what_lagged_when_partitions_were_added_is_neither_lost_nor_repeated() {
    for seed in 0..30 {
        let mut world = World::new();
        let mut engine = world.open();
        topic(&engine, 2, Ack::Synced);
        let mut sent = 0;
        for (round, partitions) in [2, 5, 5, 7, 8].into_iter().enumerate() {
            if round > 0 {
                engine.add_partitions("t", partitions).unwrap();
            }
            // Some get lost for good, so partitions are behind each other.
            let lossy = Lossy::seed(seed * 10 + round as u64).lose_requests(0.5);
            let network = Network::default();
            let producer = engine
                .producer()
                .name("feed")
                .batch_bytes(100)
                .repartition();
            let producer = match round % 2 {
                0 => producer.transport(lossy).open().unwrap(),
                _ => producer.transport(network.clone()).open().unwrap(),
            };
            let from = if seed % 2 == 0 {
                0
            } else {
                producer.resume_from()
            };
            let until = (round as u64 + 1) * 20;
            for n in from..until {
                if n == until - 7 {
                    network.hold();
                }
                drop(send(&producer, n).unwrap());
            }
            sent = until;
            world = match seed % 3 {
                0 => world.after_power_cut(),
                _ => world.after_kill(),
            };
            engine = world.open();
        }
        let last = reopened(&engine);
        send_all(&last, 0..sent);
        let count = usize::try_from(sent).unwrap();
        assert_eq!(sorted(&engine, "t"), numbered(count), "seed {seed}");
    }
}
