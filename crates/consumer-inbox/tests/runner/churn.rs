//! Stores that are killed while they sweep and clean (50, 73).

use std::fs::{OpenOptions, read_to_string};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use consumer_inbox::{
    Admission, ClaimRequest, DedupStore, EmbeddedSettings, EmbeddedStore, Fingerprint, Horizon,
    Position, Scope, Settlement,
};

use crate::common::child;
use crate::fixture::key;
use crate::home::{Home, block_on, homes};

fn small() -> EmbeddedSettings {
    EmbeddedSettings {
        segment_bytes: 1 << 16,
        clean_above: 30,
        snapshot_after: 50,
        ..EmbeddedSettings::default()
    }
}

fn claim(key: &consumer_inbox::DedupKey, n: u64, owner: u128) -> ClaimRequest<'_> {
    let topic = "orders";
    ClaimRequest {
        origin_ms: Some(1_000 + n),
        position: Some(Position {
            topic,
            partition: 0,
            offset: n,
        }),
        ..ClaimRequest::new(
            key,
            owner,
            Fingerprint::of(b"body"),
            Duration::from_secs(600),
        )
    }
}

/// Ends ids without an end, each noted once it is done; now and then forgets old ones.
async fn churn<S: DedupStore>(store: &S, directory: &Path, tidy: impl AsyncFn()) {
    let progress = directory.join("progress");
    let mut progress = OpenOptions::new()
        .create(true)
        .append(true)
        .open(progress)
        .unwrap();
    let mut note = |line: String| writeln!(progress, "{line}").unwrap();
    for n in 0.. {
        let key = key(&format!("order {n}"));
        let held = store
            .claim(claim(&key, n, 1))
            .await
            .unwrap()
            .granted()
            .unwrap();
        store.settle(&held, Settlement::Done(None)).await.unwrap();
        note(format!("done {n}"));
        if n % 10 == 9 {
            let below = Horizon {
                scope: Scope::new("billing", "orders"),
                log_starts: [(("orders".into(), 0), n / 2)].into(),
                republish_window: Duration::ZERO,
                origin_before_ms: u64::MAX,
                parked_longer_than: None,
            };
            note(format!("sweeps {}", n / 2));
            store.sweep(&below, 1_000).await.unwrap();
        }
        if n % 7 == 6 {
            tidy().await;
        }
    }
}

/// What was done is done, or is forgotten and refused.
async fn check<S: DedupStore>(store: &S, directory: &Path) -> (usize, usize) {
    let text = read_to_string(directory.join("progress")).unwrap();
    let (mut done, mut swept, mut expired) = (0_u64, 0_u64, 0);
    // Its last line may be a part of one.
    for line in text
        .split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
    {
        let (what, n) = line.split_once(' ').unwrap();
        let n: u64 = n.parse().unwrap();
        match what {
            "done" => done = n + 1,
            _ => swept = n,
        }
    }
    for n in 0..done {
        let key = key(&format!("order {n}"));
        match store.claim(claim(&key, n, 2)).await.unwrap() {
            Admission::Done(_) => {}
            Admission::Expired if n < swept => expired += 1,
            other => panic!("order {n} of {done}, swept below {swept}: {other:?}"),
        }
    }
    (usize::try_from(done).unwrap(), expired)
}

/// In the child: ends ids until it is killed. Here: checks what it left.
async fn with_store(home: &Home, is_child: bool) -> (usize, usize) {
    async fn go<S: DedupStore>(
        home: &Home,
        is_child: bool,
        store: S,
        tidy: impl AsyncFn(),
    ) -> (usize, usize) {
        if is_child {
            churn(&store, &home.directory, tidy).await;
        }
        check(&store, &home.directory).await
    }
    match home.store.as_str() {
        "embedded" => {
            let engine = home.engine();
            let store = EmbeddedStore::open_with(&engine, "churn", small()).unwrap();
            let tidied = store.clone();
            let tidy = async || {
                tidied.tidy().await.unwrap();
                tidied.snapshot().await.unwrap();
            };
            go(home, is_child, store, tidy).await
        }
        #[cfg(feature = "sqlite")]
        "sqlite" => {
            let path = home.directory.join("ids.db");
            let store = consumer_inbox::SqliteStore::open(path).unwrap();
            go(home, is_child, store, async || {}).await
        }
        #[cfg(feature = "postgres")]
        "postgres" => {
            let options = consumer_inbox::PgOptions::new();
            let store = consumer_inbox::PgStore::connect(&home.config, options).await;
            go(home, is_child, store.unwrap(), async || {}).await
        }
        other => panic!("no such store: {other}"),
    }
}

#[test]
fn child_churns() {
    if let Some(argument) = child::argument() {
        block_on(with_store(&Home::of(&argument), true));
    }
}

#[test]
fn case_50_and_73_killed_while_it_sweeps_and_cleans_no_done_id_runs_again() {
    let mut forgotten = 0;
    for lines in [40, 117, 203, 300] {
        homes(&[], |home| {
            let mut child = child::command("churn::child_churns", &home.argument(), None);
            child.stdout(std::process::Stdio::null());
            let mut child = child.spawn().unwrap();
            let progress = home.directory.join("progress");
            let written = || read_to_string(&progress).map_or(0, |text| text.lines().count());
            let begin = std::time::Instant::now();
            while written() < lines {
                assert!(child.try_wait().unwrap().is_none(), "it ended");
                assert!(begin.elapsed() < Duration::from_secs(120), "{}", home.store);
                std::thread::sleep(Duration::from_millis(1));
            }
            child.kill().unwrap();
            child.wait().unwrap();
            let (done, expired) = block_on(with_store(home, false));
            assert!(done + done / 10 + 1 >= lines, "{done}");
            forgotten += expired;
        });
    }
    assert!(forgotten > 100, "{forgotten}");
}
