//! The numbers of a run, by cell and peer.

use crate::peers::Peer;
use crate::results::{Measured, Results};
use crate::summary::Summary;
use crate::workload::Cell;

/// Something that each turn gave one number for.
pub(crate) type Metric = fn(&Measured) -> Option<f64>;

/// The measured turns, to be asked.
pub(crate) struct View<'a>(pub(crate) &'a Results);

impl View<'_> {
    /// The cells that somebody was measured in.
    pub(crate) fn cells(&self, wanted: impl Fn(&Cell) -> bool) -> Vec<Cell> {
        let mut cells = Cell::all();
        cells.retain(|cell| wanted(cell) && self.0.measured.iter().any(|m| m.cell == *cell));
        cells
    }

    /// Everybody who was measured anywhere.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        let mut peers: Vec<Peer> = self.0.measured.iter().map(|m| m.peer).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// All rounds of one number, if there is one.
    pub(crate) fn get(&self, cell: &Cell, peer: Peer, metric: Metric) -> Option<Summary> {
        let turns = self.turns(cell, peer);
        let numbers: Vec<f64> = turns.filter_map(metric).collect();
        (!numbers.is_empty()).then(|| Summary::of(numbers))
    }

    pub(crate) fn median(&self, cell: &Cell, peer: Peer, metric: Metric) -> Option<f64> {
        self.get(cell, peer, metric).map(|all| all.median())
    }

    /// Of those wanted, who has the largest median, and that.
    pub(crate) fn best(
        &self,
        cell: &Cell,
        metric: Metric,
        wanted: impl Fn(Peer) -> bool,
    ) -> Option<(Peer, f64)> {
        let peers = self.peers().into_iter().filter(|peer| wanted(*peer));
        let all = peers.filter_map(|peer| Some((peer, self.median(cell, peer, metric)?)));
        all.max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// What went wrong, if anything did.
    pub(crate) fn error(&self, cell: &Cell, peer: Peer) -> Option<&str> {
        self.turns(cell, peer).find_map(|m| m.error.as_deref())
    }

    fn turns(&self, cell: &Cell, peer: Peer) -> impl Iterator<Item = &Measured> {
        let (cell, all) = (*cell, self.0.measured.iter());
        all.filter(move |m| m.cell == cell && m.peer == peer)
    }
}

/// Records a second.
pub(crate) fn rate(m: &Measured) -> Option<f64> {
    m.written.as_ref().map(|w| w.rate)
}

pub(crate) fn p50(m: &Measured) -> Option<f64> {
    m.written.as_ref().map(|w| us(w.latency.p50))
}

pub(crate) fn p99(m: &Measured) -> Option<f64> {
    m.written.as_ref().map(|w| us(w.latency.p99))
}

pub(crate) fn p999(m: &Measured) -> Option<f64> {
    m.written.as_ref().map(|w| us(w.latency.p999))
}

pub(crate) fn slowest(m: &Measured) -> Option<f64> {
    m.written.as_ref().map(|w| us(w.latency.max))
}

pub(crate) fn open_ms(m: &Measured) -> Option<f64> {
    m.read.map(|read| read.open_ms)
}

pub(crate) fn read_rate(m: &Measured) -> Option<f64> {
    m.read.map(|read| read.rate)
}

pub(crate) fn raw(m: &Measured) -> Option<f64> {
    m.read?.raw
}

pub(crate) fn crc(m: &Measured) -> Option<f64> {
    m.read?.crc
}

pub(crate) fn used(m: &Measured) -> Option<f64> {
    per_record(m, m.disk?.used)
}

pub(crate) fn allocated(m: &Measured) -> Option<f64> {
    per_record(m, m.disk?.allocated)
}

pub(crate) fn apparent(m: &Measured) -> Option<f64> {
    per_record(m, m.disk?.apparent)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn per_record(m: &Measured, bytes: u64) -> Option<f64> {
    let calls: u64 = m.written.as_ref()?.calls.iter().sum();
    Some(bytes as f64 / (calls * m.cell.records as u64) as f64)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}
