//! The cells where somebody else is better, by name.

use std::fmt::Write as _;

use super::numbers::{count, digits};
use super::view::{Metric, View, open_ms, p50, p99, p999, rate, read_rate, used};
use crate::peers::Peer;
use crate::workload::Cell;

/// A name, whether more is better, how the number is found and written, and whether it counts where
/// calls sync: few records were written there.
type Figure = (&'static str, bool, Metric, fn(f64) -> String, bool);

/// What is compared.
const FIGURES: [Figure; 7] = [
    ("records/s", true, rate, count, true),
    ("p50, us", false, p50, digits, true),
    ("p99, us", false, p99, digits, true),
    ("p99.9, us", false, p999, digits, false),
    ("read, records/s", true, read_rate, count, false),
    ("reopen, ms", false, open_ms, digits, false),
    ("bytes a record, used", false, used, digits, false),
];

/// Every figure in which the median of another log is better than oncelog's.
pub(super) fn section(text: &mut String, view: &View<'_>) -> anyhow::Result<()> {
    text.push_str("## Where oncelog loses\n\n");
    let mut rows = String::new();
    for cell in view.cells(|_| true) {
        for (name, more, metric, show, with_syncs) in FIGURES {
            if cell.synced && !with_syncs {
                continue;
            }
            let better = better(view, &cell, metric, more);
            let Some((peer, theirs, ours)) = better.first() else {
                continue;
            };
            let others: Vec<&str> = better[1..].iter().map(|(p, ..)| p.label()).collect();
            let times = if more { theirs / ours } else { ours / theirs };
            writeln!(
                rows,
                "| {} | {name} | {} | {} | {} | {} | {} |",
                cell.name(),
                show(*ours),
                peer.label(),
                show(*theirs),
                digits(times),
                others.join("; "),
            )?;
        }
    }
    if rows.is_empty() {
        text.push_str("In no cell of this run.\n\n");
    } else {
        text.push_str("| cell | figure | oncelog | best | its figure | times | better, too |\n");
        text.push_str("| --- | --- | ---: | --- | ---: | ---: | --- |\n");
        writeln!(text, "{rows}")?;
    }
    Ok(())
}

/// Who is better, the best first, with both medians.
fn better(view: &View<'_>, cell: &Cell, metric: Metric, more: bool) -> Vec<(Peer, f64, f64)> {
    let Some(ours) = view.median(cell, Peer::Oncelog, metric) else {
        return Vec::new();
    };
    let others = view.peers().into_iter().filter(|peer| peer.is_other());
    let all = others.filter_map(|peer| Some((peer, view.median(cell, peer, metric)?, ours)));
    let wins = |theirs: f64| if more { theirs > ours } else { theirs < ours };
    let mut all: Vec<_> = all.filter(|(_, theirs, _)| wins(*theirs)).collect();
    all.sort_by(|(_, a, _), (_, b, _)| if more { b.total_cmp(a) } else { a.total_cmp(b) });
    all
}
