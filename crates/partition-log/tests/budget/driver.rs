//! One log on a disk in memory, with its budget kept: what the engine does, on one thread.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use partition_log::{
    AppendError, Appended, Guarded, Now, OpenContext, PartitionConfig, PartitionLog, ProducerView,
    Progress, Spiller, spill,
};
use record_batch::Batch;
use segment_storage::{Check, Disk, Marks, MemoryDisk, Place, WriteError};

use crate::batches::Sent;

const DIRECTORY: &str = "t-0";
const LOG_ID: u128 = 7;

pub(crate) struct Driver {
    pub(crate) disk: MemoryDisk,
    pub(crate) log: RefCell<PartitionLog>,
    pub(crate) spiller: Spiller,
    pub(crate) now_ms: u64,
    config: PartitionConfig,
    generation: i32,
}

/// A budget of that many producers.
pub(crate) fn budget(producers_max: usize) -> PartitionConfig {
    PartitionConfig {
        producers_max,
        ..PartitionConfig::default()
    }
}

fn now(elapsed_ms: u64) -> Now {
    Now {
        elapsed_ms,
        wall_ms: 1_000_000,
    }
}

impl Driver {
    pub(crate) fn new(config: PartitionConfig) -> Driver {
        let disk = MemoryDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        shared.create_directory(DIRECTORY).unwrap();
        Marks::create(&shared, DIRECTORY, LOG_ID).unwrap();
        shared.sync_names("").unwrap();
        Driver::open(disk, config, 1, 0)
    }

    fn open(disk: MemoryDisk, config: PartitionConfig, generation: i32, now_ms: u64) -> Driver {
        let place = Place {
            disk: Arc::new(disk.clone()),
            directory: DIRECTORY.into(),
            log_id: LOG_ID,
        };
        let context = OpenContext {
            generation,
            now: now(now_ms),
            producer_id_bound: 1 << 40,
        };
        let (mut log, _) = PartitionLog::open(place, config.clone(), context).unwrap();
        let spiller = log.take_spiller();
        Driver {
            disk,
            log: RefCell::new(log),
            spiller,
            now_ms,
            config,
            generation,
        }
    }

