//! `docs/consumer-conformance.md` says which cases of the consumer's half have a test, for each store. It is made of the tests: a test of
//! case 42 is called `case_42_…`, or comes from the suite that a store takes in by one of the macros of `consumer_inbox::conformance`.
//!
//! `UPDATE_DOCS=1 cargo test -p oncelog-tests --test consumer_conformance` writes it anew.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking; helpers included"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use harness::sources::{root, rust_files};

const CASES: u32 = 80;

/// Column, heading, and where its tests are.
const COLUMNS: [(&str, &str, &[&str]); 8] = [
    ("memory", "memory", &["tests/memory.rs"]),
    ("log", "log", &["tests/embedded/"]),
    ("sqlite", "SQLite", &["tests/sqlite/"]),
    ("postgres", "PostgreSQL", &["tests/postgres/"]),
    ("redis", "Redis", &["tests/redis/"]),
    ("tiered", "Redis, then PostgreSQL", &["tests/tiered/"]),
    (
        "write-behind",
        "Redis, written behind",
        &["tests/write_behind/"],
    ),
    ("runner", "runner", &["tests/runner/", "src/machine/"]),
];

struct Case {
    number: u32,
    section: &'static str,
    title: &'static str,
    /// The test lets a process die.
    dies: bool,
    applies: BTreeSet<&'static str>,
}

fn cases() -> Vec<Case> {
    let text = include_str!("fixtures/consumer-conformance.csv");
    let case = |line: &'static str| {
        let fields: Vec<&str> = line.split('|').collect();
        let [number, section, title, dies, applies] = fields[..] else {
            panic!("{line:?} has not five fields")
        };
        Case {
            number: number.parse().unwrap(),
            section,
            title,
            dies: dies == "yes",
            applies: applies.split(' ').collect(),
        }
    };
    text.lines().skip(1).map(case).collect()
}

/// Cases that do not apply to a store, and why.
struct Not {
    cases: &'static str,
    stores: Vec<&'static str>,
    reason: &'static str,
}

impl Not {
    fn has(&self, number: u32) -> bool {
        self.cases.split(' ').any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            (first.parse().unwrap()..=last.parse().unwrap()).contains(&number)
        })
    }
}

fn nots() -> Vec<Not> {
    let text = include_str!("fixtures/consumer-conformance-not.csv");
    let not = |line: &'static str| {
        let fields: Vec<&str> = line.split('|').collect();
        let [cases, stores, reason] = fields[..] else {
            panic!("{line:?} has not three fields")
        };
        Not {
            cases,
            stores: stores.split(' ').collect(),
            reason,
        }
    };
    text.lines().skip(1).map(not).collect()
}

/// Numbers behind `case_`, wherever that is in a line.
fn numbers(line: &str) -> impl Iterator<Item = u32> {
    let parts = line.split("case_").skip(1);
    parts.flat_map(|part| {
        // `case_31_and_32_…` is a test of two.
        let mut words = part.split(['_', '(', ' ', ')', ';']);
        let first = words.next().and_then(|word| word.parse().ok());
        let second = match words.next() {
            Some("and") => words.next().and_then(|word| word.parse().ok()),
            _ => None,
        };
        first.into_iter().chain(second)
    })
}

/// The cases that each macro of the suite makes tests of.
fn suites(text: &str) -> BTreeMap<String, Vec<u32>> {
    let mut suites: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("macro_rules! ") {
            current = name.split(' ').next();
        } else if let Some(name) = current {
            suites
                .entry(name.to_owned())
                .or_default()
                .extend(numbers(line));
        }
    }
    suites
}

/// Cases with a test, by column.
fn tested() -> BTreeMap<&'static str, BTreeSet<u32>> {
    let files = rust_files();
    let of = |wanted: &str| {
        let path = format!("crates/consumer-inbox/{wanted}");
        files
            .iter()
            .filter(move |(file, _)| file.starts_with(&path))
    };
    let (_, suite) = of("src/conformance.rs").next().unwrap();
    let suites = suites(suite);
    assert_eq!(suites["dedup_store_conformance"].len(), 24, "{suites:?}");
    let mut tested = BTreeMap::new();
    for (column, _, places) in COLUMNS {
        let mut found = BTreeSet::new();
        for (_, text) in places.iter().flat_map(|place| of(place)) {
            for line in text.lines() {
                let line = line.trim_start();
                if line.starts_with("fn case_") || line.starts_with("async fn case_") {
                    found.extend(numbers(line));
                }
                let taken = line.strip_prefix("consumer_inbox::");
                let taken = taken.and_then(|line| suites.get(line.split('!').next()?));
                found.extend(taken.into_iter().flatten());
            }
        }
        tested.insert(column, found);
    }
    tested
}

