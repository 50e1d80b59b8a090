//! Running a scenario in many orders.

use sync::shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use sync::shuttle::{Config, MaxSteps, Runner};

/// Changes to another thread that an order of the second kind is made of: nearly all races need no
/// more than three.
const DEPTH: usize = 3;
/// Orders for each scenario, unless told otherwise.
const SCHEDULES: usize = 2_000;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

/// Runs a scenario in as many orders as asked for: half of them choose at random at each step, half
/// let one thread go on but for a few steps chosen at random.
///
/// # Panics
/// When the scenario does, or its threads wait for each other.
pub(crate) fn explore(name: &str, scenario: fn()) {
    let schedules = number("ONCELOG_SCHEDULES").map_or(SCHEDULES, |n| usize::try_from(n).unwrap());
    let seed = number("ONCELOG_SEED").unwrap_or(1);
    println!("shuttle: {name}: {schedules} orders, ONCELOG_SEED={seed}");
    let half = schedules.div_ceil(2);
    run(RandomScheduler::new_from_seed(seed, half), scenario);
    run(PctScheduler::new_from_seed(seed, DEPTH, half), scenario);
}

fn run(scheduler: impl Scheduler + 'static, scenario: fn()) {
    let mut config = Config::new();
    // More steps than any end after: threads that chase each other for ever.
    config.max_steps = MaxSteps::FailAfter(1_000_000);
    config.stack_size = 1 << 19;
    Runner::new(scheduler, config).run(scenario);
}
