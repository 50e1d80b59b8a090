//! Which disks a trace may leave, and what becomes of each of them.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use harness::random::Random;
use oncelog::testing::{Crash, Kept, SimulatedDisk, Trace};

use crate::check::{OPENS, survives};
use crate::facts::Facts;

/// Pair losses that are made at most, at one place.
const PAIRS_MAX: usize = 100;
/// Kills at each place, each with another power cut after it.
const KILLS: usize = 3;
/// Violations after which a life is given up.
const VIOLATIONS_MAX: usize = 5;

/// What was done for one life.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) positions: u64,
    pub(crate) images: u64,
    pub(crate) distinct: u64,
    pub(crate) kills: u64,
    pub(crate) opens: u64,
}

/// A number from the environment.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

impl Totals {
    pub(crate) fn add(&mut self, other: &Totals) {
        self.positions += other.positions;
        self.images += other.images;
        self.distinct += other.distinct;
        self.kills += other.kills;
        self.opens += other.opens;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals {
            positions,
            images,
            distinct,
            kills,
            opens,
        } = self;
        write!(
            f,
            "{positions} positions, {images} images, {distinct} distinct, {kills} kills, {opens} opens"
        )
    }
}

/// Makes every disk that a trace may leave, and checks each; all combinations of up to 6 unsynced
/// things, unless set otherwise.
///
/// # Panics
/// When one does not survive.
pub(crate) fn enumerate(what: &str, trace: &Trace, facts: &Facts) -> Totals {
    let bits = setting("ONCELOG_CRASH_BITS", 6).min(12) as usize;
    let (totals, violations) = violations_of(what, trace, facts, bits);
    println!("{what}: {totals}");
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    totals
}

/// As [`enumerate`]; says what did not survive, what was lost then and what was done before.
pub(crate) fn violations_of(
    what: &str,
    trace: &Trace,
    facts: &Facts,
    bits: usize,
) -> (Totals, Vec<String>) {
    let mut random = Random::new(setting("ONCELOG_CRASH_SEED", 1));
    let mut totals = Totals::default();
    let mut told = facts.told_at().into_iter().peekable();
    let mut seen = BTreeSet::new();
    let mut violations: BTreeMap<String, String> = BTreeMap::new();
    let mut crash = trace.crash_at_start();
    loop {
        totals.positions += 1;
        // What clients are told later may be broken by a disk that was fine before.
        while told.next_if(|at| *at <= crash.position()).is_some() {
            seen.clear();
        }
        let known = facts.until(crash.position());
        for kept in combinations(&crash, bits, &mut random) {
            let image = crash.image(|item| kept[item]);
            totals.images += 1;
            if !seen.insert(image.fingerprint()) {
                continue;
            }
            totals.distinct += 1;
            totals.opens += OPENS;
            let seed = random.next_u64();
            if let Err(violation) = check(&image, &known, seed) {
                let report = report(what, trace, &crash, Some(&kept), seed, &violation);
                violations
                    .entry(without_digits(&violation))
                    .or_insert(report);
            }
        }
        // A kill here, and a power cut later, when what the killed process wrote is built upon.
        for _ in 0..KILLS {
            let seed = random.next_u64();
            totals.kills += 1;
            totals.opens += OPENS;
            let known = known.clone().after_kill();
            if let Err(violation) = check(&crash.killed(), &known, seed) {
                let report = report(what, trace, &crash, None, seed, &violation);
                violations
                    .entry(without_digits(&violation))
                    .or_insert(report);
            }
        }
        if !crash.advance() || violations.len() >= VIOLATIONS_MAX {
            break;
        }
    }
    (totals, violations.into_values().collect())
}

fn check(image: &SimulatedDisk, facts: &Facts, seed: u64) -> Result<(), String> {
    let checked = catch_unwind(AssertUnwindSafe(|| survives(image, facts, seed)));
    checked.unwrap_or_else(|panic| Err(format!("a panic (I35): {}", text_of(&*panic))))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default()
}

// Violations of one kind are told once.
fn without_digits(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

fn report(
    what: &str,
    trace: &Trace,
    crash: &Crash<'_>,
    kept: Option<&[Kept]>,
    seed: u64,
    violation: &str,
) -> String {
    let position = crash.position();
    let crashed = if kept.is_some() { "power cut" } else { "kill" };
    let mut text = format!(
        "FAIL {what}, {crashed} at {position} of {}, then {seed}: {violation}\n",
        trace.len()
    );
    for at in position.saturating_sub(25)..position {
        text += &format!("  {at}: {}\n", trace.describe(at));
    }
    text += "  not synced then:\n";
    for item in 0..crash.unsynced() {
        let kept = kept.map_or(Kept::Whole, |kept| kept[item]);
        text += &format!("    {kept:?} {}\n", crash.describe(item));
    }
    text
}

/// What may become of the unsynced things: all combinations of few, and some of many.
fn combinations(crash: &Crash<'_>, bits: usize, random: &mut Random) -> Vec<Vec<Kept>> {
    let count = crash.unsynced();
    let mut made = Vec::new();
    let of = |is_kept: &dyn Fn(usize) -> bool| -> Vec<Kept> {
        let kept = |item| {
            if is_kept(item) {
                Kept::Whole
            } else {
                Kept::Lost
            }
        };
        (0..count).map(kept).collect()
    };
    if count <= bits {
        made.extend((0..1_u32 << count).map(|set| of(&|item| set >> item & 1 == 1)));
    } else {
        for item in 0..count {
            made.push(of(&|other| other != item));
            made.push(of(&|other| other == item));
            made.push(of(&|other| other <= item));
        }
        let all = count * (count - 1) / 2;
        let pairs = (0..count).flat_map(|first| (0..first).map(move |second| (first, second)));
        for (first, second) in pairs.step_by(all.div_ceil(PAIRS_MAX)) {
            made.push(of(&|other| other != first && other != second));
        }
        made.push(of(&|_| false));
        for _ in 0..1_u32 << bits {
            let share = 1 + random.below(15);
            let drawn: Vec<bool> = (0..count).map(|_| random.below(16) < share).collect();
            made.push(of(&|item| drawn[item]));
        }
    }
    // Each write torn between its sectors, where all else is kept, or lost.
    for item in 0..count {
        let sectors = crash.sectors(item);
        for first in 1..sectors.count_ones() as usize {
            for rest in [true, false] {
                let mut kept = of(&|_| rest);
                kept[item] = Kept::first(sectors, first);
                made.push(kept);
            }
        }
    }
    made
}
