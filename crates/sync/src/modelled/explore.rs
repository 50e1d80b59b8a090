//! Running a model.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs `model` in every order of its threads' steps with at most `preemptions` changes to another
/// thread that nothing forced, and with every value that the memory model lets a load return. Returns
/// how many executions that were. `LOOM_MAX_PREEMPTIONS` counts instead, when it is set.
///
/// # Panics
/// When the model panics in one of them, or its threads wait for each other.
pub fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) -> u64 {
    let mut builder = loom::model::Builder::new();
    // Opening a log takes many steps before there is a second thread.
    builder.max_branches = 1_000_000;
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    let executions = Arc::new(AtomicU64::new(0));
    let count = executions.clone();
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    executions.load(Ordering::Relaxed)
}
