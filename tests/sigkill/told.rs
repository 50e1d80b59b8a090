//! What the killed processes said: all that is believed.

use std::collections::{BTreeMap, BTreeSet};

use harness::history::{BatchName, History, Loss};
use harness::ledger::{Ledger, Line};
use oncelog::Engine;

use crate::writer::SESSIONS;

/// What all processes on one directory said.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) history: History,
    ledger: Ledger,
    ids: BTreeSet<i64>,
    /// Lines below are stored, so one process was told.
    resumes: u64,
    pub(crate) stored: usize,
    /// Records that readers were given while the processes ran.
    pub(crate) read: usize,
    /// Calls that the last opening made to its disk.
    pub(crate) opening_calls: u64,
}

impl Told {
    /// Takes note of what one process said. Its last line may be cut.
    pub(crate) fn note(&mut self, lines: &[String]) {
        for (n, line) in lines.iter().enumerate() {
            let is_last = n + 1 == lines.len();
            if !self.note_line(line) && !is_last {
                panic!("the writer said {line:?}");
            }
        }
    }

    fn note_line(&mut self, line: &str) -> bool {
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default();
        let numbers: Vec<i64> = words.map_while(|w| w.parse().ok()).collect();
        let unsigned = |n: usize| u64::try_from(numbers[n]).unwrap();
        let partition = |n: usize| u32::try_from(numbers[n]).unwrap();
        let sequence = |n: usize| i32::try_from(numbers[n]).unwrap();
        let batch = || BatchName {
            producer_id: numbers[0],
            partition: partition(1),
            sequence: sequence(2),
        };
        match (kind, numbers.len()) {
            ("opened" | "opening" | "idle", 0) => {}
            ("calls", 1) => self.opening_calls = unsigned(0),
            ("id", 1) => assert!(self.ids.insert(numbers[0]), "id {} again (I15)", numbers[0]),
            ("sent", 3) => self.history.sent(batch()),
            ("answered", 4) => self.history.answered(batch(), unsigned(3)),
            ("read", 4) => {
                let record = (numbers[2], sequence(3));
                self.history.read(partition(0), unsigned(1), record);
                self.read += 1;
            }
            ("resumes", 1) => self.resumes = self.resumes.max(unsigned(0)),
            ("line", 1) => self.ledger.sent(&Line::at(0, unsigned(0)), true),
            ("stored", 3) => {
                let offset = u64::try_from(numbers[2]).ok();
                let line = Line::at(0, unsigned(0));
                let outcome = self.ledger.stored_at(&line, partition(1), offset);
                outcome.unwrap_or_else(|violation| panic!("{violation}"));
                self.stored += 1;
            }
            _ => return false,
        }
        true
    }

    /// Holds an engine against it. Returns how many records there are.
    pub(crate) fn check(&mut self, allowed: Loss, engine: &Engine, what: &str) -> usize {
        let mut count = 0;
        if engine.topic(SESSIONS).is_ok() {
            count += self.history.check_after(allowed, engine, SESSIONS, what);
        } else {
            assert_eq!(self.history.answers(), 0, "{what}: the topic is gone");
        }
        if engine.topic(harness::ledger::TOPIC).is_ok() {
            let found = self.ledger.check(engine);
            let found = found.unwrap_or_else(|violation| panic!("{what}: {violation}"));
            let from = self.resumes;
            assert!(
                found.has_all_below(0, from),
                "{what}: resumed from {from}, and lines below it are missing"
            );
            count += found.len();
        } else {
            assert_eq!(self.stored, 0, "{what}: the topic is gone");
        }
        count
    }

    /// Appends the last batches again that were sent and not answered: each is there already, or
    /// is taken now, and the log agrees with itself about which (I7). Returns how many.
    pub(crate) fn resolve(&mut self, engine: &Engine) -> usize {
        let Ok(topic) = engine.topic(SESSIONS) else {
            return 0;
        };
        let mut open: BTreeMap<(i64, u32), Vec<BatchName>> = BTreeMap::new();
        for (batch, answered) in &self.history.batches {
            let lane = open
                .entry((batch.producer_id, batch.partition))
                .or_default();
            match answered {
                Some(_) => lane.clear(),
                None => lane.push(*batch),
            }
        }
        let mut resolved = 0;
        for batch in open.into_values().flatten() {
            let partition = topic.partition(batch.partition).unwrap();
            let at = partition.blocking_append(&batch.bytes()).unwrap();
            self.history.answered(batch, at.offset);
            resolved += 1;
        }
        resolved
    }
}