/// In which columns a case waits for its test.
fn waiting(case: &Case, tested: &BTreeMap<&str, BTreeSet<u32>>) -> Vec<&'static str> {
    let lacks = |column: &&str| !tested[*column].contains(&case.number);
    case.applies.iter().copied().filter(lacks).collect()
}

fn document() -> String {
    let (cases, tested) = (cases(), tested());
    let pairs: usize = cases.iter().map(|case| case.applies.len()).sum();
    let waits: usize = cases.iter().map(|case| waiting(case, &tested).len()).sum();
    let mut text = format!(
        "# Conformance of consumers\n\n\
         The {CASES} cases of the consumer's half: what must come out wherever a consumer, a store or a connection dies. Each \
         store passes those that apply to it, with the same tests where that is possible. *dies*: a process is killed there; of the log the power of a \
         simulated disk is cut at each step, and what is in memory alone is dropped. {} of {pairs} pairs of case and store have a test, {waits} wait. The \
         suite's own answers are held to this table when it runs: a case that says that it does not apply fails where this says that it passes.\n\n\
         Generated by `tests/consumer_conformance.rs` from the tests; `UPDATE_DOCS=1 cargo test -p oncelog-tests --test \
         consumer_conformance` writes it anew.\n",
        pairs - waits
    );
    let mut section = "";
    for case in &cases {
        if case.section != section {
            section = case.section;
            write!(text, "\n## {section}\n\n| case | what | dies |").unwrap();
            for (_, heading, _) in COLUMNS {
                write!(text, " {heading} |").unwrap();
            }
            write!(text, "\n|---:|---|---|{}\n", "---|".repeat(COLUMNS.len())).unwrap();
        }
        let dies = if case.dies { "yes" } else { "" };
        write!(text, "| {} | {} | {dies} |", case.number, case.title).unwrap();
        for (column, _, _) in COLUMNS {
            let is_tested = tested[column].contains(&case.number);
            let applies = case.applies.contains(column);
            let cell = match (applies, is_tested) {
                (true, true) => "passes",
                (true, false) => "waits",
                (false, _) => "–",
            };
            write!(text, " {cell} |").unwrap();
        }
        text.push('\n');
    }
    text.push_str("\n## What does not apply, and why\n\n| cases | of | because |\n|---|---|---|\n");
    for not in nots() {
        let heading = |store: &&str| {
            COLUMNS
                .iter()
                .find(|(column, ..)| column == store)
                .unwrap()
                .1
        };
        let stores: Vec<&str> = not.stores.iter().map(heading).collect();
        let cases = not.cases.replace('-', "–").replace(' ', ", ");
        writeln!(text, "| {cases} | {} | {} |", stores.join("; "), not.reason).unwrap();
    }
    text
}

#[test]
fn every_case_has_a_row() {
    let numbers: Vec<u32> = cases().iter().map(|case| case.number).collect();
    assert_eq!(numbers, (1..=CASES).collect::<Vec<_>>());
    let columns: BTreeSet<&str> = COLUMNS.iter().map(|(column, ..)| *column).collect();
    for not in nots() {
        let stores = not.stores.iter();
        assert!(stores.into_iter().all(|store| columns.contains(store)));
    }
    for case in cases() {
        assert!(case.applies.is_subset(&columns), "case {}", case.number);
    }
    for (column, found) in tested() {
        let unknown: Vec<_> = found.iter().filter(|n| !(1..=CASES).contains(*n)).collect();
        assert!(unknown.is_empty(), "{column} has tests of {unknown:?}");
    }
}

/// Each cell either passes or has one reason why not.
#[test]
fn what_does_not_apply_has_a_reason() {
    let nots = nots();
    for case in cases() {
        for (column, ..) in COLUMNS {
            let number = case.number;
            let is_reason = |not: &&Not| not.has(number) && not.stores.contains(&column);
            let is = nots.iter().filter(is_reason).count();
            let applies = case.applies.contains(column);
            assert_eq!(is, usize::from(!applies), "case {number} of {column}");
        }
    }
}

/// What is finished stays finished.
#[test]
fn no_case_of_the_finished_stores_waits() {
    let tested = tested();
    let finished = [
        "memory",
        "log",
        "sqlite",
        "postgres",
        "redis",
        "tiered",
        "write-behind",
    ];
    for case in cases() {
        let waits = waiting(&case, &tested);
        let due: Vec<_> = waits
            .iter()
            .filter(|column| finished.contains(column))
            .collect();
        assert!(
            due.is_empty(),
            "case {} has no test in {due:?}",
            case.number
        );
    }
}

#[test]
fn the_document_is_up_to_date() {
    let path = root().join("docs/consumer-conformance.md");
    let document = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == document,
        "docs/consumer-conformance.md differs; run UPDATE_DOCS=1 cargo test -p oncelog-tests --test consumer_conformance"
    );
}
