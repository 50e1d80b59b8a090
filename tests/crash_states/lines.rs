//! Named producers after a crash.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::ledger::{Ledger, Line};
use oncelog::{Producer, SendError};

use crate::check::Checked;
use crate::facts::Facts;
use crate::machine::Machine;

/// Opens a source's name.
///
/// # Errors
/// When it cannot be had.
pub(crate) fn open_named(
    machine: &Machine,
    source: u64,
    take_over: bool,
) -> Result<Producer, SendError> {
    let producer = machine.engine.producer().name(format!("source {source}"));
    let producer = producer.batch_bytes(200).linger(Duration::ZERO);
    let producer = if take_over {
        producer.take_over()
    } else {
        producer
    };
    producer.open()
}

/// Every line that was answered is there; named producers go on where the log says, and in the end
/// every line is there once.
///
/// # Errors
/// The first thing that is wrong.
pub(crate) fn check_lines(machine: &mut Machine, facts: &Facts) -> Checked {
    if facts.lines_made.is_none() {
        return Ok(());
    }
    let mut ledger = Ledger::default();
    for sent in &facts.lines {
        let line = Line::at(sent.source, sent.position);
        ledger.sent(&line, true);
        if let Some((_, partition, offset)) = sent.answered {
            ledger.stored_at(&line, partition, offset)?;
        }
    }
    let found = ledger.check(&machine.engine)?;
    let sources: BTreeSet<u64> = facts.lines.iter().map(|line| line.source).collect();
    for source in sources {
        let producer = open_named(machine, source, false).map_err(|e| e.to_string())?;
        let from = producer.resume_from();
        if !found.has_all_below(source, from) {
            return Err(format!(
                "source {source} resumes from {from}, and lines below are missing"
            ));
        }
        for position in from.saturating_sub(3)..ledger.sent_of(source) {
            let line = Line::at(source, position);
            let ticket = machine.drive(producer.send(line.record(true)))?;
            let ticket = ticket.map_err(|e| format!("{line:?} is not taken: {e}"))?;
            let stored = machine.drive(ticket.into_future())?;
            stored.map_err(|e| format!("{line:?} is not stored: {e}"))?;
        }
    }
    ledger.check_complete(&machine.engine).map(|_| ())
}
