//! Named kill points: the process kills itself around the n-th call of a kind that it makes to its
//! disk. Nothing of this is in the engine.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use harness::hooked_disk::{Hook, Op};
use rustix::process::{Signal, getpid, kill_process};

/// On which side of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    /// When half of a write was made.
    Within,
    After,
}

/// Which call, of which files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// Of files whose names contain that.
    Of(Op, &'static str),
    /// The published end of a segment moves.
    Publish,
    /// Whatever changes something while the directory is opened.
    WhileOpening,
}

/// What a kill point is.
#[derive(Debug)]
pub(crate) struct Point {
    pub(crate) name: &'static str,
    call: Call,
    side: Side,
    /// The n-th call is drawn from that many.
    pub(crate) calls: u64,
}

const fn at(name: &'static str, op: Op, of: &'static str, side: Side, calls: u64) -> Point {
    let call = Call::Of(op, of);
    Point {
        name,
        call,
        side,
        calls,
    }
}

const fn opening(name: &'static str, side: Side) -> Point {
    let (call, calls) = (Call::WhileOpening, 60);
    Point {
        name,
        call,
        side,
        calls,
    }
}

const fn publish(name: &'static str, side: Side) -> Point {
    let (call, calls) = (Call::Publish, 300);
    Point {
        name,
        call,
        side,
        calls,
    }
}

use Side::{After, Before, Within};

/// While the directory is opened, and recovered if it has to be.
pub(crate) const RECOVERY: [Point; 3] = [
    opening("mid-recovery: before a call", Before),
    opening("mid-recovery: within a write", Within),
    opening("mid-recovery: after a call", After),
];

/// While records are written. A segment that takes records was opened as `next-N.segment`.
pub(crate) const POINTS: [Point; 40] = [
    at("before-put", Op::Write, ".segment", Before, 300),
    at("mid-put", Op::Write, ".segment", Within, 300),
    at("after-put", Op::Write, ".segment", After, 300),
    publish("before-publish", Before),
    publish("after-publish", After),
    at("before-data-sync", Op::Sync, ".segment", Before, 100),
    at("after-data-sync", Op::Sync, ".segment", After, 100),
    at("before-marks-write", Op::Write, "/marks", Before, 100),
    at("mid-marks-write", Op::Write, "/marks", Within, 100),
    at("after-marks-write", Op::Write, "/marks", After, 100),
    at("before-marks-sync", Op::Sync, "/marks", Before, 5),
    at("after-marks-sync", Op::Sync, "/marks", After, 5),
    at("before-segment-create", Op::Create, ".segment", Before, 6),
    at("after-segment-create", Op::Create, ".segment", After, 6),
    at("before-prepare", Op::Prepare, ".segment", Before, 6),
    at("after-prepare", Op::Prepare, ".segment", After, 6),
    at("mid-roll: before-rename", Op::Rename, ".segment", Before, 6),
    at("mid-roll: after-rename", Op::Rename, ".segment", After, 6),
    at("before-dir-sync", Op::SyncNames, "", Before, 25),
    at("after-dir-sync", Op::SyncNames, "", After, 25),
    at("before-cut", Op::Cut, ".segment", Before, 4),
    at("after-cut", Op::Cut, ".segment", After, 4),
    at("mid-footer-write", Op::Write, ".footer", Within, 4),
    at("after-footer-rename", Op::Rename, ".footer", After, 4),
    at("mid-index-write", Op::Write, ".index", Within, 4),
    at("mid-snapshot-write", Op::Write, ".snapshot", Within, 4),
    at("before-snapshot-rename", Op::Rename, ".snapshot", Before, 4),
    at("after-snapshot", Op::Rename, ".snapshot", After, 4),
    at("before-remove", Op::Remove, "", Before, 4),
    at("after-remove", Op::Remove, "", After, 4),
    at("before-ids-write", Op::Write, "producer-ids", Before, 1),
    at("mid-ids-write", Op::Write, "producer-ids", Within, 1),
    at("after-ids-sync", Op::Sync, "producer-ids", After, 1),
    at("mid-names-write", Op::Write, "names", Within, 1),
    at("after-names-rename", Op::Rename, "names", After, 1),
    at("mid-topics-write", Op::Write, "topics", Within, 3),
    at("before-topics-rename", Op::Rename, "topics", Before, 3),
    at("after-topics-rename", Op::Rename, "topics", After, 3),
    at("after-directory", Op::CreateDirectory, "", After, 3),
    at("mid-generation-write", Op::Write, "generation", Within, 1),
];

