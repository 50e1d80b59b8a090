//! A log's writer against its readers, in every order of their steps, and with every value that the
//! memory model lets a load return. Run by `tests/interleavings`, which has loom run the threads.

#![cfg(oncelog_loom)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it explored; helpers included"
)]

mod commits;
#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "../storage/harness.rs"]
mod harness;
mod readers;
mod watched;

/// Explores a model and prints how much that was. Three preemptions find nearly everything that any
/// number would.
fn explore(name: &str, model: impl Fn() + Send + Sync + 'static) {
    let executions = sync::explore(3, model);
    println!("loom: {name}: {executions} executions");
}