    fn on(self, disk: MemoryDisk) -> Driver {
        Driver::open(disk, self.config, self.generation + 1, self.now_ms)
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

    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    /// Opened again, after a kill, with other settings.
    pub(crate) fn reconfigured(mut self, config: PartitionConfig) -> Driver {
        self.config = config;
        self.kill()
    }

    pub(crate) fn now(&self) -> Now {
        now(self.now_ms)
    }

    pub(crate) fn append(&mut self, sent: Sent) -> Result<Appended, AppendError> {
        self.append_bytes(&sent.encode(), false).map(Option::unwrap)
    }

    /// Appends a batch as a replica does, at the log's end.
    pub(crate) fn replicate(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let end = self.log.borrow().next_offset();
        bytes[..8].copy_from_slice(&end.to_be_bytes());
        self.append_bytes(&bytes, true).unwrap();
    }

    fn append_bytes(
        &mut self,
        bytes: &[u8],
        replica: bool,
    ) -> Result<Option<Appended>, AppendError> {
        let batch = Batch::parse(bytes).unwrap();
        let now = self.now();
        for _ in 0..1_000 {
            let mut log = self.log.borrow_mut();
            let appended = match replica {
                false => log.append(&batch, now).map(Some),
                true => log.append_replicated(&batch, now).map(|()| None),
            };
            match appended {
                Err(AppendError::Write(WriteError::NoSegment { .. })) => {
                    let prepared = log.segments_mut().wanted().unwrap().prepare().unwrap();
                    log.segments_mut().offer(prepared);
                }
                Err(AppendError::Evicted { producer_id }) => {
                    drop(log);
                    self.load(producer_id);
                }
                Err(AppendError::NoRoom { .. }) => {
                    drop(log);
                    self.step();
                }
                done => return done,
            }
        }
        panic!("no room is made, and no producer comes back");
    }

    /// Brings a producer back into memory.
    pub(crate) fn load(&mut self, producer_id: i64) {
        let loading = self.log.borrow().begin_load(producer_id).unwrap();
        let loaded = match loading.read() {
            Ok(loaded) => Some(loaded),
            Err(_) => self.retried(|spiller, log, now| spiller.load(log, producer_id, now)),
        };
        if let Some(loaded) = loaded {
            self.log.borrow_mut().finish_load(loaded);
        }
    }

    /// Moves producers until no more have to, and tidies up.
    pub(crate) fn settle(&mut self) {
        while self.step() == Progress::More {}
    }

    pub(crate) fn step(&mut self) -> Progress {
        self.retried(Spiller::step)
    }

    // What is not synced yet is, then.
    fn retried<T>(
        &mut self,
        mut f: impl FnMut(&mut Spiller, &RefCell<PartitionLog>, Now) -> io::Result<T>,
    ) -> T {
        let now = now(self.now_ms);
        match f(&mut self.spiller, &self.log, now) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.commit();
                f(&mut self.spiller, &self.log, now).unwrap()
            }
            done => done.unwrap(),
        }
    }

    /// Lets time pass, and forgets whose time is over.
    pub(crate) fn pass(&mut self, ms: u64) -> usize {
        self.now_ms += ms;
        let now = self.now();
        let in_memory = self.log.borrow_mut().expire_producers(now);
        in_memory + self.retried(Spiller::expire)
    }

    /// What the committer does: syncs, moves the mark, seals what was rolled.
    pub(crate) fn commit(&mut self) {
        let now = self.now();
        let mut log = self.log.borrow_mut();
        for item in log.segments().begin_sync(true) {
            item.sync().unwrap();
            log.segments_mut().synced(&item);
            if let Some(mark) = log.segments().mark_after(&item) {
                log.segments().marks().write_mark(&mark).unwrap();
            }
        }
        while let Some(segment) = log.segments().to_seal() {
            segment.cut().unwrap();
            segment.write_footer(Check::Headers).unwrap();
            log.snapshotter().after_seal(&segment, now).unwrap();
            log.segments_mut().sealed(&segment);
            if let Some(mark) = log.segments().mark_now() {
                log.segments().marks().write_mark(&mark).unwrap();
                log.segments().marks().sync().unwrap();
            }
        }
    }

    /// Ends the segment: the next batch begins another.
    pub(crate) fn roll(&mut self) {
        self.log.borrow_mut().segments_mut().roll();
        self.commit();
    }

    /// Deletes the front of the log, up to an offset.
    pub(crate) fn delete_before(&mut self, offset: u64) {
        let now = self.now();
        self.log.borrow_mut().delete_before(offset, now).unwrap();
    }

    pub(crate) fn close(&mut self) {
        self.commit();
        let mut log = self.log.borrow_mut();
        log.snapshot().unwrap();
        self.spiller.discard();
        log.segments_mut().close().unwrap();
    }

    /// All producers that are known, by id.
    pub(crate) fn views(&mut self) -> Vec<ProducerView> {
        let mut views = self.retried(Spiller::views);
        views.sort_unstable_by_key(|view| view.producer_id);
        views
    }

    pub(crate) fn budget(&self) -> spill::Budget {
        self.log.with(|log| log.budget())
    }

    /// Ids of the producers in memory.
    pub(crate) fn in_memory(&self) -> Vec<i64> {
        let log = self.log.borrow();
        let mut ids: Vec<_> = log.producers().iter().map(|v| v.producer_id).collect();
        ids.sort_unstable();
        ids
    }

    /// Name of the file that producers are moved to, as the disk has it.
    pub(crate) fn file() -> String {
        format!("{DIRECTORY}/{}", spill::FILE)
    }

    /// Names in the log's directory.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = self.disk.list(DIRECTORY).unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }
}
