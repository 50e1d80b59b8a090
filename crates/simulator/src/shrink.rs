//! Makes a failing run smaller: the fewest operations and faults that still break the same promise.

use std::collections::BTreeSet;

use crate::plan::Plan;
use crate::run::{Outcome, run};

/// Options that are taken out one by one, with all that they bring.
const OPTIONAL: [&str; 21] = [
    "consumers",
    "consumer_crash",
    "backup",
    "repair",
    "lose_requests",
    "lose_answers",
    "repeat",
    "crash_inside",
    "fail_sync",
    "fail_names",
    "fill_disk",
    "write_back",
    "sync_ms",
    "deletion",
    "expiry_ms",
    "budget",
    "jumps",
    "restarts",
    "topics",
    "named",
    "producers",
];

/// A failing run made smaller.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// The run, with its whole trace.
    pub outcome: Outcome,
    /// The operations that are left, by number.
    pub operations: BTreeSet<u64>,
}

/// Shrinks a failing run while `may_go_on` says so. `None` when the outcome has no violation, or
/// the run does not fail the same way again.
pub fn shrink(outcome: &Outcome, mut may_go_on: impl FnMut() -> bool) -> Option<Shrunk> {
    let invariant = outcome.violation.as_ref()?.invariant;
    let fails = |plan: &Plan, kept: &BTreeSet<u64>| {
        let outcome = run(outcome.seed, plan, usize::MAX, &|step| {
            !kept.contains(&step)
        });
        let violation = outcome.violation.as_ref();
        let is_same = violation.is_some_and(|v| v.invariant == invariant);
        is_same.then_some(outcome)
    };
    let mut plan = outcome.plan.clone();
    let mut operations: BTreeSet<u64> = (0..plan.operations).collect();
    let mut smallest = fails(&plan, &operations)?;
    for option in OPTIONAL {
        let mut without = plan.clone();
        if may_go_on()
            && without.set(&format!("{option}=0")).is_ok()
            && without != plan
            && let Some(outcome) = fails(&without, &operations)
        {
            (plan, smallest) = (without, outcome);
        }
    }
    smaller(&mut operations, &mut may_go_on, |kept| {
        let failed = fails(&plan, kept);
        let is_failed = failed.is_some();
        smallest = failed.unwrap_or_else(|| smallest.clone());
        is_failed
    });
    Some(Shrunk {
        outcome: smallest,
        operations,
    })
}

// Takes out ever smaller pieces for as long as what is left still fails.
fn smaller(
    kept: &mut BTreeSet<u64>,
    may_go_on: &mut impl FnMut() -> bool,
    mut fails: impl FnMut(&BTreeSet<u64>) -> bool,
) {
    let mut piece = kept.len().div_ceil(2);
    loop {
        let before = kept.len();
        let steps: Vec<u64> = kept.iter().copied().collect();
        for part in steps.chunks(piece.max(1)) {
            if !may_go_on() {
                return;
            }
            let mut without = kept.clone();
            part.iter().for_each(|step| {
                without.remove(step);
            });
            if fails(&without) {
                *kept = without;
            }
        }
        if kept.len() == before {
            match piece {
                0 | 1 => return,
                _ => piece = piece.div_ceil(2),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_needed_is_taken_out() {
        let mut kept: BTreeSet<u64> = (0..300).collect();
        let mut runs = 0;
        smaller(&mut kept, &mut || true, |kept| {
            runs += 1;
            [17, 140, 141].iter().all(|step| kept.contains(step))
        });
        assert_eq!(kept, BTreeSet::from([17, 140, 141]));
        assert!(runs < 200, "{runs}");
    }

    #[test]
    fn it_stops_when_told() {
        let mut kept: BTreeSet<u64> = (0..300).collect();
        let mut left = 3;
        let mut may_go_on = || {
            left -= 1;
            left >= 0
        };
        smaller(&mut kept, &mut may_go_on, |kept| kept.contains(&0));
        assert!((2..300).contains(&kept.len()), "{kept:?}");
    }

    #[test]
    fn a_run_that_holds_cannot_be_shrunk() {
        let held = run(5, &Plan::of(5), 0, &|_| false);
        assert_eq!(held.violation, None);
        assert!(shrink(&held, || true).is_none());
    }
}