/// The n-th call of a kind.
#[derive(Debug)]
pub(crate) struct Nth {
    pub(crate) point: &'static Point,
    pub(crate) n: u64,
}

impl fmt::Display for Nth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.n, self.point.name)
    }
}

impl FromStr for Nth {
    type Err = String;

    fn from_str(text: &str) -> Result<Nth, String> {
        let unknown = || format!("{text} is no kill point");
        let (n, name) = text.split_once(':').ok_or_else(unknown)?;
        let n = n.parse().map_err(|_| unknown())?;
        let mut all = POINTS.iter().chain(&RECOVERY);
        let point = all.find(|p| p.name == name).ok_or_else(unknown)?;
        Ok(Nth { point, n })
    }
}

/// Kills this process when it gets there.
pub(crate) struct KillAt {
    nth: Option<Nth>,
    /// Calls of the kind so far.
    calls: AtomicU64,
    /// Calls that changed something while the directory was opened.
    pub(crate) opening_calls: AtomicU64,
    is_opening: AtomicBool,
}

impl KillAt {
    pub(crate) fn new(nth: Option<Nth>) -> KillAt {
        KillAt {
            nth,
            calls: AtomicU64::new(0),
            opening_calls: AtomicU64::new(0),
            is_opening: AtomicBool::new(true),
        }
    }

    /// From here on the directory is open.
    pub(crate) fn opened(&self) -> u64 {
        self.is_opening.store(false, Ordering::SeqCst);
        self.opening_calls.load(Ordering::SeqCst)
    }

    fn has(&self, call: Call, name: &str) -> Option<&Nth> {
        let is_opening = self.is_opening.load(Ordering::SeqCst);
        self.nth.as_ref().filter(|nth| match nth.point.call {
            Call::Of(op, part) => {
                matches!(call, Call::Of(made, _) if made == op) && name.contains(part)
            }
            Call::Publish => call == Call::Publish,
            Call::WhileOpening => is_opening,
        })
    }

    // A call is counted when it begins; what follows asks whether it is the one.
    fn begin(&self, call: Call, name: &str) {
        if self.is_opening.load(Ordering::SeqCst) {
            self.opening_calls.fetch_add(1, Ordering::SeqCst);
        }
        if let Some(nth) = self.has(call, name) {
            let count = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
            if nth.point.side == Side::Before && count == nth.n {
                die();
            }
        }
    }

    fn is_there(&self, call: Call, name: &str, side: Side) -> bool {
        let is_reached =
            || self.calls.load(Ordering::SeqCst) >= self.nth.as_ref().map_or(0, |n| n.n);
        self.has(call, name)
            .is_some_and(|nth| nth.point.side == side && is_reached())
    }
}

fn die() -> ! {
    // Nothing of this process runs any more when the call returns, if it does.
    let _ = kill_process(getpid(), Signal::KILL);
    loop {
        std::thread::park();
    }
}

impl Hook for KillAt {
    fn before(&self, op: Op, name: &str) -> io::Result<()> {
        self.begin(Call::Of(op, ""), name);
        Ok(())
    }

    fn cuts_write(&self, name: &str) -> bool {
        self.is_there(Call::Of(Op::Write, ""), name, Side::Within)
    }

    fn after(&self, op: Op, name: &str) {
        let call = Call::Of(op, "");
        let is_cut = op == Op::Write && self.is_there(call, name, Side::Within);
        if is_cut || self.is_there(call, name, Side::After) {
            die();
        }
    }

    fn before_publish(&self, name: &str) {
        self.begin(Call::Publish, name);
    }

    fn after_publish(&self, name: &str) {
        if self.is_there(Call::Publish, name, Side::After) {
            die();
        }
    }
}
