//! The pictures, each made of the same numbers as the tables.

use super::numbers::count;
use super::view::{View, p50, p99, p999, rate, slowest};
use crate::peers::Peer;
use crate::svg::{Anchor, Svg};
use crate::workload::Cell;

pub(super) const MEMORY: &str = "append-memory.svg";
pub(super) const SYNCED: &str = "append-synced.svg";
pub(super) const LATENCY: &str = "append-latency.svg";
pub(super) const CALLERS: &str = "callers.svg";

/// A file below `docs/images`.
pub(super) struct Picture {
    pub(super) file: &'static str,
    pub(super) title: String,
    pub(super) svg: String,
}

const WIDTH: f64 = 980.0;
const ROW: f64 = 20.0;
const TOP: f64 = 92.0;

/// Those that there are numbers for.
pub(super) fn all(view: &View<'_>) -> Vec<Picture> {
    let memory = "Records appended in a second, in memory";
    let synced = "Records appended in a second, a sync with each call";
    let pictures = [
        bars(view, MEMORY, memory, |cell| !cell.synced),
        bars(view, SYNCED, synced, |cell| {
            cell.synced && cell.callers == 1
        }),
        latency(view),
        callers(view),
    ];
    pictures.into_iter().flatten().collect()
}

fn class(peer: Peer) -> &'static str {
    match peer {
        Peer::Oncelog | Peer::OncelogUnchecked => "ours",
        _ if peer.is_machine() => "machine",
        _ if peer.deduplicates() => "dedup",
        _ => "other",
    }
}

/// Who is in a picture of these cells, in the order of the tables.
fn peers(view: &View<'_>, cells: &[Cell]) -> Vec<Peer> {
    let mut peers = view.peers();
    peers.retain(|peer| cells.iter().any(|c| view.get(c, *peer, rate).is_some()));
    peers
}

fn float(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}

/// Two panels in a row, one for each cell: a bar for each peer, from min to max a line. The machine
/// alone would make all bars short, and has none here.
fn bars(
    view: &View<'_>,
    file: &'static str,
    title: &str,
    wanted: impl Fn(&Cell) -> bool,
) -> Option<Picture> {
    let cells = view.cells(wanted);
    let mut peers = peers(view, &cells);
    peers.retain(|peer| !peer.is_machine());
    if peers.is_empty() {
        return None;
    }
    let panel = 50.0 + ROW * float(peers.len());
    let height = TOP + panel * float(cells.len().div_ceil(2));
    let note = "medians, and from the smallest to the largest round; blue: oncelog, violet: finds repeats, grey: does not";
    let mut svg = Svg::new((WIDTH, height), title, note);
    for (at, cell) in cells.iter().enumerate() {
        let left = if at % 2 == 0 { 24.0 } else { 504.0 };
        let top = TOP + panel * float(at / 2);
        svg.text((left, top), "head", Anchor::Start, &cell.shape());
        let all = peers.iter().filter_map(|peer| view.get(cell, *peer, rate));
        let largest = all.map(|all| all.max()).fold(1.0, f64::max);
        let scale = 230.0 / largest;
        for (row, peer) in peers.iter().enumerate() {
            let y = top + 12.0 + ROW * float(row);
            svg.text((left + 120.0, y + 12.0), "label", Anchor::End, peer.label());
            let start = left + 130.0;
            let Some(rates) = view.get(cell, *peer, rate) else {
                svg.text((start, y + 12.0), "muted", Anchor::Start, "–");
                continue;
            };
            let end = start + rates.median() * scale;
            svg.bar((start, y + 2.0), (end - start, ROW - 7.0), class(*peer));
            let (low, high) = (start + rates.min() * scale, start + rates.max() * scale);
            svg.line(&[(low, y + 8.5), (high, y + 8.5)], "range");
            let x = end.max(high) + 6.0;
            svg.text(
                (x, y + 12.0),
                "muted",
                Anchor::Start,
                &count(rates.median()),
            );
        }
    }
    Some(Picture {
        file,
        title: title.to_owned(),
        svg: svg.finish(),
    })
}

/// A place on a scale of powers of ten.
struct Powers {
    from: f64,
    left: f64,
    per_power: f64,
}

impl Powers {
    fn new((from, to): (f64, f64), (left, right): (f64, f64)) -> Powers {
        let (from, to) = (from.log10().floor(), to.log10().ceil());
        Powers {
            from,
            left,
            per_power: (right - left) / (to - from).max(1.0),
        }
    }

    fn at(&self, number: f64) -> f64 {
        self.left + (number.log10() - self.from) * self.per_power
    }

    fn ticks(&self, right: f64) -> impl Iterator<Item = (f64, f64)> {
        let powers = (0..12).map(|power| 10_f64.powf(self.from + f64::from(power)));
        let places = powers.map(|number| (number, self.at(number)));
        let (low, high) = (self.left.min(right) - 0.5, self.left.max(right) + 0.5);
        places.filter(move |(_, place)| (low..=high).contains(place))
    }
}

