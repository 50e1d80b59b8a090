//! The tables: one for each cell, and one of reading, reopening and bytes.

use std::fmt::Write as _;

use super::numbers::{count, digits};
use super::view::{
    View, allocated, apparent, open_ms, p50, p99, p999, rate, read_rate, slowest, used,
};
use crate::peers::Peer;
use crate::workload::Cell;

const APPENDS: &str = "\
| | records/s | min – max | oncelog / it | p50 us | p99 | p99.9 | max |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
";

const READS: &str = "\
| | read, records/s | min – max | reopen, ms | min – max | bytes a record: used | allocated | apparent |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
";

/// A table for each cell that is wanted.
pub(super) fn appends(
    text: &mut String,
    view: &View<'_>,
    wanted: impl Fn(&Cell) -> bool,
) -> anyhow::Result<()> {
    for cell in view.cells(wanted) {
        let mut title = cell.shape();
        if cell.callers > 1 {
            title = format!("{} callers, {title}", cell.callers);
        }
        writeln!(text, "### {title}\n\n{}", APPENDS.trim_end())?;
        let ours = view.median(&cell, Peer::Oncelog, rate);
        for peer in view.peers() {
            let label = peer.label();
            let Some(rates) = view.get(&cell, peer, rate) else {
                let is_bare = peer.is_machine() && peer.cannot(&cell).is_some();
                if !is_bare {
                    let why = peer.cannot(&cell).or_else(|| view.error(&cell, peer));
                    let why = why.unwrap_or("not measured").replace('|', "/");
                    writeln!(text, "| {label} | – | {why} | | | | | |")?;
                }
                continue;
            };
            let ratio = ours.map(|ours| digits(ours / rates.median()));
            let us = |metric| {
                view.median(&cell, peer, metric)
                    .map_or(String::new(), digits)
            };
            let slowest = view.get(&cell, peer, slowest);
            writeln!(
                text,
                "| {label} | {} | {} – {} | {} | {} | {} | {} | {} |",
                count(rates.median()),
                count(rates.min()),
                count(rates.max()),
                ratio.unwrap_or_default(),
                us(p50),
                us(p99),
                us(p999),
                slowest.map_or(String::new(), |all| digits(all.max())),
            )?;
        }
        text.push('\n');
    }
    Ok(())
}

/// What was read of the logs that one caller wrote, a table for each shape.
pub(super) fn reads(text: &mut String, view: &View<'_>) -> anyhow::Result<()> {
    for cell in view.cells(|cell| !cell.synced) {
        writeln!(text, "### Read: {}\n\n{}", cell.shape(), READS.trim_end())?;
        let synced = Cell {
            synced: true,
            ..cell
        };
        for peer in view.peers().into_iter().filter(|peer| !peer.is_machine()) {
            let found = [cell, synced].map(|c| (c, view.get(&c, peer, read_rate)));
            let ([(cell, Some(rates)), ..] | [_, (cell, Some(rates))]) = found else {
                let why = view.error(&cell, peer).unwrap_or("not measured");
                let why = why.replace('|', "/");
                writeln!(text, "| {} | – | {why} | | | | | |", peer.label())?;
                continue;
            };
            let opens = view.get(&cell, peer, open_ms);
            let bytes = |metric| {
                view.median(&cell, peer, metric)
                    .map_or(String::new(), digits)
            };
            writeln!(
                text,
                "| {} | {} | {} – {} | {} | {} | {} | {} | {} |",
                peer.label(),
                count(rates.median()),
                count(rates.min()),
                count(rates.max()),
                opens.as_ref().map_or(String::new(), |o| digits(o.median())),
                opens.map_or(String::new(), |o| format!(
                    "{} – {}",
                    digits(o.min()),
                    digits(o.max())
                )),
                bytes(used),
                bytes(allocated),
                bytes(apparent),
            )?;
        }
        text.push('\n');
    }
    Ok(())
}
