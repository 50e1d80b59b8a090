//! Consumers that die at each place (17 to 23, 27), over ids in the log of an engine directory, or in SQLite. The effect is a line in a file.

use std::fs::{OpenOptions, read_to_string};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use consumer_inbox::failpoints::{Point, hit};
use consumer_inbox::{
    ClaimCx, Consumer, Delivery, EmbeddedStore, Handler, HandlerError, Policy, Summary, Verified,
};
use log_engine::Engine;

use crate::common::child;
#[cfg(feature = "sqlite")]
use crate::fixture::until;
use crate::fixture::{LEASE, MARGIN, VISIBILITY, consumed, position, retry, send};

/// Writes a line for each effect, and says what the argument says when asked.
struct Lines {
    directory: String,
    says: String,
    is_poison: bool,
}

impl Lines {
    fn write(&self, line: &str) {
        let path = Path::new(&self.directory).join("effects");
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        writeln!(file, "{line}").unwrap();
    }
}

impl Handler<ClaimCx> for Lines {
    async fn handle(
        &self,
        cx: &mut ClaimCx,
        order: &Delivery,
    ) -> Result<Option<Bytes>, HandlerError> {
        self.write(&format!("effect {}", cx.idempotency_key()));
        if self.is_poison && order.biz_id() == Some(b"A-1") {
            std::process::abort();
        }
        let _ = hit(Point::C2).await;
        Ok(Some("charged".into()))
    }

    async fn verify(&self, _: &Delivery) -> Result<Verified, HandlerError> {
        Ok(match self.says.as_str() {
            "applied" => Verified::Applied(None),
            "not" => Verified::NotApplied,
            _ => Verified::Unknown,
        })
    }

    async fn compensate(&self, _: &Delivery) -> Result<(), HandlerError> {
        self.write("compensated");
        Ok(())
    }
}

fn policy(name: &str) -> Policy {
    match name {
        "before" => Policy::Before,
        "after" => Policy::After,
        _ => LEASE,
    }
}

/// Consumes all there is. The argument is `directory policy what-verify-says`.
fn consume(argument: &str) -> Summary {
    let mut parts = argument.split(' ');
    let mut part = || parts.next().unwrap().to_owned();
    let (directory, named, says) = (part(), part(), part());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Engine::open(Path::new(&directory).join("log")).unwrap();
        let store = EmbeddedStore::open(&engine, "ids").unwrap();
        let lines = Lines {
            is_poison: says == "poison",
            directory,
            says,
        };
        let group = engine.group("billing").topic("orders");
        let consumer = Consumer::claimed(group, store, policy(&named), lines).retry(retry(3));
        let consumer = consumer
            .visibility(VISIBILITY)
            .margin(MARGIN)
            .dead_letter("dlq");
        // One after another, so that a deadly one takes no other with it.
        let runner = consumer.concurrency(1).build().unwrap();
        let consumed = tokio::time::timeout(Duration::from_secs(60), consumed(engine.clone()));
        let summary = runner.run(async { consumed.await.unwrap() }).await.unwrap();
        engine.close().unwrap();
        summary
    })
}

#[test]
fn child_consumes() {
    if let Some(argument) = child::argument() {
        consume(&argument);
    }
}

const CHILD: &str = "crashes::child_consumes";

/// A directory with orders of these ids.
fn orders(ids: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Engine::open(directory.path().join("log")).unwrap();
        engine.ensure_topic("orders", 1).unwrap();
        send(&engine, ids).await;
        engine.close().unwrap();
    });
    directory
}

fn argument(directory: &tempfile::TempDir, policy: &str, says: &str) -> String {
    format!("{} {policy} {says}", directory.path().display())
}

