//! A partition on a disk in memory, driven as an engine drives it.

use std::io;

use partition_log::{
    AppendError, Now, OpenContext, Opened, PartitionConfig, PartitionLog, ProducerConfig,
    ProducerView, SequenceReusePolicy, UnknownProducerPolicy,
};
use record_batch::{Batch, BatchBuilder, ProducerIdentity, Records};
use segment_storage::{
    Check, Cursor, Disk, Marks, MemoryDisk, Place, ScanError, WriteError, names,
};

pub(crate) const DIRECTORY: &str = "t-0";
pub(crate) const LOG_ID: u128 = 77;
pub(crate) const DAY: u64 = 86_400_000;

pub(crate) fn place(disk: &MemoryDisk) -> Place {
    Place {
        disk: std::sync::Arc::new(disk.clone()),
        directory: DIRECTORY.into(),
        log_id: LOG_ID,
    }
}

pub(crate) fn path(name: &str) -> String {
    format!("{DIRECTORY}/{name}")
}

pub(crate) fn snapshot_path(offset: u64) -> String {
    path(&names::snapshot(offset))
}

pub(crate) fn segment_path(base: u64) -> String {
    path(&names::segment(base))
}

/// Small segments, and the embedded default: strict.
pub(crate) fn strict() -> PartitionConfig {
    PartitionConfig {
        segment_bytes: 1 << 20,
        ..PartitionConfig::default()
    }
}

/// As a Kafka broker judges.
pub(crate) fn kafka() -> PartitionConfig {
    PartitionConfig {
        producers: ProducerConfig {
            window: 5,
            unknown: UnknownProducerPolicy::Kafka,
            reuse: SequenceReusePolicy::Duplicate,
        },
        ..strict()
    }
}

/// A batch of a producer: sequences `first..=last`, which may wrap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) first: i32,
    pub(crate) last: i32,
    /// Tells contents apart that go under the same sequences.
    pub(crate) content: u8,
    /// Of every record, ms since 1970.
    pub(crate) timestamp: i64,
    /// Bytes of every value.
    pub(crate) bytes: usize,
}

/// Producer 7, epoch 0.
pub(crate) fn p7(first: i32, last: i32) -> Sent {
    Sent {
        producer_id: 7,
        epoch: 0,
        first,
        last,
        content: 0,
        timestamp: 1_000,
        bytes: 20,
    }
}

impl Sent {
    pub(crate) fn of(self, producer_id: i64) -> Sent {
        Sent {
            producer_id,
            ..self
        }
    }

    pub(crate) fn epoch(self, epoch: i16) -> Sent {
        Sent { epoch, ..self }
    }

    pub(crate) fn content(self, content: u8) -> Sent {
        Sent { content, ..self }
    }

    pub(crate) fn bytes(self, bytes: usize) -> Sent {
        Sent { bytes, ..self }
    }

    pub(crate) fn at(self, timestamp: i64) -> Sent {
        Sent { timestamp, ..self }
    }

    pub(crate) fn batch(self) -> Vec<u8> {
        let count = (i64::from(self.last) - i64::from(self.first)).rem_euclid(1 << 31) + 1;
        let mut builder = BatchBuilder::new();
        for n in 0..count {
            let mut value = format!("{} {n} {} ", self.producer_id, self.content).into_bytes();
            value.resize(self.bytes.max(value.len()), self.content);
            builder
                .push(self.timestamp, None, Some(&value), &[])
                .unwrap();
        }
        let identity = ProducerIdentity {
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            base_sequence: self.first,
        };
        let identity = (self.producer_id >= 0).then_some(identity);
        builder.build(identity).unwrap().to_vec()
    }

    /// The batch as another log has it.
    pub(crate) fn replicated(self, base_offset: u64) -> Vec<u8> {
        let mut batch = self.batch();
        batch[..8].copy_from_slice(&base_offset.to_be_bytes());
        batch
    }
}

