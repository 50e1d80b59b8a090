//! `why`: what an append would be answered, and by which rule, without appending.

use oncelog::{Decision, Explanation, Partition, ProducerIdentity, WindowEntry};
use serde_json::json;

use crate::args::{Common, Why};
use crate::cmd::open_to_read;
use crate::output::{Out, counted};

pub(crate) fn run(args: &Why, common: &Common) -> anyhow::Result<()> {
    let engine = open_to_read(common.data())?;
    let partition = engine.topic(&args.topic)?.partition(args.partition)?;
    let (count, told) = explain(args, &partition)?;
    let mut out = Out::new();
    if common.json {
        let window = told.window.iter().map(|batch| {
            json!({
                "first_sequence": batch.first_sequence,
                "last_sequence": batch.last_sequence,
                "base_offset": batch.base_offset,
                "count": batch.count,
            })
        });
        out.json(&json!({
            "topic": args.topic,
            "partition": args.partition,
            "producer_id": args.producer_id,
            "epoch": args.epoch,
            "sequence": args.sequence,
            "count": count,
            "decision": told.decision.name(),
            "offset": told.offset,
            "rule": told.rule,
            "expected_sequence": told.expected_sequence,
            "current_epoch": told.epoch,
            "window": window.collect::<Vec<_>>(),
        }))?;
    } else {
        for line in text(args, count, &told) {
            out.line(&line)?;
        }
    }
    out.flush()
}

/// Asks with the number of records given, or with that of the batch that begins there.
fn explain(args: &Why, partition: &Partition) -> anyhow::Result<(u32, Explanation)> {
    let identity = ProducerIdentity {
        producer_id: args.producer_id,
        producer_epoch: args.epoch,
        base_sequence: args.sequence,
    };
    if let Some(count) = args.count {
        return Ok((count, partition.explain(identity, count)?));
    }
    let told = partition.explain(identity, 1)?;
    let begins = |batch: &&WindowEntry| batch.first_sequence == args.sequence;
    match told.window.iter().find(begins).map(|batch| batch.count) {
        Some(count) if count != 1 => Ok((count, partition.explain(identity, count)?)),
        _ => Ok((1, told)),
    }
}

fn text(args: &Why, count: u32, told: &Explanation) -> Vec<String> {
    let offset = told.offset.unwrap_or(0);
    let answer = match (&told.rejection, told.decision) {
        (Some(rejection), _) => format!("refused: {rejection}"),
        (None, Decision::Duplicate) => format!("in the log already, at offset {offset}"),
        (None, _) => format!("would be appended, at offset {offset}"),
    };
    let last = last_sequence(args.sequence, count);
    let expected = match told.expected_sequence {
        Some(sequence) => format!("; the next sequence expected is {sequence}"),
        None => String::new(),
    };
    let mut lines = vec![
        format!("{} ({}): {answer}", told.decision.name(), told.rule),
        format!(
            "asked: producer {}, epoch {}, sequences {} to {last} ({}), to {}-{}",
            args.producer_id,
            args.epoch,
            args.sequence,
            counted(count.into(), "record"),
            args.topic,
            args.partition
        ),
    ];
    match told.epoch {
        None if args.producer_id < 0 => {
            lines.push("an id below 0 is nobody's: such a batch is appended each time".to_owned());
        }
        None => lines.push(format!("producer {} is not known here", args.producer_id)),
        Some(epoch) => lines.push(format!(
            "known: epoch {epoch}, {} in the window{expected}",
            counted(u64::try_from(told.window.len()).unwrap_or(0), "batch")
        )),
    }
    let asked = (args.sequence, last);
    // Of another epoch the sequences say nothing about where this batch lies.
    let is_here = told.epoch.is_none_or(|epoch| epoch == args.epoch);
    lines.extend(strip(&told.window, is_here.then_some(asked)));
    lines
}

/// Sequences wrap from 2^31 - 1 to 0.
fn last_sequence(first: i32, count: u32) -> i32 {
    let last = i64::from(first) + i64::from(count) - 1;
    i32::try_from(last & i64::from(i32::MAX)).unwrap_or(first)
}

