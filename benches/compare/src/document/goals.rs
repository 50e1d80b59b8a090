//! What oncelog set out to reach, beside what this run found.

use std::fmt::Write as _;

use super::numbers::digits;
use super::view::{Metric, View, crc, p50, p99, p999, rate, raw, read_rate, used};
use crate::peers::Peer;
use crate::workload::Cell;

/// One line: what, the limit, whether more is better, what was found.
struct Goal {
    what: String,
    limit: f64,
    more: bool,
    found: Option<f64>,
}

/// A goal that is to be reached or exceeded.
fn at_least(what: String, limit: f64, found: Option<f64>) -> Goal {
    Goal {
        what,
        limit,
        more: true,
        found,
    }
}

/// A goal that must not be exceeded.
fn at_most(what: String, limit: f64, found: Option<f64>) -> Goal {
    Goal {
        more: false,
        ..at_least(what, limit, found)
    }
}

/// The table.
pub(super) fn section(text: &mut String, view: &View<'_>) -> anyhow::Result<()> {
    text.push_str("## Goals\n\n| | wanted | found | |\n| --- | ---: | ---: | --- |\n");
    for goal in memory(view)
        .into_iter()
        .chain(synced(view))
        .chain(files(view))
    {
        let limit = digits(goal.limit);
        let sign = if goal.more { "≥" } else { "≤" };
        let (found, verdict) = match goal.found {
            Some(found) if (found >= goal.limit) == goal.more || found == goal.limit => {
                (digits(found), "reached")
            }
            Some(found) => (digits(found), "**missed**"),
            None => ("–".to_owned(), "not measured"),
        };
        writeln!(
            text,
            "| {} | {sign} {limit} | {found} | {verdict} |",
            goal.what
        )?;
    }
    text.push('\n');
    Ok(())
}

fn cell(synced: bool, callers: u32, records: usize, size: usize) -> Cell {
    Cell {
        synced,
        callers,
        size,
        records,
    }
}

/// One median by another.
fn ratio(view: &View<'_>, of: (&Cell, Peer, Metric), by: (&Cell, Peer, Metric)) -> Option<f64> {
    Some(view.median(of.0, of.1, of.2)? / view.median(by.0, by.1, by.2)?)
}

fn memory(view: &View<'_>) -> Vec<Goal> {
    let mut goals = Vec::new();
    let shapes = [
        (1, 100, 4.0, Some(12.0)),
        (100, 100, 1.5, Some(15.0)),
        (1, 1_024, 3.0, None),
        (100, 1_024, 1.3, None),
    ];
    for (records, size, best, dedup) in shapes {
        let cell = cell(false, 1, records, size);
        let shape = cell.shape();
        let ours = view.median(&cell, Peer::Oncelog, rate);
        let against = |found: Option<(Peer, f64)>| {
            let found = found?;
            Some((found.0.label(), ours? / found.1))
        };
        let other = against(view.best(&cell, rate, Peer::is_other));
        let name = other.map_or(String::new(), |(name, _)| format!(", {name}"));
        let what = format!("memory, {shape}: times the best peer{name}");
        goals.push(at_least(what, best, other.map(|(_, times)| times)));
        if let Some(dedup) = dedup {
            let finds = |peer: Peer| peer.is_other() && peer.deduplicates();
            let other = against(view.best(&cell, rate, finds));
            let name = other.map_or(String::new(), |(name, _)| format!(", {name}"));
            let what = format!("memory, {shape}: times the best that finds repeats{name}");
            goals.push(at_least(what, dedup, other.map(|(_, times)| times)));
        }
    }
    let hundred = cell(false, 1, 100, 100);
    let unchecked = (&hundred, Peer::OncelogUnchecked, rate as Metric);
    let cost = ratio(view, unchecked, (&hundred, Peer::Oncelog, rate));
    let what = "memory, 100 x 100 B: what the check costs, percent".to_owned();
    goals.push(at_most(what, 5.0, cost.map(|times| (times - 1.0) * 100.0)));
    let single = cell(false, 1, 1, 100);
    let ns = |peer| view.median(&single, peer, rate).map(|rate| 1e9 / rate);
    let cost = { ns(Peer::Oncelog) }.zip(ns(Peer::OncelogUnchecked));
    let what = "memory, 1 x 100 B: what the check costs, ns".to_owned();
    goals.push(at_most(
        what,
        20.0,
        cost.map(|(with, without)| with - without),
    ));
    for (name, metric) in [("p50", p50 as Metric), ("p99", p99), ("p99.9", p999)] {
        for peer in [Peer::Walrus, Peer::Commitlog] {
            let found = ratio(
                view,
                (&single, Peer::Oncelog, metric),
                (&single, peer, metric),
            );
            let what = format!("memory, 1 x 100 B: {name} by that of {}", peer.label());
            goals.push(at_most(what, 1.0, found));
        }
        let bare = (&single, Peer::BareCopy, metric);
        let found = ratio(view, (&single, Peer::Oncelog, metric), bare);
        let what = format!("memory, 1 x 100 B: {name} by that of a bare copy");
        goals.push(at_most(what, 3.0, found));
    }
    let found = view.median(&hundred, Peer::Oncelog, p999);
    goals.push(at_most(
        "memory, 100 x 100 B: p99.9, us".to_owned(),
        50.0,
        found,
    ));
    goals
}

