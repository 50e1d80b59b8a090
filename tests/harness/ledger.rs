//! What clients of named producers saw, held against what is in the log. Nothing else is believed:
//! not the engine's counts, nor its tables.
//!
//! A line's content follows from its producer and its position in the source, so that whoever
//! finds a record can tell what it must be.

use std::collections::{BTreeMap, BTreeSet};

use oncelog::{Engine, Record, RecordMetadata, partition_for_key};

use crate::random::hash;

/// The topic that everything goes to.
pub const TOPIC: &str = "lines";

/// One line of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Which source: the producer's name, by number.
    pub source: u64,
    /// Where in it.
    pub position: u64,
    key: Option<String>,
    value: String,
}

impl Line {
    /// The line that is at a position of a source. Two of three have one of five keys.
    pub fn at(source: u64, position: u64) -> Line {
        let drawn = hash(source, position, 0);
        let fill = usize::try_from(drawn >> 8 & 0x7f).unwrap_or(0);
        Line {
            source,
            position,
            key: (!drawn.is_multiple_of(3)).then(|| format!("k{}", drawn % 5)),
            value: format!("{source} {position} {}", "x".repeat(fill)),
        }
    }

    /// As a producer takes it; without a position for one without a name.
    pub fn record(&self, is_named: bool) -> Record<'_> {
        let mut record = Record::to(TOPIC).value(&self.value);
        if let Some(key) = &self.key {
            record = record.key(key);
        }
        if is_named {
            record = record.position(self.position);
        }
        record
    }

    // Where a named producer sends it, whatever happens.
    fn partition(&self, partitions: u32) -> u32 {
        match &self.key {
            Some(key) => partition_for_key(key.as_bytes(), partitions),
            None => {
                let rest = self.position % u64::from(partitions.max(1));
                u32::try_from(rest).unwrap_or(0)
            }
        }
    }
}

/// What one source's producers were given, and what they were answered.
#[derive(Debug, Clone, Default)]
struct Told {
    is_named: bool,
    /// Lines handed over begin below this position.
    sent: u64,
    /// Positions that were answered as stored; the place where the answer named one.
    stored: BTreeMap<u64, Option<(u32, u64)>>,
}

/// What all clients saw.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    sources: BTreeMap<u64, Told>,
}

/// What an engine holds of a source.
#[derive(Debug, Clone, Default)]
pub struct Found {
    positions: BTreeMap<u64, BTreeSet<u64>>,
}

impl Found {
    /// Whether everything of a source below a position is there.
    pub fn has_all_below(&self, source: u64, end: u64) -> bool {
        let positions = self.positions.get(&source);
        let count = positions.map_or(0, |p| p.range(..end).count());
        u64::try_from(count) == Ok(end)
    }

    /// How many lines of all sources are there.
    pub fn len(&self) -> usize {
        self.positions.values().map(BTreeSet::len).sum()
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Ledger {
    /// Notes that a line was handed over, or is about to be.
    pub fn sent(&mut self, line: &Line, is_named: bool) {
        let told = self.sources.entry(line.source).or_default();
        told.is_named = is_named;
        told.sent = told.sent.max(line.position + 1);
    }

    /// How many lines of a source were handed over.
    pub fn sent_of(&self, source: u64) -> u64 {
        self.sources.get(&source).map_or(0, |told| told.sent)
    }

    /// Notes an answer.
    ///
    /// # Errors
    /// When it contradicts an earlier one.
    pub fn stored(&mut self, line: &Line, at: &RecordMetadata) -> Result<(), String> {
        self.stored_at(line, at.partition, at.offset)
    }

    /// As [`Ledger::stored`]; without an offset where an earlier run had stored the line.
    ///
    /// # Errors
    /// When it contradicts an earlier answer.
    pub fn stored_at(
        &mut self,
        line: &Line,
        partition: u32,
        offset: Option<u64>,
    ) -> Result<(), String> {
        let told = self.sources.entry(line.source).or_default();
        let place = offset.map(|offset| (partition, offset));
        let known = told.stored.entry(line.position).or_insert(place);
        if let (Some(known), Some(place)) = (&known, place)
            && *known != place
        {
            return Err(format!("{line:?} is at {place:?}, and was at {known:?}"));
        }
        *known = known.or(place);
        Ok(())
    }

    /// Holds a log against what clients saw: every line that was answered is there, at its place;
    /// none is there twice, or was never sent; each source's lines are in order in each partition.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, engine: &Engine) -> Result<Found, String> {
        let mut found = Found::default();
        let mut last: BTreeMap<(u64, u32), u64> = BTreeMap::new();
        let mut places = BTreeMap::new();
        let topic = engine.topic(TOPIC).map_err(|e| e.to_string())?;
        let mut reader = engine.reader(TOPIC).open().map_err(|e| e.to_string())?;
        for record in reader.blocking_iter() {
            let record = record.map_err(|e| e.to_string())?;
            let (partition, offset) = (record.partition(), record.offset());
            let value = record
                .value()
                .map(|v| String::from_utf8_lossy(v).into_owned());
            let value = value.unwrap_or_default();
            let mut words = value.split(' ').map_while(|word| word.parse().ok());
            let (Some(source), Some(position)) = (words.next(), words.next()) else {
                return Err(format!("nobody sent {value:?}, at {partition}@{offset}"));
            };
            let line = Line::at(source, position);
            let told = self.sources.get(&source);
            let Some(told) = told.filter(|told| position < told.sent && line.value == value) else {
                return Err(format!("nobody sent {value:?}, at {partition}@{offset}"));
            };
            let key = record
                .key()
                .map(|k| String::from_utf8_lossy(k).into_owned());
            if key != line.key || told.is_named && partition != line.partition(topic.partitions()) {
                return Err(format!("{line:?} is in the wrong partition, {partition}"));
            }
            if let Some(before) = places.insert((source, position), (partition, offset)) {
                return Err(format!(
                    "{line:?} is at {before:?}, and again at {partition}@{offset}"
                ));
            }
            if let Some(before) = last.insert((source, partition), position)
                && before >= position
            {
                return Err(format!(
                    "{line:?} comes after {before} in partition {partition}"
                ));
            }
            found.positions.entry(source).or_default().insert(position);
        }
        for (source, told) in &self.sources {
            for (position, place) in &told.stored {
                let there = places.get(&(*source, *position));
                if there.is_none() || place.is_some_and(|place| Some(&place) != there) {
                    let line = Line::at(*source, *position);
                    return Err(format!(
                        "{line:?} was stored at {place:?}, and is at {there:?}"
                    ));
                }
            }
        }
        Ok(found)
    }

    /// As [`Ledger::check`], once everything was sent and answered: every line is there.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check_complete(&self, engine: &Engine) -> Result<Found, String> {
        let found = self.check(engine)?;
        for (source, told) in &self.sources {
            if told.is_named && !found.has_all_below(*source, told.sent) {
                let sent = told.sent;
                return Err(format!("source {source} lacks some of its {sent} lines"));
            }
        }
        Ok(found)
    }
}
