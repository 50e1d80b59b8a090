//! Opening: one ledger for each name of an engine, read from its last snapshot and what follows it.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use log_engine::{BatchError, BatchHeader, Engine, InternalLog, Records, TopicConfig};
use parking_lot::Mutex;

use super::cleaning::Cleaner;
use super::error::EmbeddedError;
use super::event::{Event, replaced_by_row};
use super::ledger::{EmbeddedSettings, Ledger, Shared};
use super::state::State;

/// What the topics' names begin with.
const PREFIX: &str = "__ids-";

/// Largest batch: a transaction, with all its outputs.
pub(super) const BATCH_BYTES_MAX: u64 = 8 << 20;

/// Bytes of batches that are read at once.
const STEP_BYTES: usize = 1 << 20;

/// A record of the log.
pub(super) struct Stored {
    pub(super) offset: u64,
    /// That of a row.
    pub(super) digest: Option<u128>,
    pub(super) value: Bytes,
}

impl Stored {
    /// What it says.
    pub(super) fn event(&self, topic: &str) -> Result<Event, EmbeddedError> {
        let event = Event::decode(self.value.clone(), self.offset);
        event.map_err(|source| self.malformed(topic, source))
    }

    fn malformed(&self, topic: &str, source: super::wire::WireError) -> EmbeddedError {
        EmbeddedError::Event {
            topic: topic.to_owned(),
            offset: self.offset,
            source,
        }
    }
}

/// The records at or above `least` of whole batches.
pub(super) fn records_of(
    topic: &str,
    least: u64,
    bytes: Bytes,
) -> Result<Vec<Stored>, EmbeddedError> {
    let mut records = Vec::new();
    each_of(topic, least, bytes, |record| {
        records.push(record);
        Ok(())
    })?;
    Ok(records)
}

fn each_of(
    topic: &str,
    least: u64,
    mut bytes: Bytes,
    mut each: impl FnMut(Stored) -> Result<(), EmbeddedError>,
) -> Result<(), EmbeddedError> {
    let fail = |source: BatchError| EmbeddedError::Batch {
        topic: topic.to_owned(),
        offset: least,
        source,
    };
    while !bytes.is_empty() {
        let header = BatchHeader::read(&bytes).map_err(fail)?;
        let batch = bytes.split_to(header.size().min(bytes.len()));
        for record in Records::of(&batch).map_err(fail)? {
            let record = record.map_err(fail)?;
            // Checked when it was appended.
            let offset = u64::try_from(record.offset).unwrap_or(0);
            let digest = record.key.as_deref().and_then(|key| key.first_chunk());
            if offset >= least {
                each(Stored {
                    offset,
                    digest: digest.map(|digest| u128::from_be_bytes(*digest)),
                    value: record.value.unwrap_or_default(),
                })?;
            }
        }
    }
    Ok(())
}

/// Calls `each` for every record of a log from an offset on.
pub(super) fn each_record(
    (log, topic): (&InternalLog, &str),
    from: u64,
    mut each: impl FnMut(Stored) -> Result<(), EmbeddedError>,
) -> Result<(), EmbeddedError> {
    let mut at = from.max(log.start());
    loop {
        let read = log.read(at, STEP_BYTES);
        let read = read.map_err(|source| EmbeddedError::Read {
            topic: topic.to_owned(),
            source,
        })?;
        let Some((bytes, next)) = read else {
            return Ok(());
        };
        each_of(topic, at, bytes, &mut each)?;
        at = next;
    }
}

/// A name of an engine. Held while it is opened, so that one call reads the log and the others get what it made.
type Slot = Arc<Mutex<Weak<Ledger>>>;

static OPEN: Mutex<Vec<((usize, String), Slot)>> = Mutex::new(Vec::new());

fn slot(engine: &Engine, topic: &str) -> Slot {
    let mut open = OPEN.lock();
    open.retain(|(_, slot)| {
        // One that is locked is being opened.
        Arc::strong_count(slot) > 1 || slot.lock().strong_count() > 0
    });
    let id = (engine.address(), topic.to_owned());
    let found = open.iter().find(|(known, _)| *known == id);
    if let Some((_, slot)) = found {
        return slot.clone();
    }
    let slot = Slot::default();
    open.push((id, slot.clone()));
    slot
}