fn lines(directory: &tempfile::TempDir) -> Vec<String> {
    let text = read_to_string(directory.path().join("effects")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Effects, and of how many different keys.
fn effects(directory: &tempfile::TempDir) -> (usize, usize) {
    let mut effects = lines(directory);
    effects.retain(|line| line.starts_with("effect "));
    let count = effects.len();
    effects.dedup();
    (count, effects.len())
}

/// Dies there once, then consumes in this process.
fn dies(at: &str, policy: &str, says: &str) -> (tempfile::TempDir, Summary) {
    let directory = orders(&["A-1"]);
    let argument = argument(&directory, policy, says);
    child::abort(CHILD, &argument, &format!("{at}:abort"));
    let summary = consume(&argument);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let position = runtime.block_on(async {
        let engine = Engine::open(directory.path().join("log")).unwrap();
        position(&engine)
    });
    assert_eq!(position, 1, "acknowledged in the end");
    (directory, summary)
}

#[test]
fn case_17_dead_before_anything_is_written_runs_once() {
    let (directory, summary) = dies("C0", "lease", "unasked");
    assert_eq!((effects(&directory), summary.takeovers), ((1, 1), 0));
}

#[test]
fn case_18_dead_under_a_claim_runs_once() {
    let (directory, summary) = dies("C1", "lease", "not");
    assert_eq!(effects(&directory), (1, 1));
    assert_eq!((summary.takeovers, summary.verified_not_applied), (1, 1));
}

/// Consumes with claims in a file of SQLite, which outlive their process. Looks at it once it is told that somebody else has it.
#[cfg(feature = "sqlite")]
fn consume_by_sqlite(directory: &str, look: impl FnOnce(&Engine) + Send + 'static) -> Summary {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Engine::open(Path::new(directory).join("log")).unwrap();
        let file = Path::new(directory).join("ids.db");
        let store = consumer_inbox::SqliteStore::open(file).unwrap();
        let lines = Lines {
            directory: directory.to_owned(),
            says: "not".to_owned(),
            is_poison: false,
        };
        let group = engine.group("billing").topic("orders");
        let consumer = Consumer::claimed(group, store, LEASE, lines).retry(retry(3));
        let consumer = consumer.visibility(VISIBILITY).margin(MARGIN);
        let runner = consumer.no_dead_letter().build().unwrap();
        let (metrics, watched) = (runner.metrics(), engine.clone());
        let shutdown = async move {
            let began = || metrics.summary().busy > 0 || position(&watched) == 1;
            until("it is busy, or over", began).await;
            look(&watched);
            consumed(watched).await;
        };
        let summary = runner.run(shutdown).await.unwrap();
        engine.close().unwrap();
        summary
    })
}

#[cfg(feature = "sqlite")]
#[test]
fn child_consumes_by_sqlite() {
    if let Some(argument) = child::argument() {
        consume_by_sqlite(&argument, |_| {});
    }
}

#[cfg(feature = "sqlite")]
#[test]
fn case_18_it_is_busy_and_not_acknowledged_until_the_dead_ones_lease_ends() {
    let directory = orders(&["A-1"]);
    let path = directory.path().to_str().unwrap().to_owned();
    child::abort("crashes::child_consumes_by_sqlite", &path, "C1:abort");
    let effects_file = directory.path().join("effects");
    let summary = consume_by_sqlite(&path, move |engine| {
        assert_eq!(position(engine), 0, "acknowledged while busy");
        assert!(!effects_file.exists(), "an effect while busy");
    });
    assert!(summary.busy >= 1, "{summary:?}");
    assert_eq!(effects(&directory), (1, 1));
    let counts = (
        summary.takeovers,
        summary.verified_not_applied,
        summary.runs,
    );
    assert_eq!((counts, summary.done), ((1, 1, 1), 1));
}

#[test]
fn case_19_dead_after_the_effect_it_is_verified_and_not_repeated() {
    let (directory, summary) = dies("C3", "lease", "applied");
    assert_eq!(effects(&directory), (1, 1));
    assert_eq!(
        (summary.runs, summary.verified_applied, summary.done),
        (0, 1, 1)
    );
}

#[test]
fn case_20_what_is_not_verified_is_asked_again_under_the_same_key() {
    let (directory, _) = dies("C3", "lease", "not");
    assert_eq!(effects(&directory), (2, 1));
    let (directory, _) = dies("C3", "lease", "unknown");
    assert_eq!(effects(&directory), (2, 1));
    assert_eq!(lines(&directory)[1], "compensated");
}

#[test]
fn case_21_dead_before_the_acknowledgement_it_is_done() {
    let (directory, summary) = dies("C4", "lease", "unasked");
    assert_eq!((effects(&directory), summary.runs), ((1, 1), 0));
    assert_eq!(summary.redeliveries, 1);
}

#[test]
fn case_22_dead_after_the_acknowledgement_nothing_comes_again() {
    let (directory, summary) = dies("C5", "lease", "unasked");
    assert_eq!((effects(&directory), summary.runs), ((1, 1), 0));
}

#[test]
fn case_23_before_loses_and_after_repeats() {
    let (directory, summary) = dies("C1", "before", "unasked");
    assert_eq!((effects(&directory), summary.redeliveries), ((0, 0), 1));
    let (directory, _) = dies("C3", "after", "unasked");
    assert_eq!(effects(&directory), (2, 1));
}

#[test]
fn case_27_what_kills_the_process_is_parked_and_the_rest_goes_on() {
    let directory = orders(&["A-1", "B-1"]);
    let argument = argument(&directory, "lease", "poison");
    for _ in 0..3 {
        child::abort(CHILD, &argument, "none");
    }
    let summary = consume(&argument);
    assert_eq!(summary.parked, 1);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Engine::open(directory.path().join("log")).unwrap();
        assert_eq!(position(&engine), 2);
        let letters = engine.dead_letters("dlq").unwrap();
        let letters: Vec<_> = letters.map(Result::unwrap).collect();
        assert_eq!(letters.len(), 1);
        assert_eq!(letters[0].biz_id(), Some(&b"A-1"[..]));
        assert_eq!(letters[0].reason(), "attempts-exhausted");
    });
}
