//! What do ids in the log cost: bytes of memory each, and seconds at an opening, with and without a snapshot?
//!
//! One million ids unless `ONCELOG_BENCH_IDS` says otherwise, each claimed and settled, so that the log has two records of each.
//! What is read at an opening was just written, so the disk is not measured.
//!
//! Floor: an entry of 24 bytes and its tag in a table that is between 44 % and 88 % full take 28.6 to 57.1 bytes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that fails has nothing to report, and this one reports by itself"
)]

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use consumer_inbox::{
    BizId, ClaimRequest, DedupKey, DedupStore, EmbeddedStore, Fingerprint, Position, Scope,
    Settlement,
};
use oncelog::Engine;
use oncelog_benches::{scratch, sized};

/// Calls that wait for one sync.
const WAVE: u64 = 20_000;

fn main() {
    let ids = std::env::var("ONCELOG_BENCH_IDS");
    let ids = ids.map_or(sized(1_000_000, 1_000), |ids| ids.parse().unwrap());
    let directory = scratch().unwrap();
    let path = directory.path().join("data");
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.build().unwrap();

    let engine = Engine::open(&path).unwrap();
    let store = EmbeddedStore::open(&engine, "bench").unwrap();
    let begin = Instant::now();
    for first in (0..ids).step_by(20_000) {
        runtime.block_on(wave(&store, first..ids.min(first + WAVE)));
    }
    let rate = 2.0 * per(ids, begin.elapsed());
    println!("{ids} ids, {rate:.0} calls a second, {WAVE} at a time");
    let counts = store.counts();
    println!(
        "index        {:>8.1} bytes an id",
        ratio(counts.index_bytes, ids)
    );
    drop(store);
    engine.close().unwrap();

    reopened("no snapshot", &path, ids);
    let engine = Engine::open(&path).unwrap();
    let store = EmbeddedStore::open(&engine, "bench").unwrap();
    let begin = Instant::now();
    assert!(runtime.block_on(store.snapshot()).unwrap());
    println!(
        "written in   {:>8.2} s a million",
        seconds(begin.elapsed(), ids)
    );
    drop(store);
    engine.close().unwrap();
    reopened("a snapshot", &path, ids);
}

fn reopened(with: &str, path: &Path, ids: u64) {
    let before = resident();
    let engine = Engine::open(path).unwrap();
    let (begin, cpu) = (Instant::now(), cpu_time());
    let store = EmbeddedStore::open(&engine, "bench").unwrap();
    let (took, cpu) = (begin.elapsed(), cpu_time().saturating_sub(cpu));
    assert_eq!(u64::try_from(store.counts().ids).unwrap(), ids);
    let memory = ratio(resident().saturating_sub(before), ids);
    let (took, cpu) = (seconds(took, ids), seconds(cpu, ids));
    println!(
        "{with:<12} {took:>8.2} s a million, {cpu:.2} s of them computing; {memory:.1} bytes an id, with what is mapped"
    );
    drop(store);
    engine.close().unwrap();
}

async fn wave(store: &EmbeddedStore, ids: std::ops::Range<u64>) {
    let key = |n: u64| {
        let id = BizId::new(format!("order-{n:030}")).unwrap();
        DedupKey::new(Scope::new("billing", "create-order"), id)
    };
    let keys: Vec<DedupKey> = ids.clone().map(key).collect();
    let claims = ids.zip(&keys).map(|(n, key)| {
        let at = Position {
            topic: "orders",
            partition: 0,
            offset: n,
        };
        store.claim(ClaimRequest {
            origin_ms: Some(n),
            position: Some(at),
            ..ClaimRequest::new(
                key,
                u128::from(n),
                Fingerprint([7; 16]),
                Duration::from_secs(60),
            )
        })
    });
    let claimed = together(claims).await;
    let held: Vec<_> = claimed
        .into_iter()
        .map(|claimed| claimed.unwrap().granted().unwrap())
        .collect();
    let settled = held
        .iter()
        .map(|held| store.settle(held, Settlement::Done(None)));
    for settled in together(settled).await {
        settled.unwrap();
    }
}

// Has each of them write before the first one waits.
async fn together<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut context = Context::from_waker(Waker::noop());
    let mut running: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    let first = running
        .iter_mut()
        .map(|future| future.as_mut().poll(&mut context))
        .collect::<Vec<_>>();
    let mut answers = Vec::new();
    for (future, first) in running.into_iter().zip(first) {
        answers.push(match first {
            Poll::Ready(answer) => answer,
            Poll::Pending => future.await,
        });
    }
    answers
}

// Of all threads, in steps of 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn ratio(bytes: usize, ids: u64) -> f64 {
    bytes as f64 / ids as f64
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn per(ids: u64, took: Duration) -> f64 {
    ids as f64 / took.as_secs_f64()
}

fn seconds(took: Duration, ids: u64) -> f64 {
    1e6 / per(ids, took)
}