/// Batches of the window that a strip shows, the newest.
const SHOWN: usize = 8;

/// The window on a line, the oldest batch left, with what was asked for marked below it:
///
/// ```text
/// … [10..14] [15..19] [20..24] ->
///            ^^^^^^^^ asked
/// ```
fn strip(window: &[WindowEntry], asked: Option<(i32, i32)>) -> Vec<String> {
    let Some(newest) = window.last() else {
        return Vec::new();
    };
    // How far a sequence lies before the newest batch's end, modulo 2^31.
    let end = newest.last_sequence;
    let behind = |sequence: i32| (i64::from(end) - i64::from(sequence)) & i64::from(i32::MAX);
    let hidden = window.len().saturating_sub(SHOWN);
    let shown = window.get(hidden..).unwrap_or_default();
    let mut line = String::from(if hidden > 0 { "… " } else { "" });
    let mut marks = " ".repeat(line.chars().count());
    let is_ahead = |first: i32| behind(first) > i64::from(i32::MAX / 2);
    let mut is_marked = false;
    for batch in shown {
        let cell = format!("[{}..{}]", batch.first_sequence, batch.last_sequence);
        let touches = asked.is_some_and(|(first, last)| {
            let begins_in_time = is_ahead(last) || behind(last) <= behind(batch.first_sequence);
            !is_ahead(first) && behind(first) >= behind(batch.last_sequence) && begins_in_time
        });
        is_marked |= touches;
        marks.push_str(&if touches { "^" } else { " " }.repeat(cell.len()));
        marks.push(' ');
        line.push_str(&cell);
        line.push(' ');
    }
    line.push_str("->");
    let Some((first, _)) = asked else {
        return vec![line];
    };
    if is_marked {
        marks.truncate(marks.trim_end().len());
        marks.push_str(" asked");
        return vec![line, marks];
    }
    if is_ahead(first) {
        return vec![line, format!("{marks}^^ asked")];
    }
    vec![line, "^ asked, before all of these".to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(batches: &[(i32, i32)]) -> Vec<WindowEntry> {
        let entry = |&(first_sequence, last_sequence): &(i32, i32)| WindowEntry {
            first_sequence,
            last_sequence,
            base_offset: 0,
            count: 0,
            fingerprint: 0,
        };
        batches.iter().map(entry).collect()
    }

    #[test]
    fn the_strip_marks_what_was_asked_for() {
        let batches = window(&[(10, 14), (15, 19), (20, 24)]);
        for (asked, marks) in [
            ((15, 19), "         ^^^^^^^^ asked"),
            ((12, 16), "^^^^^^^^ ^^^^^^^^ asked"),
            ((20, 29), "                  ^^^^^^^^ asked"),
            ((25, 29), "                           ^^ asked"),
            ((90, 99), "                           ^^ asked"),
            ((3, 7), "^ asked, before all of these"),
        ] {
            let strip = strip(&batches, Some(asked));
            assert_eq!(strip, ["[10..14] [15..19] [20..24] ->", marks], "{asked:?}");
        }
        assert_eq!(strip(&batches, None).len(), 1);
        assert_eq!(strip(&[], Some((0, 0))).len(), 0);
    }

    #[test]
    fn it_goes_over_the_wrap_and_shows_the_newest_of_many() {
        let over = window(&[(i32::MAX - 4, i32::MAX), (0, 4)]);
        let marked = strip(&over, Some((0, 4)));
        assert_eq!(marked[0], "[2147483643..2147483647] [0..4] ->");
        assert_eq!(marked[1], format!("{}^^^^^^ asked", " ".repeat(25)));
        let many: Vec<(i32, i32)> = (0..20).map(|n| (n, n)).collect();
        let strip = strip(&window(&many), Some((13, 13)));
        assert!(strip[0].starts_with("… [12..12] [13..13]"), "{strip:?}");
        assert_eq!(strip[1], "           ^^^^^^^^ asked");
        assert_eq!(last_sequence(i32::MAX, 2), 0);
    }
}
