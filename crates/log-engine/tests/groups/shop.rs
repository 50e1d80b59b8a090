//! What the tests share: a driven engine with a topic of orders, and what comes out of a group.

use std::time::Duration;

use log_engine::{Ack, Delivery, Engine, Member, Record, TopicConfig};

use crate::world::World;

/// Long enough for a test whose clock stands still.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// An engine without threads: what happens is what the test does.
pub(crate) fn open(world: &World) -> Engine {
    world.builder().driven().open().unwrap()
}

/// Makes the topic `orders`.
pub(crate) fn make(engine: &Engine, partitions: u32, settings: &[(&str, &str)]) {
    let mut config = TopicConfig::default().with_ack(Ack::Synced);
    for (key, value) in settings {
        config.set(key, value).unwrap();
    }
    engine.create_topic("orders", partitions, config).unwrap();
}

/// Takes all turns that wait.
pub(crate) fn settle(engine: &Engine) {
    while engine.step(0) {}
}

/// Appends records with these values to a partition of `orders`, durably.
pub(crate) fn put(engine: &Engine, partition: u32, values: impl IntoIterator<Item = u64>) {
    let session = engine.session().unwrap();
    let mut appender = session.appender("orders", partition).unwrap();
    for value in values {
        let (text, id) = (value.to_string(), format!("id-{value}"));
        let record = || Record::new().key("k").value(&text).biz_id(&id);
        if appender.try_append(&[record()]).is_err() {
            settle(engine);
            let _ = appender.try_append(&[record()]).unwrap();
        }
    }
    settle(engine);
}

/// An engine with `count` records in the one partition of `orders`.
pub(crate) fn with_orders(world: &World, count: u64) -> Engine {
    let engine = open(world);
    make(&engine, 1, &[]);
    put(&engine, 0, 0..count);
    engine
}

pub(crate) fn join(engine: &Engine) -> Member {
    let group = engine.group("billing").topic("orders");
    group.dead_letter("orders.dlq").blocking_join().unwrap()
}

pub(crate) fn poll(member: &Member, max: usize) -> Vec<Delivery> {
    member.poll_now(max, LONG).unwrap()
}

/// Offsets of deliveries, and how often each was delivered.
pub(crate) fn counted(deliveries: &[Delivery]) -> Vec<(u64, u32)> {
    let counted = |d: &Delivery| (d.record().offset(), d.deliveries());
    deliveries.iter().map(counted).collect()
}

pub(crate) fn offsets(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|d| d.record().offset()).collect()
}

pub(crate) fn position(member: &Member) -> u64 {
    member.position("orders", 0).unwrap()
}

/// The position of group `billing` in `orders-0` as an engine describes it.
pub(crate) fn described(engine: &Engine) -> log_engine::GroupPartition {
    let groups = engine.groups().unwrap();
    let billing = groups.iter().find(|g| g.group == "billing").unwrap();
    billing.partitions[0].clone()
}
