//! Many worlds, one seed each. `ONCELOG_SIM_SEED` and `ONCELOG_SIM_SEEDS` say from which seed and how
//! many, `ONCELOG_SIM_PLAN` sets options for all of them; `oncelog sim` does the same faster.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and counts"
)]

use simulator::{Counts, Outcome, Plan, run};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn simulate(seed: u64, plan: &str, keep_lines: usize) -> Outcome {
    let mut drawn = Plan::of(seed);
    drawn.set(plan).unwrap();
    run(seed, &drawn, keep_lines, &|_| false)
}

#[test]
fn every_seed_keeps_every_promise() {
    let first = number("ONCELOG_SIM_SEED", 1);
    let count = number("ONCELOG_SIM_SEEDS", 500);
    let plan = std::env::var("ONCELOG_SIM_PLAN").unwrap_or_default();
    let mut failed = Vec::new();
    let mut counts = Counts::default();
    for seed in first..first + count {
        let outcome = simulate(seed, &plan, if count == 1 { usize::MAX } else { 0 });
        outcome.trace.iter().for_each(|line| println!("{line}"));
        if let Some(violation) = &outcome.violation {
            println!("FAIL seed {seed}: {violation}\n  {}", outcome.plan);
            failed.push(seed);
        }
        counts += outcome.counts;
    }
    println!("{count} seeds: {counts:?}");
    assert!(failed.is_empty(), "{failed:?}");
    let many = |found: u64, per_seed: u64| count < 100 || found >= count * per_seed;
    assert!(many(counts.power_cuts, 2), "power cuts");
    assert!(many(counts.kills, 2), "kills");
    assert!(many(counts.duplicates, 10), "duplicates");
    assert!(many(counts.read, 100), "records read");
    assert!(many(counts.failed_syncs, 1), "failed syncs");
    assert!(many(counts.effects, 10), "effects");
    assert!(many(counts.redelivered, 3), "redelivered");
    assert!(many(counts.republished, 2), "published again");
    assert!(many(counts.consumer_crashes, 2), "deaths of consumers");
    assert!(
        count < 100 || counts.runs_with_consumers >= count / 3,
        "runs with consumers"
    );
    assert!(
        count < 100 || counts.redriven >= count / 3,
        "dead letters sent again"
    );
    assert!(count < 100 || counts.backups >= count / 2, "backups");
    assert!(count < 100 || counts.repairs >= count / 2, "repairs");
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 1..40 {
        let (one, other) = (
            simulate(seed, "", usize::MAX),
            simulate(seed, "", usize::MAX),
        );
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert_eq!(one.hash, simulate(seed, "", 0).hash, "seed {seed}");
    }
    assert_ne!(simulate(1, "", 0).hash, simulate(2, "", 0).hash);
}

#[test]
fn an_option_changes_nothing_but_what_it_says() {
    let outcome = simulate(3, "crash=0,fail_sync=0,fail_names=0", 0);
    let counts = outcome.counts;
    // Those at the end of each run.
    assert_eq!((counts.power_cuts, counts.failed_syncs), (0, 0));
    assert!(counts.kills <= 2, "{counts:?}");
}

/// Seeds that once failed: a seed, options and what it was about, a line each.
#[test]
fn what_failed_once_holds() {
    let mut seeds = 0;
    for line in include_str!("../regressions.txt").lines() {
        let mut words = line.split_whitespace();
        let Some(seed) = words.next().filter(|word| !word.starts_with('#')) else {
            continue;
        };
        let plan = words.next().filter(|plan| *plan != "-").unwrap_or_default();
        let outcome = simulate(seed.parse().unwrap(), plan, 0);
        assert_eq!(outcome.violation, None, "{line}");
        seeds += 1;
    }
    assert!(seeds >= 5, "{seeds}");
}
