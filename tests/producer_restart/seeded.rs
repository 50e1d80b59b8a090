//! A thousand machines, each with its own seed: see [`crate::lives`] for what happens to them.

use std::time::Instant;

use crate::lives::{Totals, run};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

#[test]
fn every_record_is_stored_once_and_in_order_whatever_is_restarted() {
    let one = number("ONCELOG_SEED");
    let first = one.unwrap_or(0);
    let runs = if one.is_some() {
        1
    } else {
        number("ONCELOG_RUNS").unwrap_or(1_000)
    };
    let begun = Instant::now();
    let mut totals = Totals::default();
    for seed in first..first + runs {
        if let Err(violation) = run(seed, &mut totals) {
            panic!("VIOLATION with ONCELOG_SEED={seed}: {violation}\n{totals:?}");
        }
    }
    println!(
        "ONCELOG_SEED={first} to {}: {runs} runs in {:.1?}: {totals:?}",
        first + runs - 1,
        begun.elapsed()
    );
    if runs < 1_000 {
        return;
    }
    // Each of the things that can happen did, and often.
    let Totals {
        restarts,
        kills,
        power_cuts,
        take_overs,
        late,
        skipped,
        answers_lost,
        ..
    } = totals;
    for (count, what) in [
        (restarts, "restarts"),
        (kills, "kills"),
        (power_cuts, "power cuts"),
        (take_overs, "take-overs"),
        (late, "late batches"),
        (skipped, "lines that were stored before"),
        (answers_lost, "lost answers"),
    ] {
        assert!(count > 500, "{count} {what} alone");
    }
}
