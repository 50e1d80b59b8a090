//! What clients sent, were told and read, and whether that can be true. Knows nothing of the model.

use std::collections::BTreeMap;

use crate::violation::{Violation, violated};

/// What a client knows of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Sent,
    /// In which log, where, and whether nothing may take it away any more.
    Acked(usize, u64, bool),
    NotWritten,
}

/// The records of all clients.
#[derive(Debug, Default)]
pub(crate) struct History {
    fates: BTreeMap<u64, Fate>,
    /// Unknown producers are taken as Kafka takes them and silent ones are forgotten, so what comes
    /// late may be there twice.
    may_double: bool,
}

impl History {
    pub(crate) fn new(may_double: bool) -> History {
        History {
            may_double,
            ..History::default()
        }
    }

    pub(crate) fn sent(&mut self, content: u64) {
        self.fates.entry(content).or_insert(Fate::Sent);
    }

    /// A client was told that its record is at an offset of a log.
    pub(crate) fn acked(
        &mut self,
        content: u64,
        log: usize,
        offset: u64,
        durably: bool,
    ) -> Result<(), Violation> {
        match self.fates.get(&content) {
            Some(&Fate::Acked(old_log, old, was_durable))
                if was_durable && (old_log, old) != (log, offset) && !self.may_double =>
            {
                violated(
                    "I5",
                    format!("record {content:x} was acked at {old}, now at {offset}"),
                )
            }
            Some(Fate::NotWritten) => violated(
                "I6",
                format!("record {content:x} was refused for good, now it is at {offset}"),
            ),
            _ => {
                self.fates
                    .insert(content, Fate::Acked(log, offset, durably));
                Ok(())
            }
        }
    }

    /// A client was told that its record is not in the log and never will be.
    pub(crate) fn not_written(&mut self, content: u64) -> Result<(), Violation> {
        match self.fates.insert(content, Fate::NotWritten) {
            Some(Fate::Acked(_, offset, true)) => violated(
                "I7",
                format!("record {content:x} was acked at {offset}, then called not written"),
            ),
            _ => Ok(()),
        }
    }

    /// Holds all of it against what the logs hold in the end: per log its start, and offset and
    /// content of each record.
    pub(crate) fn check(&self, logs: &[(u64, Vec<(u64, u64)>)]) -> Result<(), Violation> {
        let mut found: BTreeMap<u64, (usize, u64)> = BTreeMap::new();
        for (log, (_, records)) in logs.iter().enumerate() {
            for &(offset, content) in records {
                if let Some(earlier) = found.insert(content, (log, offset))
                    && !self.may_double
                {
                    return violated(
                        "I2",
                        format!(
                            "record {content:x} is there twice: {earlier:?} and {:?}",
                            (log, offset)
                        ),
                    );
                }
                match self.fates.get(&content) {
                    None => {
                        return violated(
                            "I22",
                            format!("nobody sent record {content:x} at {offset}"),
                        );
                    }
                    Some(Fate::NotWritten) => {
                        return violated(
                            "I6",
                            format!(
                                "record {content:x} is at {offset}, which was called not written"
                            ),
                        );
                    }
                    Some(_) => {}
                }
            }
        }
        for (content, fate) in &self.fates {
            if let Fate::Acked(log, offset, true) = fate {
                let start = logs.get(*log).map_or(0, |(start, _)| *start);
                let is_there = match found.get(content) {
                    Some(place) => self.may_double || *place == (*log, *offset),
                    None => false,
                };
                if *offset >= start && !is_there {
                    return violated(
                        "I1",
                        format!(
                            "record {content:x} was acked at {offset} of log {log} and is not there"
                        ),
                    );
                }
            }
        }
        Ok(())
    }
}
