//! Producer snapshots against a replay of the log (I20).

use std::collections::VecDeque;
use std::io;

use partition_log::{
    PartitionConfig, ProducerTable, ProducerView, UnknownProducerPolicy, WindowEntry, marker_of,
    snapshot,
};
use record_batch::{Batch, BatchHeader, SourcePosition};
use segment_storage::{Place, Scanner, names};

use super::findings::Findings;
use super::indexes::CACHE;

/// The snapshots of a log, each compared when the replay has reached its offset.
pub(super) struct Snapshots {
    place: Place,
    config: PartitionConfig,
    waiting: VecDeque<u64>,
    table: ProducerTable,
    /// Whether the table reflects all that the log holds so far.
    is_complete: bool,
    /// First offset that counts: what lies below is deleted, though bytes of it may be there.
    start: u64,
    /// Data was deleted, so a snapshot is more than a cache: it remembers producers (I18).
    is_data_deleted: bool,
    /// The first batches are not here any more.
    is_late: bool,
    newest: Option<u64>,
}

impl Snapshots {
    pub(super) fn new(
        place: Place,
        config: PartitionConfig,
        mut offsets: Vec<u64>,
        (start, is_data_deleted): (u64, bool),
    ) -> Snapshots {
        offsets.sort_unstable();
        let newest = offsets.last().copied();
        // Without idempotence nothing is known of producers but what an open replayed.
        let is_kafka = config.producers.unknown == UnknownProducerPolicy::Kafka;
        let is_complete = config.idempotence && (newest.is_some() || is_kafka);
        Snapshots {
            table: ProducerTable::new(config.producers),
            place,
            config,
            waiting: offsets.into(),
            is_complete,
            start,
            is_data_deleted,
            is_late: false,
            newest,
        }
    }

    /// The log's batches, as far as they are here, begin at `base`; there were some before it.
    pub(super) fn begin(&mut self, base: u64, is_late: bool) {
        self.start = self.start.max(base);
        self.is_late = is_late;
    }

    /// Batches were skipped: from here on snapshots can be read, but not compared.
    pub(super) fn lose_track(&mut self) {
        self.is_complete = false;
    }

    /// Whether a batch with these sequences is among the last ones of its producer.
    pub(super) fn remembers(&self, producer_id: i64, first: i32, count: u32) -> bool {
        let view = self.table.get(producer_id);
        view.is_some_and(|view| {
            let mut window = view.window.iter();
            window.any(|e| (e.first_sequence, e.count) == (first, count))
        })
    }

    /// The next batch of the log begins at `base_offset`: compares the snapshots up to there.
    pub(super) fn reach(&mut self, base_offset: u64, findings: &mut Findings) {
        while let Some(&offset) = self.waiting.front()
            && offset <= base_offset
        {
            self.waiting.pop_front();
            self.check(offset, self.is_complete, findings);
        }
    }

    /// Takes a batch into the replay.
    pub(super) fn replay(
        &mut self,
        header: &BatchHeader,
        base_offset: u64,
        scanner: &mut Scanner<'_>,
    ) {
        if !self.is_complete || !header.has_producer() {
            return;
        }
        let (mut fingerprint, mut control) = (header.crc, None);
        let attributes = header.attributes;
        if self.config.log_append_time || attributes.is_control() || attributes.has_source() {
            let batch = scanner.batch_bytes().ok();
            let Some(batch) = batch.and_then(|bytes| Batch::parse(bytes).ok()) else {
                self.is_complete = false;
                return;
            };
            fingerprint = record_batch::fingerprint(&batch, self.config.log_append_time);
            control = marker_of(&batch);
            match SourcePosition::of(&batch) {
                Ok(Some(position)) => {
                    let sources = self.table.sources_mut();
                    sources.apply(header.producer_id, position);
                }
                Ok(None) => {}
                Err(_) => self.is_complete = false,
            }
        }
        self.table
            .replay(header, fingerprint, control, base_offset, 0);
    }

    /// The certain part of the log ends at `end`: compares what is due, reads the rest.
    pub(super) fn finish(mut self, end: u64, findings: &mut Findings) {
        self.reach(end, findings);
        let is_needed = self.is_data_deleted && self.is_late && self.config.idempotence;
        if is_needed && self.newest.is_none() {
            let what = "batches are deleted, and no snapshot remembers their producers; restore one \
                        from a backup, or let opening refuse unknown producers";
            findings.problem(self.place.display(""), None, "I18", what);
        }
        while let Some(offset) = self.waiting.pop_front() {
            self.check(offset, false, findings);
            let file = self.place.display(&names::snapshot(offset));
            findings.note(format!(
                "{file}: it lies above offset {end}, where what is certain of the log ends; not compared"
            ));
        }
    }