/// p50, p99, p99.9 and the slowest call of the cells in memory of 100 bytes.
fn latency(view: &View<'_>) -> Option<Picture> {
    let cells = view.cells(|cell| !cell.synced && cell.size == 100);
    let peers = peers(view, &cells);
    let title = "How long one call takes, in memory";
    let quantiles = [p50, p99, p999, slowest];
    let all = cells.iter().flat_map(|c| peers.iter().map(move |p| (c, p)));
    let all = all.flat_map(|(c, p)| quantiles.map(|q| view.get(c, *p, q).map(|n| n.max())));
    let largest = all.flatten().fold(1.0, f64::max);
    if peers.is_empty() {
        return None;
    }
    let panel = 60.0 + ROW * float(peers.len());
    let height = TOP + panel * float(cells.len());
    let note = "microseconds, powers of ten; dots: p50, p99, p99.9 and the slowest call of all rounds; ochre: a bare copy";
    let mut svg = Svg::new((WIDTH, height), title, note);
    let (left, right) = (170.0, WIDTH - 30.0);
    let scale = Powers::new((0.01, largest), (left, right));
    for (at, cell) in cells.iter().enumerate() {
        let top = TOP + panel * float(at);
        svg.text((24.0, top), "head", Anchor::Start, &cell.shape());
        let bottom = top + 12.0 + ROW * float(peers.len());
        for (number, x) in scale.ticks(right) {
            svg.line(&[(x, top + 8.0), (x, bottom)], "axis");
            let number = if number < 1.0 {
                number.to_string()
            } else {
                format!("{number:.0}")
            };
            svg.text((x + 3.0, bottom + 14.0), "muted", Anchor::End, &number);
        }
        for (row, peer) in peers.iter().enumerate() {
            let y = top + 22.0 + ROW * float(row);
            svg.text((left - 10.0, y + 4.0), "label", Anchor::End, peer.label());
            let points = quantiles[..3]
                .iter()
                .filter_map(|q| view.median(cell, *peer, *q));
            let longest = view.get(cell, *peer, slowest).map(|all| all.max());
            let points = points.chain(longest).map(|us| (scale.at(us.max(0.01)), y));
            let points: Vec<_> = points.collect();
            if points.is_empty() {
                continue;
            }
            svg.line(&points, &format!("line {}", class(*peer)));
            for (dot, radius) in points.iter().zip([5.0, 4.0, 3.0, 2.0]) {
                svg.dot(*dot, radius, class(*peer));
            }
        }
    }
    Some(Picture {
        file: LATENCY,
        title: title.to_owned(),
        svg: svg.finish(),
    })
}

/// Records a second of 1, 16 and 256 callers.
fn callers(view: &View<'_>) -> Option<Picture> {
    let cells = view.cells(|c| c.synced && c.records == 1 && c.size == 100);
    let mut peers = peers(view, &cells);
    peers.retain(|peer| {
        cells
            .iter()
            .filter(|c| view.get(c, *peer, rate).is_some())
            .count()
            > 1
    });
    let rates = cells
        .iter()
        .flat_map(|c| peers.iter().map(move |p| view.median(c, *p, rate)));
    let rates: Vec<f64> = rates.flatten().collect();
    let largest = rates.iter().copied().fold(0.0, f64::max);
    let smallest = rates.iter().copied().fold(largest, f64::min);
    if rates.is_empty() {
        return None;
    }
    let title = "Callers that share syncs, 1 x 100 B";
    let note =
        "records a second by the number of callers, powers of ten on both sides; blue: oncelog";
    let mut svg = Svg::new((WIDTH, 480.0), title, note);
    let (left, right, top, bottom) = (80.0, 760.0, 80.0, 440.0);
    let across = Powers::new((1.0, 999.0), (left, right));
    let up = Powers::new((smallest, largest), (bottom, top));
    for (number, y) in up.ticks(top) {
        svg.line(&[(left, y), (right, y)], "axis");
        svg.text((left - 8.0, y + 4.0), "muted", Anchor::End, &count(number));
    }
    let mut names: Vec<(f64, f64, String)> = Vec::new();
    for peer in &peers {
        let found = cells.iter().filter_map(|cell| {
            let rate = view.median(cell, *peer, rate)?;
            Some((across.at(f64::from(cell.callers)), up.at(rate), rate))
        });
        let found: Vec<_> = found.collect();
        let points: Vec<_> = found.iter().map(|(x, y, _)| (*x, *y)).collect();
        svg.line(&points, &format!("line {}", class(*peer)));
        for point in &points {
            svg.dot(*point, 4.0, class(*peer));
        }
        if let Some((x, y, rate)) = found.last() {
            let name = format!("{}, {}", peer.label(), count(*rate));
            names.push((*x, *y, name));
        }
    }
    for cell in &cells {
        let x = across.at(f64::from(cell.callers));
        svg.text(
            (x + 4.0, bottom + 18.0),
            "muted",
            Anchor::End,
            &cell.callers.to_string(),
        );
    }
    // Names keep clear of each other.
    names.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut free = top - 20.0;
    for (x, y, name) in names {
        let y = y.max(free);
        svg.text((x + 12.0, y + 4.0), "label", Anchor::Start, &name);
        free = y + 15.0;
    }
    Some(Picture {
        file: CALLERS,
        title: title.to_owned(),
        svg: svg.finish(),
    })
}