/// How a batch was answered; offsets of the first and the last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Ok(u64, u64),
    Dup(u64, u64),
    /// Kafka's error code.
    Refused(i16),
}

pub(crate) struct World {
    pub(crate) disk: MemoryDisk,
    pub(crate) config: PartitionConfig,
    pub(crate) log: PartitionLog,
    pub(crate) opened: Opened,
    pub(crate) now: Now,
    /// Every id handed out is below it.
    pub(crate) bound: i64,
    generation: i32,
}

fn open(
    disk: &MemoryDisk,
    config: &PartitionConfig,
    generation: i32,
    now: Now,
    bound: i64,
) -> (PartitionLog, Opened) {
    let context = OpenContext {
        generation,
        now,
        producer_id_bound: bound,
    };
    PartitionLog::open(place(disk), config.clone(), context).unwrap()
}

impl World {
    pub(crate) fn new(config: PartitionConfig) -> World {
        let disk = MemoryDisk::new();
        disk.create_directory(DIRECTORY).unwrap();
        disk.sync_names("").unwrap();
        Marks::create(&place(&disk).disk, DIRECTORY, LOG_ID).unwrap();
        World::over(disk, config)
    }

    /// Opens what is there already.
    pub(crate) fn over(disk: MemoryDisk, config: PartitionConfig) -> World {
        let now = Now {
            elapsed_ms: 0,
            wall_ms: 1_700_000_000_000,
        };
        let (log, opened) = open(&disk, &config, 1, now, 1_000);
        let mut world = World {
            disk,
            config,
            log,
            opened,
            now,
            bound: 1_000,
            generation: 1,
        };
        world.raise_ceiling();
        world
    }

    /// Opens the log on another image of the disk.
    pub(crate) fn reopen(&mut self, disk: MemoryDisk) {
        self.generation += 1;
        self.disk = disk;
        let (generation, now, bound) = (self.generation, self.now, self.bound);
        (self.log, self.opened) = open(&self.disk, &self.config, generation, now, bound);
        if self.log.corruption().is_none() {
            self.raise_ceiling();
        }
    }

    pub(crate) fn kill(&mut self) {
        self.reopen(self.disk.after_kill());
    }

    pub(crate) fn power_cut(&mut self) {
        self.reopen(self.disk.after_power_cut());
    }

    /// Closes cleanly and opens again (Kafka's "reload").
    pub(crate) fn reload(&mut self) {
        self.close();
        self.reopen(self.disk.after_power_cut());
        assert!(self.opened.files.clean);
    }

    pub(crate) fn close(&mut self) {
        self.commit();
        self.log.snapshot().unwrap();
        self.log.segments_mut().close().unwrap();
    }

    pub(crate) fn send(&mut self, sent: Sent) -> Answer {
        match self.try_send(sent) {
            Ok(answer) => answer,
            Err(error) => Answer::Refused(error.kafka_code()),
        }
    }

    pub(crate) fn try_send(&mut self, sent: Sent) -> Result<Answer, AppendError> {
        match self.put(&sent.batch()) {
            Err(AppendError::Write(WriteError::NoSegment { .. })) => {
                self.feed().unwrap();
                self.put(&sent.batch())
            }
            answer => answer,
        }
    }

    /// One attempt, without a feeder.
    pub(crate) fn put(&mut self, batch: &[u8]) -> Result<Answer, AppendError> {
        let appended = self.log.append(&Batch::parse(batch)?, self.now)?;
        let (first, last) = (appended.base_offset, appended.last_offset);
        Ok(if appended.duplicate {
            Answer::Dup(first, last)
        } else {
            Answer::Ok(first, last)
        })
    }

    pub(crate) fn replicate(&mut self, batch: &[u8]) -> Result<(), AppendError> {
        let batch = Batch::parse(batch)?;
        match self.log.append_replicated(&batch, self.now) {
            Err(AppendError::Write(WriteError::NoSegment { .. })) => {
                self.feed().unwrap();
                self.log.append_replicated(&batch, self.now)
            }
            answer => answer,
        }
    }

