//! What does it cost to remember? Claims and transactional effects a second in each store, with 1, 8 and 64 ids at once, beside what the same
//! server or file does without it in the same run; then memory and disk of an id.
//!
//! * *claims*: each id is claimed and settled, by as many tasks as there are ids at once. *Bare* is one write of each id that does nothing if it is
//!   there, committed alone: an insert, `on conflict do nothing`; in Redis `SET key value NX PX`. *By hand* is two of them, as a lease needs: that,
//!   and an update when the work is done.
//! * *effects*: a row (in the log: a record, in Redis: an entity) with its id and the position, as many ids in a transaction as there are at once. *Bare* is the id
//!   alone, that many in a transaction, in Redis in a pipeline; *by hand* is the id and the same effect.
//! * *writes*: guarded writes of Redis beside a `SET`.
//!
//! The sides take turns, round by round, and the medians are told: a machine that is busy for a while is so for all. `ONCELOG_BENCH_IDS` is how many
//! ids a round has, `ONCELOG_BENCH_ROUNDS` how many rounds there are, and names of stores behind `--` choose among them.
//!
//! The servers are started here and keep their data in memory, so that the figures are of work, not of a disk; SQLite and the log sync to the disk
//! of the build. Those that are not installed are left out.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that fails has nothing to report, and this one reports by itself"
)]

mod measure;
mod own;
mod postgres;
mod redis;
mod sqlite;
mod work;

#[path = "../../crates/consumer-inbox/tests/servers/mod.rs"]
mod servers;

use measure::{Sizes, heads, show_space};
use oncelog_benches::is_test_run;

fn number(name: &str, full: u64, tiny: u64) -> u64 {
    let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
    match is_test_run() {
        true => tiny,
        false => given.unwrap_or(full),
    }
}

fn main() {
    let sizes = Sizes {
        ids: number("ONCELOG_BENCH_IDS", 4_000, 70),
        rounds: number("ONCELOG_BENCH_ROUNDS", 5, 1),
    };
    let named: Vec<String> = std::env::args().skip(1).collect();
    let named: Vec<&str> = named
        .iter()
        .map(String::as_str)
        .filter(|name| !name.starts_with("--"))
        .collect();
    let is_wanted = |name: &str| named.is_empty() || named.contains(&name);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut space = Vec::new();
    println!("{} ids a round, {} rounds", sizes.ids, sizes.rounds);
    heads();
    runtime.block_on(async {
        if is_wanted("memory") {
            space.push(own::memory(sizes.times(50)).await);
        }
        if is_wanted("log") {
            space.push(own::log(sizes.times(2)).await);
        }
        if is_wanted("sqlite") {
            space.push(sqlite::sqlite(sizes).await);
        }
        if is_wanted("postgres") {
            space.extend(postgres::postgres(sizes).await);
        }
        if is_wanted("redis") {
            space.extend(redis::redis(sizes).await);
        }
    });
    show_space(&space);
}