/// The ledger of a name, of this process's one or read from the log.
///
/// # Errors
/// [`EmbeddedError`].
pub(super) fn open(
    engine: &Engine,
    name: &str,
    settings: EmbeddedSettings,
) -> Result<Shared, EmbeddedError> {
    let topic = format!("{PREFIX}{name}");
    let slot = slot(engine, &topic);
    let mut known = slot.lock();
    if let Some(ledger) = known.upgrade() {
        return Ok(ledger);
    }
    let ledger = Arc::new(read(engine, topic, settings)?);
    *known = Arc::downgrade(&ledger);
    Ok(ledger)
}

fn config(settings: &EmbeddedSettings) -> Result<TopicConfig, EmbeddedError> {
    let batch = BATCH_BYTES_MAX.min(settings.segment_bytes);
    let mut config = TopicConfig::default();
    config.set("segment.bytes", &settings.segment_bytes.to_string())?;
    config.set("max.message.bytes", &batch.to_string())?;
    Ok(config)
}

fn read(
    engine: &Engine,
    topic: String,
    settings: EmbeddedSettings,
) -> Result<Ledger, EmbeddedError> {
    let logs = engine.internal_logs(&topic, 2, &config(&settings)?)?;
    let [events, snapshots] = <[InternalLog; 2]>::try_from(logs).map_err(|logs| {
        let partitions = u32::try_from(logs.len()).unwrap_or(u32::MAX);
        let name = topic.clone();
        log_engine::TopicError::Exists { name, partitions }
    })?;
    for log in [&events, &snapshots] {
        let check = log.check();
        check.map_err(|source| EmbeddedError::Read {
            topic: topic.clone(),
            source,
        })?;
    }
    let mut state = State::default();
    let covers = load(&snapshots, &topic, events.durable_end(), &mut state)?;
    state.begin_at(events.start());
    each_record((&events, &topic), covers.unwrap_or(0), |record| {
        let replaced = replaced_by_row(&record.value);
        let replaced = replaced.map_err(|source| record.malformed(&topic, source))?;
        match (replaced, record.digest) {
            (Some(replaces), Some(digest)) => state.index.put(digest, replaces, record.offset),
            _ => state.apply(record.offset, record.event(&topic)?),
        }
        Ok(())
    })?;
    let cleaner = Cleaner::at(events.start());
    Ok(Ledger {
        engine: engine.clone(),
        topic,
        settings,
        snapshot_at: AtomicU64::new(covers.unwrap_or(events.start())),
        events,
        snapshots,
        state: Mutex::new(state),
        cleaner: Mutex::new(cleaner),
        is_snapshotting: AtomicBool::new(false),
        forwarder: Mutex::default(),
        is_forwarding: AtomicBool::new(false),
    })
}

// Reads the newest whole snapshot, if there is any, and returns up to which offset it counts. One that knows more than the log has
// does not count: a backup may have copied it later.
fn load(
    snapshots: &InternalLog,
    topic: &str,
    log_end: u64,
    state: &mut State,
) -> Result<Option<u64>, EmbeddedError> {
    let log = (snapshots, topic);
    let mut begun = None;
    let mut whole = None;
    each_record(log, 0, |record| {
        // Entries are many, and not looked at here.
        if record.value.len() < 32 {
            match record.event(topic)? {
                Event::Begin { covers, .. } if covers <= log_end => begun = Some(record.offset),
                Event::Begin { .. } => begun = None,
                Event::End { begin } if begun == Some(begin) => {
                    whole = Some((begin, record.offset));
                }
                _ => {}
            }
        }
        Ok(())
    })?;
    let Some((begin, end)) = whole else {
        return Ok(None);
    };
    let mut covers = None;
    each_record(log, begin, |record| {
        if record.offset >= end {
            return Ok(());
        }
        match record.event(topic)? {
            Event::Begin { covers: up_to, ids } => {
                covers = Some(up_to);
                state.index.reserve(usize::try_from(ids).unwrap_or(0));
            }
            event => state.apply(record.offset, event),
        }
        Ok(())
    })?;
    Ok(covers)
}
