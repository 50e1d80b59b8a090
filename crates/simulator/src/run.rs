//! A run: a part in which things go wrong, a calm in which everything has to end, and the books.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::model::End;
use crate::plan::Plan;
use crate::random::Random;
use crate::violation::{Violation, violated};
use crate::world::{Counts, World};

/// Rounds of the calm part, at most. Each passes half a second.
const CALM_ROUNDS: u64 = 1_000;

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The plan.
    pub plan: Plan,
    /// What was done.
    pub counts: Counts,
    /// Of everything that happened: the same seed and plan give the same number.
    pub hash: u64,
    /// What did not hold.
    pub violation: Option<Violation>,
    /// What happened last, as much as was asked for.
    pub trace: Vec<String>,
}

/// Runs a plan. Keeps the newest `keep_lines` events; `leave_out` says which steps do not happen.
pub fn run(seed: u64, plan: &Plan, keep_lines: usize, leave_out: &dyn Fn(u64) -> bool) -> Outcome {
    let mut world = World::new(seed, plan.clone(), keep_lines);
    let outcome = catch_unwind(AssertUnwindSafe(|| whole(&mut world, leave_out)));
    let violation = match outcome {
        Ok(outcome) => outcome.err(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(Violation {
                invariant: "PANIC",
                what: text.unwrap_or_default(),
            })
        }
    };
    world.counts.runs_with_failed_syncs = u64::from(world.counts.failed_syncs > 0);
    let is_panic = violation.as_ref().is_some_and(|v| v.invariant == "PANIC");
    let trace = std::mem::take(&mut world.trace);
    let outcome = Outcome {
        seed,
        plan: plan.clone(),
        counts: world.counts,
        hash: trace.hash,
        violation,
        trace: trace.into_lines(),
    };
    if is_panic {
        // What panicked may hold locks that closing would wait for.
        std::mem::forget(world);
    }
    outcome
}

fn whole(world: &mut World, leave_out: &dyn Fn(u64) -> bool) -> Result<(), Violation> {
    world.found()?;
    for step in 0..world.plan.operations {
        world.trace.step = step;
        if !leave_out(step) {
            world.operate(step)?;
        }
    }
    world.trace.step += 1;
    world.event(format_args!("calm"));
    world.is_calm = true;
    world.inside.disarm();
    // A log that is fenced stays so until it is opened again.
    if world.may_fail() {
        world.end(End::Kill, 0)?;
    }
    calm(world)?;
    world.end(End::Clean, 0)?;
    let mut logs = Vec::new();
    for log in 0..world.logs.len() {
        let batches = world.batches(log)?;
        let records = batches
            .iter()
            .flat_map(|batch| (batch.base_offset..).zip(batch.contents.iter().copied()));
        logs.push((world.logs[log].model.start(), records.collect()));
    }
    world.history.check(&logs)?;
    world.judge_consumers_at_the_end()?;
    world.counts.elapsed_ms = world.now_ms();
    Ok(())
}

// Everything that is on its way must arrive, and everybody must be answered.
fn calm(world: &mut World) -> Result<(), Violation> {
    let mut random = Random::of(world.seed, "calm");
    for round in 0..CALM_ROUNDS {
        let waiting = world.network.requests().len();
        for _ in 0..waiting {
            world.deliver(0, &mut random)?;
        }
        let mut turns = 0..10_000;
        while turns.next().is_some() && world.turn(random.any())? {}
        world.clock.advance(500);
        world.engine()?.look_at_clock();
        world.look()?;
        if round % 4 == 0 {
            for client in 0..world.remotes.len() {
                world.remote_resend(client)?;
            }
        }
        for client in 0..world.embedded.len() {
            world.embedded_resolve(client)?;
        }
        let mut names_done = true;
        for client in 0..world.named.len() {
            names_done &= world.named_catch_up(client)?;
        }
        let consumers_done = world.calm_consumers(&mut random)?;
        let is_quiet = world.network.requests().is_empty() && !world.is_waiting();
        if is_quiet && names_done && consumers_done && world.remotes_done() && world.embedded_done()
        {
            for log in 0..world.logs.len() {
                world.read(log, 10_000)?;
            }
            return Ok(());
        }
    }
    let requests = world.network.requests().len();
    violated(
        "LIVE",
        format!(
            "after {CALM_ROUNDS} calm rounds: {requests} requests, waiting {}, remotes {}, embedded {}, {}",
            world.is_waiting(),
            world.remotes_done(),
            world.embedded_done(),
            world.consumers_missing()
        ),
    )
}