    fn check(&mut self, offset: u64, is_compared: bool, findings: &mut Findings) {
        let name = names::snapshot(offset);
        let file = self.place.display(&name);
        let read = snapshot::read(&self.place, offset, self.config.producers, |_| Some(0));
        let table = match read {
            Ok(table) => table,
            // A newer one took its place meanwhile.
            Err(_) if !self.exists(&name) => return,
            Err(error) => {
                let is_only_memory = self.is_data_deleted && self.newest == Some(offset);
                let (invariant, what) = if is_only_memory {
                    let what = "the batches below the log's start are deleted, and it was to \
                                remember their producers; restore it from a backup, or let opening \
                                refuse unknown producers";
                    ("I18", what)
                } else {
                    ("I25", CACHE)
                };
                findings.problem(file, None, invariant, format!("{error}; {what}"));
                return;
            }
        };
        if !is_compared {
            return;
        }
        let is_kafkas = self.is_kafkas(&name);
        let mut views: Vec<ProducerView> = table.iter().collect();
        views.sort_unstable_by_key(|view| view.producer_id);
        for view in views {
            if let Some(what) = self.compare(&view, is_kafkas) {
                let id = view.producer_id;
                let what = format!("producer {id} at offset {offset}: {what}; {CACHE}");
                findings.problem(file.as_str(), None, "I20", what);
            }
        }
        for (id, position) in table.sources().positions() {
            let found = self.table.sources().position(id).map(|found| found.last);
            let is_deleted = found.is_none() && self.is_data_deleted;
            if !is_deleted && found != Some(position.last) {
                let what = format!(
                    "producer {id} at offset {offset}: its source is stored up to position {}, the \
                     log says {found:?}; {CACHE}",
                    position.last
                );
                findings.problem(file.as_str(), None, "I20", what);
            }
        }
    }

    fn exists(&self, name: &str) -> bool {
        let opened = self.place.disk.open(&self.place.path(name));
        !opened.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    fn is_kafkas(&self, name: &str) -> bool {
        let mut version = [0; 2];
        let file = self.place.disk.open(&self.place.path(name));
        file.is_ok_and(|file| file.read_at(&mut version, 0).is_ok()) && version == [0, 1]
    }

    // Who is missing from a snapshot may have been forgotten, or its session closed; who is in it
    // must be as the log says, as far as the log still holds its batches.
    fn compare(&self, snapshot: &ProducerView, is_kafkas: bool) -> Option<String> {
        let held = |view: &ProducerView| -> Vec<WindowEntry> {
            let still_there =
                |e: &&WindowEntry| e.base_offset.saturating_add(e.count.into()) > self.start;
            let mut entries: Vec<_> = view.window.iter().filter(still_there).copied().collect();
            if is_kafkas {
                entries.iter_mut().for_each(|e| e.fingerprint = 0);
            }
            entries
        };
        let remembered = held(snapshot);
        let Some(replayed) = self.table.get(snapshot.producer_id) else {
            return (!remembered.is_empty()).then(|| {
                format!(
                    "it remembers {} batches that the log has not",
                    remembered.len()
                )
            });
        };
        let found = held(&replayed);
        // A producer that was forgotten and went on is known from there only.
        let may_be_shorter =
            is_kafkas || self.config.producers.unknown == UnknownProducerPolicy::Kafka;
        let is_same = if may_be_shorter {
            found.ends_with(&remembered)
        } else {
            found == remembered
        };
        if !is_same {
            return Some(format!(
                "it remembers {}, the log says {}",
                described(&remembered),
                described(&found)
            ));
        }
        if !found.is_empty() && snapshot.epoch != replayed.epoch {
            return Some(format!(
                "its epoch is {}, the log says {}",
                snapshot.epoch, replayed.epoch
            ));
        }
        let open = |view: &ProducerView| {
            let open = view.open_transaction_offset;
            open.filter(|offset| *offset >= self.start)
        };
        (open(snapshot) != open(&replayed)).then(|| {
            format!(
                "its open transaction begins at {:?}, the log says {:?}",
                open(snapshot),
                open(&replayed)
            )
        })
    }
}

fn described(entries: &[WindowEntry]) -> String {
    let Some((first, last)) = entries.first().zip(entries.last()) else {
        return "no batches".to_owned();
    };
    format!(
        "{} batches, sequences {} to {} at offsets {} to {}",
        entries.len(),
        first.first_sequence,
        last.last_sequence,
        first.base_offset,
        last.base_offset
    )
}
