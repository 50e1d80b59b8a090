//! What the tests share: a disk in memory with a clock that stands still, and batches.

use std::io;
use std::sync::Arc;

use log_engine::storage::{Disk, MemoryDisk};
use log_engine::{
    Ack, BatchBuilder, Builder, Engine, Env, ManualClock, Partition, ProducerIdentity, Record,
    TopicConfig,
};
use parking_lot::{Condvar, Mutex};

use crate::hooked_disk::{Hook, HookedDisk, Op};

/// 2023-11-14, in milliseconds since 1970.
pub(crate) const WALL_MS: i64 = 1_700_000_000_000;

/// A machine: its disk and its clock.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) disk: MemoryDisk,
    pub(crate) clock: ManualClock,
}

impl World {
    pub(crate) fn new() -> World {
        World::on(MemoryDisk::new())
    }

    pub(crate) fn on(disk: MemoryDisk) -> World {
        let clock = ManualClock::at(WALL_MS);
        World { disk, clock }
    }

    pub(crate) fn env(&self) -> Env {
        self.env_on(Arc::new(self.disk.clone()))
    }

    pub(crate) fn env_on(&self, disk: Arc<dyn Disk>) -> Env {
        let clock = Arc::new(self.clock.clone());
        Env {
            disk,
            clock,
            seed: 7,
        }
    }

    pub(crate) fn builder(&self) -> Builder {
        Engine::with_env(self.env())
    }

    pub(crate) fn open(&self) -> Engine {
        self.builder().open().unwrap()
    }

    pub(crate) fn hooked(&self, hook: Arc<dyn Hook>) -> Builder {
        let disk = HookedDisk::new(Arc::new(self.disk.clone()), hook);
        Engine::with_env(self.env_on(Arc::new(disk)))
    }

    /// The machine as a killed process leaves it.
    pub(crate) fn after_kill(&self) -> World {
        World::on(self.disk.after_kill())
    }

    /// The machine as a power cut leaves it.
    pub(crate) fn after_power_cut(&self) -> World {
        World::on(self.disk.after_power_cut())
    }
}

pub(crate) fn config(ack: Ack) -> TopicConfig {
    TopicConfig::default().with_ack(ack)
}

/// A topic `t` of one partition at `ack`, its partition ready for appends: the first batch is in.
pub(crate) fn one_partition(engine: &Engine, ack: Ack) -> Partition {
    let topic = engine.create_topic("t", 1, config(ack)).unwrap();
    let partition = topic.partition(0).unwrap();
    partition.blocking_append(&plain("first")).unwrap();
    partition
}

/// A batch of one record without a producer.
pub(crate) fn plain(value: &str) -> Vec<u8> {
    build(None, &[value])
}

/// A batch of producer `id`, epoch 0.
pub(crate) fn numbered(id: i64, sequence: i32, values: &[&str]) -> Vec<u8> {
    in_epoch(id, 0, sequence, values)
}

pub(crate) fn in_epoch(id: i64, epoch: i16, sequence: i32, values: &[&str]) -> Vec<u8> {
    let identity = ProducerIdentity {
        producer_id: id,
        producer_epoch: epoch,
        base_sequence: sequence,
    };
    build(Some(identity), values)
}

fn build(identity: Option<ProducerIdentity>, values: &[&str]) -> Vec<u8> {
    let mut batch = BatchBuilder::new();
    for value in values {
        batch
            .push(1_000, None, Some(value.as_bytes()), &[])
            .unwrap();
    }
    batch.build(identity).unwrap().to_vec()
}

pub(crate) fn record(value: &str) -> Record<'_> {
    Record::new().value(value)
}

/// Offsets and values of all that can be read of a partition.
pub(crate) fn read(engine: &Engine, topic: &str, partition: u32) -> Vec<(u64, String)> {
    let mut reader = engine.reader(topic).partition(partition).open().unwrap();
    let record = |r: Result<log_engine::ConsumedRecord, _>| {
        let r = r.unwrap();
        let value = r.value().map(|v| String::from_utf8(v.to_vec()).unwrap());
        (r.offset(), value.unwrap_or_default())
    };
    reader.blocking_iter().map(record).collect()
}

pub(crate) fn values(engine: &Engine, topic: &str) -> Vec<String> {
    read(engine, topic, 0).into_iter().map(|(_, v)| v).collect()
}

/// Holds syncs of files under a name back until it is opened; counts those that wait.
#[derive(Default)]
pub(crate) struct HoldSyncs {
    state: Mutex<HoldState>,
    changed: Condvar,
}

#[derive(Default)]
struct HoldState {
    prefix: Option<String>,
    waiting: usize,
    permits: usize,
}

impl HoldSyncs {
    /// From now on syncs of files whose name begins with `prefix` wait.
    pub(crate) fn hold(&self, prefix: &str) {
        self.state.lock().prefix = Some(prefix.to_owned());
    }

    pub(crate) fn release(&self) {
        self.state.lock().prefix = None;
        self.changed.notify_all();
    }

    /// Lets one sync go on that waits, or the next one.
    pub(crate) fn release_one(&self) {
        self.state.lock().permits += 1;
        self.changed.notify_all();
    }

    pub(crate) fn wait_until_one_waits(&self) {
        let mut state = self.state.lock();
        while state.waiting == 0 {
            let patience = std::time::Duration::from_secs(30);
            let waited = self.changed.wait_for(&mut state, patience);
            assert!(!waited.timed_out(), "no sync was begun");
        }
    }
}

impl Hook for HoldSyncs {
    fn before(&self, op: Op, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let held = |s: &HoldState| s.prefix.as_ref().is_some_and(|p| name.starts_with(p));
        if op == Op::Sync && held(&state) {
            state.waiting += 1;
            self.changed.notify_all();
            while held(&state) && state.permits == 0 {
                self.changed.wait(&mut state);
            }
            state.permits = state.permits.saturating_sub(1);
            state.waiting -= 1;
        }
        Ok(())
    }
}
