//! `sim`: whole worlds from seeds, with faults, judged by a model.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use simulator::{Counts, Outcome, Plan, Shrunk, run, shrink};

use crate::args::{Common, Sim};
use crate::dice::random_seed;
use crate::exit::Stop;
use crate::interrupt::Interrupt;
use crate::output::{Out, counted, note};
use crate::progress::{Progress, Unit};

/// How long a failing run is made smaller.
const SHRINK: Duration = Duration::from_secs(60);
/// Every so many seeds one is run twice, and must go the same way.
const TWICE: u64 = 100;

pub(crate) fn run_all(args: &Sim, common: &Common, interrupt: &Interrupt) -> anyhow::Result<()> {
    let first = args.seed.unwrap_or_else(random_seed);
    // The plan is checked before anything runs.
    plan(args, first)?;
    match (args.seeds, args.seed) {
        (None, Some(seed)) => one(args, common, seed),
        (seeds, _) => many(args, common, interrupt, first, seeds.unwrap_or(1_000)),
    }
}

fn plan(args: &Sim, seed: u64) -> anyhow::Result<Plan> {
    let mut plan = Plan::of(seed);
    plan.set(&args.plan)
        .map_err(|error| Stop::Usage(format!("--plan: {error}")))?;
    Ok(plan)
}

fn simulate(args: &Sim, seed: u64, keep_lines: usize) -> anyhow::Result<Outcome> {
    let plan = plan(args, seed)?;
    let steps = args.steps.unwrap_or(u64::MAX);
    Ok(run(seed, &plan, keep_lines, &|step| step >= steps))
}

// One run, whose trace is the result.
fn one(args: &Sim, common: &Common, seed: u64) -> anyhow::Result<()> {
    let outcome = simulate(args, seed, usize::MAX)?;
    let mut out = Out::new();
    if common.json {
        out.json(&report(&[&outcome], outcome.counts, args))?;
    } else {
        out.line(&format!("seed {seed:#x}, plan {}", outcome.plan))?;
        for line in &outcome.trace {
            out.line(line)?;
        }
        out.line(&format!("hash {:016x}", outcome.hash))?;
        out.line(&summary(1, &outcome.counts))?;
    }
    out.flush()?;
    match outcome.violation.is_some() {
        true => failed(args, &outcome),
        false => Ok(()),
    }
}

fn many(
    args: &Sim,
    common: &Common,
    interrupt: &Interrupt,
    first: u64,
    seeds: u64,
) -> anyhow::Result<()> {
    if args.seed.is_none() {
        note(&format!("seeds from {first:#x}"));
    }
    // A violation that is a panic says so in its report.
    std::panic::set_hook(Box::new(|_| {}));
    let progress = Progress::start("simulating", Unit::Records, Some(seeds), !common.quiet);
    let next = AtomicU64::new(0);
    let results = Mutex::new((0_u64, Counts::default(), Vec::new()));
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let work = || -> anyhow::Result<()> {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= seeds || interrupt.asked() {
                return Ok(());
            }
            let seed = first.wrapping_add(at);
            let mut outcome = simulate(args, seed, 0)?;
            if at.is_multiple_of(TWICE) && simulate(args, seed, 0)?.hash != outcome.hash {
                outcome.violation.get_or_insert(simulator::Violation {
                    invariant: "DET",
                    what: "the same seed went another way".into(),
                });
            }
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            results.0 += 1;
            results.1 += outcome.counts;
            if outcome.violation.is_some() {
                results.2.push(outcome);
            }
            progress.add(1);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| match worker.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
    })?;
    drop(progress);
    let (runs, counts, mut violations) =
        results.into_inner().unwrap_or_else(PoisonError::into_inner);
    violations.sort_unstable_by_key(|outcome| outcome.seed.wrapping_sub(first));
    let mut out = Out::new();
    if common.json {
        let violations: Vec<&Outcome> = violations.iter().collect();
        let mut report = report(&violations, counts, args);
        report["runs"] = json!(runs);
        out.json(&report)?;
    } else {
        out.line(&summary(runs, &counts))?;
    }
    out.flush()?;
    if let Some(outcome) = violations.first() {
        if violations.len() > 1 {
            note(&format!(
                "{} of the runs failed; the first:",
                violations.len()
            ));
        }
        return failed(args, outcome);
    }
    match interrupt.asked() {
        true => Err(Stop::Interrupted.into()),
        false => Ok(()),
    }
}

