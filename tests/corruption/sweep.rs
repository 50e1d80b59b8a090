//! Many cases, on all processors; counts what came of them.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use oncelog::storage::Disk;

use crate::canonical::Canonical;
use crate::change::Change;
use crate::examine::{Case, Outcome, examine};
use crate::watchdog::{check_memory, watched};

/// Violations alike that are printed.
const PRINTED_MAX: u64 = 2;

/// Seed of everything that is drawn.
pub(crate) fn seed() -> u64 {
    let text = std::env::var("ONCELOG_CORRUPTION_SEED").ok();
    text.map_or(0x6f6e_6365_6c6f_6735, |text| text.parse().unwrap())
}

/// Does one case; `None` when it changes nothing.
pub(crate) fn run(
    canonical: &Canonical,
    change: &Change,
) -> Option<Result<(Outcome, String), String>> {
    let changed = change.apply(&canonical.files)?;
    let disk = canonical.disk();
    for (file, contents) in &changed {
        match contents {
            Some(bytes) => disk.write_file(file, bytes).unwrap(),
            None => disk.remove(file).unwrap(),
        }
    }
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let case = Case {
        holds_others: matches!(change, Change::Put { .. } | Change::Trade { .. }),
        heals: true,
        disk,
        facts: &canonical.facts,
        changed: changed.into_keys().collect(),
    };
    let text = format!("{} {change}", canonical.name);
    let done = watched(text, || catch_unwind(AssertUnwindSafe(|| examine(&case))));
    let done = done.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied());
        Err(format!("panic (I35): {}", text.unwrap_or("?")))
    });
    Some(done.and_then(|done| check_memory().map(|()| done)))
}

/// The kind of a file, by its name.
pub(crate) fn kind(file: &str) -> &str {
    let name = file.rsplit(['/', ':']).next().unwrap_or(file);
    name.rsplit('.').next().unwrap_or(name)
}

fn kind_of(change: &Change) -> String {
    let text = change.to_string();
    let mut words = text.split(' ');
    let verb = words.next().unwrap_or_default();
    let file = words.next().unwrap_or_default();
    match change {
        Change::Remove { files } if files.len() > 1 => "remove two".to_owned(),
        _ => format!("{verb} {}", kind(file)),
    }
}

/// Counts by what was done to which kind of file.
pub(crate) type Counts = BTreeMap<String, BTreeMap<Outcome, u64>>;

/// Does all cases; returns of how many came something that must not.
pub(crate) fn sweep(what: &str, canonical: &Canonical, cases: Vec<Change>) -> u64 {
    let started = Instant::now();
    let total = cases.len();
    let cases = Mutex::new(cases.into_iter());
    let counts = Mutex::new(Counts::new());
    let violations = Mutex::new(BTreeMap::<String, u64>::new());
    let work = || {
        loop {
            let next = cases.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(change) = next else { return };
            let Some(done) = run(canonical, &change) else {
                continue;
            };
            match done {
                Ok((outcome, _)) => {
                    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                    let of = counts.entry(kind_of(&change)).or_default();
                    *of.entry(outcome).or_default() += 1;
                }
                Err(violation) => {
                    let mut violations = violations.lock().unwrap_or_else(PoisonError::into_inner);
                    // Others of the same kind say the same.
                    let kind: String = violation.chars().filter(|c| !c.is_numeric()).collect();
                    let alike = violations.entry(kind).or_default();
                    *alike += 1;
                    if *alike <= PRINTED_MAX {
                        println!("FAIL {violation}");
                        println!("  replay: ONCELOG_CASE='{} {change}'", canonical.name);
                    }
                }
            }
        }
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    let counts = counts.into_inner().unwrap();
    let violations: u64 = violations.into_inner().unwrap().into_values().sum();
    for (kind, outcomes) in &counts {
        let outcomes: Vec<String> = outcomes.iter().map(|(o, n)| format!("{n} {o}")).collect();
        println!("  {kind}: {}", outcomes.join(", "));
    }
    let name = canonical.name;
    let took = started.elapsed();
    println!("{what}, {name}: {total} cases, {violations} violations, {took:.1?}");
    violations
}
