//! Drives one log on a disk in memory: feeds it segments, commits, seals and closes it.

use std::sync::Arc;

use harness::hooked_disk::{Hook, HookedDisk};
use partition_log::{
    AppendError, Appended, Now, OpenContext, Opened, PartitionConfig, PartitionLog, snapshot,
};
use record_batch::{Batch, BatchBuilder, ProducerIdentity};
use segment_storage::{Check, Disk, Marks, MemoryDisk, Place, WriteError};

const DIRECTORY: &str = "t-0";
const LOG_ID: u128 = 7;

/// One log, open.
pub(crate) struct Driver {
    pub(crate) disk: MemoryDisk,
    pub(crate) log: PartitionLog,
    pub(crate) opened: Opened,
    pub(crate) now_ms: u64,
    pub(crate) config: PartitionConfig,
    generation: i32,
    place: Place,
}

pub(crate) fn place(disk: Arc<dyn Disk>) -> Place {
    Place {
        disk,
        directory: DIRECTORY.into(),
        log_id: LOG_ID,
    }
}

/// Unknown producers are taken in mid-sequence, as Kafka's brokers do.
pub(crate) fn kafka() -> PartitionConfig {
    let mut config = PartitionConfig::default();
    config.producers.unknown = partition_log::UnknownProducerPolicy::Kafka;
    config
}

impl Driver {
    /// A new log.
    pub(crate) fn new(config: PartitionConfig) -> Driver {
        let disk = MemoryDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        shared.create_directory(DIRECTORY).unwrap();
        Marks::create(&shared, DIRECTORY, LOG_ID).unwrap();
        shared.sync_names("").unwrap();
        Driver::open(disk, config, (1, 0))
    }

    fn open(disk: MemoryDisk, config: PartitionConfig, at: (i32, u64)) -> Driver {
        let place = place(Arc::new(disk.clone()));
        Driver::open_at(disk, place, config, at)
    }

    fn open_at(
        disk: MemoryDisk,
        place: Place,
        config: PartitionConfig,
        (generation, now_ms): (i32, u64),
    ) -> Driver {
        let now = Now {
            elapsed_ms: now_ms,
            wall_ms: 1_000_000,
        };
        let context = OpenContext {
            generation,
            now,
            producer_id_bound: 1_000,
        };
        let (log, opened) = PartitionLog::open(place.clone(), config.clone(), context).unwrap();
        Driver {
            disk,
            log,
            opened,
            now_ms,
            config,
            generation,
            place,
        }
    }

    fn on(self, disk: MemoryDisk) -> Driver {
        let at = (self.generation + 1, self.now_ms);
        Driver::open(disk, self.config, at)
    }

    /// Closed cleanly and opened again.
    pub(crate) fn reload(mut self) -> Driver {
        self.close();
        let disk = self.disk.clone();
        self.on(disk)
    }

    /// Opened again as a killed process left it.
    pub(crate) fn kill(self) -> Driver {
        let disk = self.disk.after_kill();
        self.on(disk)
    }

    /// Opened again from what is durable.
    pub(crate) fn crash(self) -> Driver {
        let disk = self.disk.after_power_cut();
        self.on(disk)
    }

    /// Closed cleanly; `change` is made to its files; opened again.
    pub(crate) fn reload_after(mut self, change: impl FnOnce(&Place, &MemoryDisk)) -> Driver {
        self.close();
        let disk = self.disk.clone();
        change(&self.place, &disk);
        self.on(disk)
    }