fn synced(view: &View<'_>) -> Vec<Goal> {
    let one = cell(true, 1, 1, 100);
    let ours = |cell| (cell, Peer::Oncelog, rate as Metric);
    let bare = |metric: Metric| (&one, Peer::BareSync, metric);
    let found = ratio(view, (&one, Peer::Oncelog, p50), bare(p50));
    let what = "synced, 1 x 100 B: p50 by that of a bare write and fdatasync".to_owned();
    let mut goals = vec![at_most(what, 1.15, found)];
    let hundred = cell(true, 1, 100, 100);
    let found = ratio(view, ours(&hundred), (&hundred, Peer::Okaywal, rate));
    goals.push(at_least(
        "synced, 100 x 100 B: times okaywal".to_owned(),
        1.0,
        found,
    ));
    let sixteen = cell(true, 16, 1, 100);
    let what = "synced, 16 callers: times one caller".to_owned();
    goals.push(at_least(
        what,
        0.7 * 16.0,
        ratio(view, ours(&sixteen), ours(&one)),
    ));
    let many = cell(true, 256, 1, 100);
    let found = ratio(view, ours(&many), bare(rate));
    goals.push(at_least(
        "synced, 256 callers: times a loop of bare syncs".to_owned(),
        20.0,
        found,
    ));
    for (callers, cell) in [(16, &sixteen), (256, &many)] {
        let found = ratio(view, (cell, Peer::Oncelog, p99), bare(p99));
        let what = format!("synced, {callers} callers: p99 by that of a bare sync");
        goals.push(at_most(what, 2.5, found));
    }
    goals
}

fn files(view: &View<'_>) -> Vec<Goal> {
    let mut goals = Vec::new();
    let hundred = cell(false, 1, 100, 100);
    let at = |peer, metric: Metric| (&hundred, peer, metric);
    let found = ratio(view, at(Peer::Oncelog, raw), at(Peer::Oncelog, crc));
    let what = "batches of 100 x 100 B read, percent of a bare CRC-32C pass".to_owned();
    goals.push(at_least(what, 80.0, found.map(|part| part * 100.0)));
    for (peer, limit) in [
        (Peer::Commitlog, 1.5),
        (Peer::Fjall, 6.0),
        (Peer::Rocksdb, 6.0),
    ] {
        let found = ratio(view, at(Peer::Oncelog, read_rate), at(peer, read_rate));
        let what = format!("records of 100 x 100 B read: times {}", peer.label());
        goals.push(at_least(what, limit, found));
    }
    for (records, limit) in [(100, 112.0), (1, 172.0)] {
        let cell = cell(false, 1, records, 100);
        let what = format!("bytes on disk for a record of {}", cell.shape());
        goals.push(at_most(
            what,
            limit,
            view.median(&cell, Peer::Oncelog, used),
        ));
    }
    goals
}