    pub(crate) fn feed(&mut self) -> io::Result<()> {
        let Some(wanted) = self.log.segments_mut().wanted() else {
            return Ok(());
        };
        match wanted.prepare() {
            Ok(prepared) => self.log.segments_mut().offer(prepared),
            Err(error) => {
                self.log.segments_mut().prepare_failed();
                return Err(error);
            }
        }
        Ok(())
    }

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
            match segment.write_footer(Check::Headers) {
                Ok(_) => {}
                Err(ScanError::Read { source, .. })
                    if source.kind() == io::ErrorKind::StorageFull =>
                {
                    return;
                }
                Err(error) => panic!("{error}"),
            }
            let _ = self.log.snapshotter().after_seal(&segment, self.now);
            self.log.segments_mut().sealed(&segment);
            if let Some(mark) = self.log.segments().mark_now() {
                self.log.segments().marks().write_mark(&mark).unwrap();
                self.log.segments().marks().sync().unwrap();
            }
        }
        self.raise_ceiling();
    }

    fn raise_ceiling(&mut self) {
        let due = self.log.segments_mut().ceiling_due(self.now.elapsed_ms);
        if let Some(ceiling) = due {
            let marks = self.log.segments().marks().clone();
            marks.write_ceiling(ceiling).unwrap();
            marks.sync().unwrap();
            self.log.segments_mut().raise_ceiling(ceiling);
        }
    }

    /// Ends the segment and seals it.
    pub(crate) fn roll(&mut self) {
        self.log.segments_mut().roll();
        self.commit();
    }

    pub(crate) fn delete_before(&mut self, start: u64) {
        self.log.delete_before(start, self.now).unwrap();
    }

    pub(crate) fn advance(&mut self, ms: u64) {
        self.now.elapsed_ms += ms;
    }

    /// Offsets of the snapshots on disk.
    pub(crate) fn snapshots(&self) -> Vec<u64> {
        partition_log::snapshot::list(&place(&self.disk)).unwrap()
    }

    /// The window's sequences, first and last of each batch.
    pub(crate) fn window(&self, producer_id: i64) -> Vec<(i32, i32)> {
        let view = self.log.producers().get(producer_id);
        let window = view.map(|view| view.window).unwrap_or_default();
        window
            .iter()
            .map(|e| (e.first_sequence, e.last_sequence))
            .collect()
    }

    /// All that is known of producers, but for times.
    pub(crate) fn producers(&self) -> Vec<ProducerView> {
        let mut views: Vec<_> = self.log.producers().iter().collect();
        views.sort_unstable_by_key(|view| view.producer_id);
        for view in &mut views {
            view.last_append_ms = 0;
        }
        views
    }

    /// Offsets and values of everything that can be read.
    pub(crate) fn values(&self) -> Vec<(u64, Vec<u8>)> {
        let reader = self.log.reader();
        let mut cursor = Cursor::at(reader.log_start_offset());
        let mut values = Vec::new();
        while let Some(run) = reader.read(&mut cursor, 1 << 20).unwrap() {
            let mut rest = run.bytes;
            while !rest.is_empty() {
                let (first, _) = Batch::parse_first(&rest).unwrap();
                let bytes = rest.split_to(first.bytes().len());
                for record in Records::of(&bytes).unwrap() {
                    let record = record.unwrap();
                    let offset = u64::try_from(record.offset).unwrap();
                    values.push((offset, record.value.unwrap_or_default().to_vec()));
                }
            }
        }
        values
    }
}

/// Appended at the offset that is its sequence.
pub(crate) fn ok(n: i32) -> Answer {
    let offset = u64::try_from(n).unwrap();
    Answer::Ok(offset, offset)
}

/// A duplicate of what is at the offset that is its sequence.
pub(crate) fn dup(n: i32) -> Answer {
    let offset = u64::try_from(n).unwrap();
    Answer::Dup(offset, offset)
}