    /// Opened again with every call on the disk told to `hook`.
    pub(crate) fn reload_hooked(mut self, hook: Arc<dyn Hook>) -> Driver {
        self.close();
        let hooked = HookedDisk::new(Arc::new(self.disk.clone()), hook);
        let at = (self.generation + 1, self.now_ms);
        Driver::open_at(self.disk, place(Arc::new(hooked)), self.config, at)
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            elapsed_ms: self.now_ms,
            wall_ms: 1_000_000,
        }
    }

    /// Appends, with a segment made ready when one is wanted; nothing is synced.
    pub(crate) fn append(&mut self, batch: &[u8]) -> Result<Appended, AppendError> {
        let batch = Batch::parse(batch).unwrap();
        loop {
            match self.log.append(&batch, self.now()) {
                Err(AppendError::Write(WriteError::NoSegment { .. })) => self.feed(),
                done => return done,
            }
        }
    }

    /// Appends a batch with its own offset, as a follower does.
    pub(crate) fn replicate(&mut self, batch: &[u8]) -> Result<(), AppendError> {
        let batch = Batch::parse(batch).unwrap();
        loop {
            match self.log.append_replicated(&batch, self.now()) {
                Err(AppendError::Write(WriteError::NoSegment { .. })) => self.feed(),
                done => return done,
            }
        }
    }

    /// Appends and commits; the offset, and whether it was a repeat.
    pub(crate) fn send(&mut self, batch: &[u8]) -> (u64, bool) {
        let appended = self.append(batch).unwrap();
        self.commit();
        (appended.base_offset, appended.duplicate)
    }

    fn feed(&mut self) {
        let wanted = self.log.segments_mut().wanted().unwrap();
        let prepared = wanted.prepare().unwrap();
        self.log.segments_mut().offer(prepared);
    }

    /// What the committer does: syncs, moves the mark, seals what was rolled.
    pub(crate) fn commit(&mut self) {
        for item in self.log.segments().begin_sync(true) {
            item.sync().unwrap();
            self.log.segments_mut().synced(&item);
            if let Some(mark) = self.log.segments().mark_after(&item) {
                self.log.segments().marks().write_mark(&mark).unwrap();
            }
        }
        while let Some(segment) = self.log.segments().to_seal() {
            segment.cut().unwrap();
            segment.write_footer(Check::Headers).unwrap();
            // A snapshot is a cache; the committer goes on without it.
            let _ = self.log.snapshotter().after_seal(&segment, self.now());
            self.log.segments_mut().sealed(&segment);
            if let Some(mark) = self.log.segments().mark_now() {
                let marks = self.log.segments().marks();
                marks.write_mark(&mark).unwrap();
                marks.sync().unwrap();
            }
        }
    }

    /// Ends the segment: the next batch begins another.
    pub(crate) fn roll(&mut self) {
        self.log.segments_mut().roll();
        self.commit();
    }

    pub(crate) fn close(&mut self) {
        self.commit();
        self.log.snapshot().unwrap();
        self.log.segments_mut().close().unwrap();
    }

    /// Offsets of the snapshots there are.
    pub(crate) fn snapshots(&self) -> Vec<u64> {
        snapshot::list(&self.place).unwrap()
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The code that the batch is refused with.
    pub(crate) fn refusal(&mut self, batch: &[u8]) -> i16 {
        let before = self.log.next_offset();
        let error = self.append(batch).unwrap_err();
        assert_eq!(self.log.next_offset(), before, "a refusal changes nothing");
        error.kafka_code()
    }

    /// Whether a producer is known.
    pub(crate) fn knows(&self, producer_id: i64) -> bool {
        self.log.producers().get(producer_id).is_some()
    }
}

/// Records `first..=last` of producer 7.
pub(crate) fn p7(first: i32, last: i32) -> Vec<u8> {
    of(7, first, last)
}

/// Records `first..=last` of a producer.
pub(crate) fn of(producer_id: i64, first: i32, last: i32) -> Vec<u8> {
    let identity = ProducerIdentity {
        producer_id,
        producer_epoch: 0,
        base_sequence: first,
    };
    build(Some(identity), first, last)
}

/// One record without a producer.
pub(crate) fn plain() -> Vec<u8> {
    build(None, 0, 0)
}

fn build(identity: Option<ProducerIdentity>, first: i32, last: i32) -> Vec<u8> {
    let mut batch = BatchBuilder::new();
    for n in first..=last {
        let value = format!("record {n}");
        batch.push(0, None, Some(value.as_bytes()), &[]).unwrap();
    }
    batch.build(identity).unwrap().to_vec()
}
