//! The checker as a command, for scripts that take the disk away under the writer: `tests/power_loss`.

use std::path::PathBuf;

use harness::history::Loss;
use oncelog::{Engine, inspect};

use crate::told::Told;
use crate::writer::DIRECTORY;

/// Files with what each process said, in order, separated by `:`.
const SAID: &str = "ONCELOG_CHECK_SAID";
/// `nothing`, or `tail`: what may be missing from the topic of the sessions.
const LOSS: &str = "ONCELOG_CHECK_LOSS";

// A tail that an earlier life lost may be missing now, too.
#[test]
fn checks_what_was_said_when_asked() {
    let Ok(said) = std::env::var(SAID) else {
        return;
    };
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let allowed = match std::env::var(LOSS).unwrap().as_str() {
        "nothing" => Loss::Nothing,
        "tail" => Loss::Tail,
        other => panic!("{LOSS}={other}: nothing or tail"),
    };
    let mut told = Told::default();
    for file in said.split(':') {
        let bytes = std::fs::read(file).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<String> = text
            .lines()
            .skip_while(|line| *line != "opening")
            .take_while(|line| !line.starts_with("test result") && !line.is_empty())
            .map(str::to_owned)
            .collect();
        told.note(&lines);
    }
    let report = inspect::verify(&directory).unwrap();
    assert!(report.ok, "before opening: {:?}", report.problems);
    let engine = Engine::open(&directory).unwrap();
    let mut records = told.check(allowed, &engine, "opened");
    let mut resolved = 0;
    if allowed == Loss::Nothing {
        resolved = told.resolve(&engine);
        records = told.check(allowed, &engine, "resolved");
    }
    engine.close().unwrap();
    drop(engine);
    let report = inspect::verify(&directory).unwrap();
    assert!(report.ok, "after closing: {:?}", report.problems);
    println!(
        "\nCHECKED {} answers, {} shown, {records} records, {resolved} resolved",
        told.history.answers() + told.stored,
        told.history.shown()
    );
}
