//! A log in a directory, driven as an engine drives it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use record_batch::{Batch, BatchBuilder, BatchHeader, Records, Stamp, stamped_header};
use segment_storage::{
    Check, Cursor, Disk, LogConfig, LogStart, LogView, Marks, MemoryDisk, Place, ReadError,
    Recovered, ScanError, SegmentedLog, Visibility, WriteError, names,
};

pub(crate) const LOG_ID: u128 = 0x0123_4567_89ab_cdef;
pub(crate) const DIRECTORY: &str = "t-0";

/// An offset and the value of the record there.
pub(crate) type Entry = (u64, Vec<u8>);

pub(crate) fn place(disk: impl Disk) -> Place {
    place_on(Arc::new(disk))
}

pub(crate) fn place_on(disk: Arc<dyn Disk>) -> Place {
    Place {
        disk,
        directory: DIRECTORY.into(),
        log_id: LOG_ID,
    }
}

/// Segments of `segment_bytes`; small ones make a test roll often.
pub(crate) fn config(segment_bytes: u64, visibility: Visibility) -> LogConfig {
    LogConfig {
        segment_bytes,
        visibility,
    }
}

pub(crate) fn synced(segment_bytes: u64) -> LogConfig {
    config(segment_bytes, Visibility::Synced)
}

pub(crate) fn written(segment_bytes: u64) -> LogConfig {
    config(segment_bytes, Visibility::Written)
}

/// Makes the directory of a new log.
pub(crate) fn create(place: &Place) {
    place.disk.create_directory(DIRECTORY).unwrap();
    place.disk.sync_names("").unwrap();
    Marks::create(&place.disk, DIRECTORY, LOG_ID).unwrap();
}

/// An open log, and the generation it was opened with.
pub(crate) struct TestLog {
    pub(crate) log: SegmentedLog,
    pub(crate) found: Recovered,
    now_ms: u64,
}

impl TestLog {
    pub(crate) fn open(place: Place, config: LogConfig, generation: i32) -> TestLog {
        TestLog::open_at(place, config, generation, 0)
    }

    /// Opens at that elapsed time.
    pub(crate) fn open_at(
        place: Place,
        config: LogConfig,
        generation: i32,
        now_ms: u64,
    ) -> TestLog {
        let (log, found) = SegmentedLog::open(place, config, generation, now_ms).unwrap();
        let mut opened = TestLog { log, found, now_ms };
        // As an engine does, so that what is appended can be shown.
        if opened.found.corruption.is_none() {
            opened.raise_ceiling().unwrap();
        }
        opened
    }

    pub(crate) fn new(disk: &MemoryDisk, config: LogConfig) -> TestLog {
        let place = place(disk.clone());
        create(&place);
        TestLog::open(place, config, 1)
    }

    pub(crate) fn view(&self) -> &LogView {
        self.log.view()
    }

    /// Appends one batch of these values, preparing a segment if there is none.
    pub(crate) fn append(&mut self, values: &[&[u8]]) -> u64 {
        let records: Vec<_> = values.iter().map(|v| (0, *v)).collect();
        self.append_at(&records)
    }

    /// Appends one batch of records with these timestamps.
    pub(crate) fn append_at(&mut self, records: &[(i64, &[u8])]) -> u64 {
        self.try_append(records).unwrap()
    }

    pub(crate) fn try_append(&mut self, records: &[(i64, &[u8])]) -> Result<u64, WriteError> {
        let batch = batch(records);
        match self.put(&batch) {
            Err(WriteError::NoSegment { .. }) => {
                self.feed().unwrap();
                self.put(&batch)
            }
            appended => appended,
        }
    }

    /// One attempt, without a feeder.
    pub(crate) fn put(&mut self, batch: &[u8]) -> Result<u64, WriteError> {
        let batch = Batch::parse(batch).unwrap();
        let base_offset = self.log.next_offset();
        let stamp = Stamp {
            base_offset: i64::try_from(base_offset).unwrap(),
            leader_epoch: self.log.generation(),
            log_append_time: None,
        };
        let header_bytes = stamped_header(&batch, stamp);
        let header = BatchHeader::read(&header_bytes).unwrap();
        self.log.append(&header, &header_bytes, batch.payload())?;
        Ok(base_offset)
    }

