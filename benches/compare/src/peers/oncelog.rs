//! Oncelog through its public append API: a session and an appender for each caller.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crc_fast::{CrcAlgorithm, Digest};
use oncelog::storage::{Disk as _, DiskFile, OsDisk};
use oncelog::{Ack, Appender, Engine, ProducerSession, Record, TopicConfig};

use super::{Each, Log, Raw, Setup, Writer};

const TOPIC: &str = "bench";
/// Bytes that the bare pass takes at a time.
const PIECE: u64 = 1 << 20;

struct Oncelog {
    engine: Engine,
    records: Vec<Record<'static>>,
    directory: PathBuf,
}

struct Caller<'a> {
    records: &'a [Record<'static>],
    appender: Appender,
    _session: ProducerSession,
}

pub(super) fn open(setup: &Setup, idempotence: bool) -> anyhow::Result<Box<dyn Log>> {
    let directory = setup.directory.join("oncelog");
    let is_new = !directory.exists();
    let engine = Engine::open(&directory)?;
    if is_new {
        let ack = if setup.cell.synced {
            Ack::Synced
        } else {
            Ack::Memory
        };
        let config = TopicConfig::default()
            .with_ack(ack)
            .with_idempotence(idempotence);
        engine.create_topic(TOPIC, 1, config)?;
    }
    let records = setup.pool.values().map(|value| Record::new().value(value));
    Ok(Box::new(Oncelog {
        engine,
        records: records.collect(),
        directory,
    }))
}

impl Log for Oncelog {
    fn writer(&self, _caller: u32) -> anyhow::Result<Box<dyn Writer + '_>> {
        let session = self.engine.session()?;
        Ok(Box::new(Caller {
            records: &self.records,
            appender: session.appender(TOPIC, 0)?,
            _session: session,
        }))
    }

    fn read(&mut self, each: Each<'_>) -> anyhow::Result<()> {
        let mut reader = self.engine.reader(TOPIC).partition(0).open()?;
        for record in reader.blocking_iter() {
            each(record?.value().map_or(&[], |value| value))?;
        }
        Ok(())
    }

    fn read_raw(&mut self) -> anyhow::Result<Option<Raw>> {
        let mut reader = self.engine.reader(TOPIC).partition(0).open()?;
        let begin = Instant::now();
        let mut bytes = 0;
        while let Some(batches) = reader.blocking_next_batches() {
            bytes += batches?.bytes.len() as u64;
        }
        let took = begin.elapsed();
        let disk = OsDisk::read_only(self.directory.clone())?;
        let mut files = Vec::new();
        segments(&self.directory, &self.directory, &mut files)?;
        // Mapped and published, so that the pass copies nothing; the first pass has the pages mapped.
        let files = files.iter().map(|name| disk.open(name));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        crc(&files)?;
        let begin = Instant::now();
        let crc_bytes = crc(&files)?;
        Ok(Some(Raw {
            bytes,
            took,
            crc_bytes,
            crc_took: begin.elapsed(),
        }))
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        Ok(self.engine.close()?)
    }
}

impl Writer for Caller<'_> {
    fn append(&mut self, values: Range<usize>) -> anyhow::Result<()> {
        self.appender.blocking_append(&self.records[values])?;
        Ok(())
    }
}

/// One CRC-32C over all bytes; how many those were.
fn crc(files: &[Arc<dyn DiskFile>]) -> anyhow::Result<u64> {
    let mut bytes = 0;
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for file in files {
        let len = file.len();
        file.publish(len);
        for start in (0..len).step_by(usize::try_from(PIECE)?) {
            digest.update(&file.read(start..len.min(start + PIECE))?);
        }
        bytes += len;
    }
    std::hint::black_box(digest.finalize());
    Ok(bytes)
}

/// Names of all segments below `directory`, relative to `root`.
fn segments(root: &Path, directory: &Path, found: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in directory.read_dir()? {
        let path = entry?.path();
        if path.is_dir() {
            segments(root, &path, found)?;
        } else if path.extension().is_some_and(|e| e == "log") {
            found.push(path.strip_prefix(root)?.display().to_string());
        }
    }
    Ok(())
}