fn replay(args: &Sim, outcome: &Outcome) -> String {
    let plan = match args.plan.is_empty() {
        true => String::new(),
        false => format!(" --plan {}", args.plan),
    };
    format!("oncelog sim --seed {:#x}{plan}", outcome.seed)
}

fn report(outcomes: &[&Outcome], counts: Counts, args: &Sim) -> Value {
    let violations: Vec<Value> = outcomes
        .iter()
        .filter_map(|outcome| {
            let violation = outcome.violation.as_ref()?;
            Some(json!({
                "invariant": violation.invariant,
                "what": violation.what,
                "seed": format!("{:#x}", outcome.seed),
                "replay": replay(args, outcome),
            }))
        })
        .collect();
    json!({
        "runs": outcomes.len(),
        "operations": counts.operations,
        "crashes": counts.kills + counts.power_cuts,
        "faults": faults(&counts),
        "backups": counts.backups,
        "repairs": counts.repairs,
        "consumers": {
            "runs": counts.runs_with_consumers,
            "delivered": counts.delivered,
            "redelivered": counts.redelivered,
            "republished": counts.republished,
            "redriven": counts.redriven,
            "crashes": counts.consumer_crashes,
            "effects": counts.effects,
        },
        "violations": violations,
    })
}

fn faults(counts: &Counts) -> BTreeMap<&'static str, u64> {
    BTreeMap::from([
        ("kills", counts.kills),
        ("power_cuts", counts.power_cuts),
        ("failed_syncs", counts.failed_syncs),
        ("runs_with_failed_syncs", counts.runs_with_failed_syncs),
        ("full_disks", counts.full_disks),
        ("lost", counts.lost),
        ("repeated", counts.repeated),
    ])
}

fn summary(runs: u64, counts: &Counts) -> String {
    let faults: Vec<String> = faults(counts)
        .into_iter()
        .map(|(fault, count)| format!("{} {count}", fault.replace('_', " ")))
        .collect();
    format!(
        "{}, {}: {}; {} appended, {} answered as duplicates, {} refused, {} read; {}; {:.1} simulated days",
        counted(runs, "run"),
        counted(counts.operations, "operation"),
        faults.join(", "),
        counted(counts.appended, "batch"),
        counts.duplicates,
        counts.refused,
        counted(counts.read, "record"),
        consumers(counts),
        // A day is exact in a float, and so is its thousandth.
        Duration::from_millis(counts.elapsed_ms).as_secs_f64() / 86_400.0,
    )
}

fn consumers(counts: &Counts) -> String {
    format!(
        "{} with consumers: {} delivered, {} again, {} published again, {} sent again from dead letters, {} of consumers, {}",
        counted(counts.runs_with_consumers, "run"),
        counted(counts.delivered, "order"),
        counts.redelivered,
        counts.republished,
        counts.redriven,
        counted(counts.consumer_crashes, "death"),
        counted(counts.effects, "effect"),
    )
}

// The report of a failing run, on one screen; the run is made smaller and saved first.
fn failed(args: &Sim, outcome: &Outcome) -> anyhow::Result<()> {
    let Some(violation) = &outcome.violation else {
        return Ok(());
    };
    let until = Instant::now() + SHRINK;
    let shrunk = shrink(outcome, || Instant::now() < until);
    let mut text = format!("FAIL {violation}\nreplay: {}", replay(args, outcome));
    if let Some(shrunk) = &shrunk {
        let saved = save(shrunk)?;
        text += &format!(
            "\nshrunk: {} of {} operations: {}; saved: {}/{{plan.txt,trace.txt}}",
            shrunk.operations.len(),
            outcome.counts.operations,
            shrunk.outcome.violation.as_ref().map_or("", |v| &v.what),
            saved.display()
        );
    }
    Err(Stop::Failed(text).into())
}

fn save(shrunk: &Shrunk) -> anyhow::Result<PathBuf> {
    let outcome = &shrunk.outcome;
    let directory = PathBuf::from(format!("sim-{:016x}", outcome.seed));
    let text = |what: &str| format!("cannot save {what} in {}", directory.display());
    fs::create_dir_all(&directory).with_context(|| text("the run"))?;
    let operations: Vec<String> = shrunk.operations.iter().map(u64::to_string).collect();
    let plan = format!("{}\noperations {}\n", outcome.plan, operations.join(","));
    fs::write(directory.join("plan.txt"), plan).with_context(|| text("the plan"))?;
    let trace = outcome.trace.join("\n") + "\n";
    fs::write(directory.join("trace.txt"), trace).with_context(|| text("the trace"))?;
    Ok(directory)
}