    /// The segment feeder's turn.
    pub(crate) fn feed(&mut self) -> io::Result<()> {
        if let Some(wanted) = self.log.wanted() {
            match wanted.prepare() {
                Ok(prepared) => self.log.offer(prepared),
                Err(error) => {
                    self.log.prepare_failed();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The committer's turn: sync, mark, seal.
    pub(crate) fn commit(&mut self) -> io::Result<()> {
        let outcome = self.sync().and_then(|()| self.seal());
        let outcome = outcome.and_then(|()| self.raise_ceiling());
        if let Err(error) = &outcome {
            self.log.latch().close(DIRECTORY, "sync", error);
        }
        outcome
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        for item in self.log.begin_sync(true) {
            item.sync()?;
            self.log.synced(&item);
            if let Some(mark) = self.log.mark_after(&item) {
                self.log.marks().write_mark(&mark)?;
            }
        }
        Ok(())
    }

    pub(crate) fn seal(&mut self) -> io::Result<()> {
        while let Some(segment) = self.log.to_seal() {
            segment.cut()?;
            match segment.write_footer(Check::Headers) {
                Ok(_) => self.log.sealed(&segment),
                Err(ScanError::Read { source, .. })
                    if source.kind() == io::ErrorKind::StorageFull =>
                {
                    return Ok(());
                }
                Err(error) => return Err(io::Error::other(error)),
            }
            if let Some(mark) = self.log.mark_now() {
                self.log.marks().write_mark(&mark)?;
                self.log.marks().sync()?;
            }
        }
        Ok(())
    }

    pub(crate) fn raise_ceiling(&mut self) -> io::Result<()> {
        self.now_ms += 10_000;
        if let Some(ceiling) = self.log.ceiling_due(self.now_ms) {
            self.log.marks().write_ceiling(ceiling)?;
            self.log.marks().sync()?;
            self.log.raise_ceiling(ceiling);
        }
        Ok(())
    }

    pub(crate) fn close(mut self) -> io::Result<()> {
        self.commit()?;
        self.log.close()
    }

    /// Moves the log's start.
    pub(crate) fn drop_front(&mut self, offset: u64) -> io::Result<()> {
        let start = self.log.marks().start().unwrap();
        self.log.drop_front(LogStart { offset, ..start })?;
        Ok(())
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        read_all(self.view(), self.view().start()).unwrap()
    }
}

/// A batch as a producer without an id makes it.
pub(crate) fn batch(records: &[(i64, &[u8])]) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for (timestamp, value) in records {
        builder.push(*timestamp, None, Some(value), &[]).unwrap();
    }
    builder.build(None).unwrap().to_vec()
}

/// The same batch as the log stamps it.
pub(crate) fn stamped(records: &[(i64, &[u8])], base_offset: u64, generation: i32) -> Vec<u8> {
    let bytes = batch(records);
    let batch = Batch::parse(&bytes).unwrap();
    let stamp = Stamp {
        base_offset: i64::try_from(base_offset).unwrap(),
        leader_epoch: generation,
        log_append_time: None,
    };
    [&stamped_header(&batch, stamp)[..], batch.payload()].concat()
}

/// Everything that readers see from `from` on.
pub(crate) fn read_all(view: &LogView, from: u64) -> Result<Vec<Entry>, ReadError> {
    let mut cursor = Cursor::at(from);
    let mut entries = Vec::new();
    while let Some(run) = view.read(&mut cursor, view.published(), 1000)? {
        entries.extend(entries_of(&run.bytes).into_iter().filter(|e| e.0 >= from));
        assert_eq!(cursor.offset, run.next_offset);
    }
    Ok(entries)
}

pub(crate) fn entries_of(run: &Bytes) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut rest = run.clone();
    while !rest.is_empty() {
        let (first, _) = Batch::parse_first(&rest).unwrap();
        let bytes = rest.split_to(first.bytes().len());
        for record in Records::of(&bytes).unwrap() {
            let record = record.unwrap();
            let offset = u64::try_from(record.offset).unwrap();
            entries.push((offset, record.value.unwrap_or_default().to_vec()));
        }
    }
    entries
}

/// Names in the log's directory, but not those of caches.
pub(crate) fn files(disk: &MemoryDisk) -> Vec<String> {
    let entries = disk.list(DIRECTORY).unwrap();
    let names = entries.into_iter().map(|e| e.name);
    names.filter(|n| !n.ends_with(".index")).collect()
}

pub(crate) fn path(name: &str) -> String {
    format!("{DIRECTORY}/{name}")
}

pub(crate) fn segment_path(base: u64) -> String {
    path(&names::segment(base))
}

/// Every file of the log with its contents.
pub(crate) fn contents(disk: &MemoryDisk) -> Vec<(String, Vec<u8>)> {
    let entries = disk.list(DIRECTORY).unwrap();
    entries
        .into_iter()
        .map(|e| {
            let bytes = disk.read_file(&path(&e.name)).unwrap();
            (e.name, bytes)
        })
        .collect()
}

/// Values `from..to`, each in its decimal digits, filled up to `bytes`.
pub(crate) fn numbered(from: u64, to: u64, bytes: usize) -> Vec<Entry> {
    (from..to).map(|n| (n, value(n, bytes))).collect()
}

pub(crate) fn value(n: u64, bytes: usize) -> Vec<u8> {
    let mut value = format!("{n} ").into_bytes();
    value.resize(bytes.max(value.len()), b'.');
    value
}

impl TestLog {
    /// Appends values numbered by their offsets, `count` batches of one record.
    pub(crate) fn append_numbered(&mut self, count: u64, bytes: usize) {
        for _ in 0..count {
            let value = value(self.log.next_offset(), bytes);
            self.append(&[&value]);
        }
    }
}

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
