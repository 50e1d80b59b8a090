//! Rules about the sources that no compiler checks: who may know whom, where `unsafe` and the
//! outside world may be, how long a file may be, and that documents name what exists.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking, and counts little; helpers included"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use harness::sources::{root, rust_files};

/// Which of our crates each crate may depend on, and no other.
const LAYERS: [(&str, &[&str]); 10] = [
    ("record-batch", &[]),
    ("sync", &[]),
    ("segment-storage", &["record-batch", "sync"]),
    ("pid-allocator", &["segment-storage", "sync"]),
    (
        "partition-log",
        &["record-batch", "segment-storage", "sync"],
    ),
    (
        "log-engine",
        &[
            "partition-log",
            "pid-allocator",
            "record-batch",
            "segment-storage",
            "sync",
        ],
    ),
    ("consumer-inbox", &["log-engine"]),
    ("oncelog", &["consumer-inbox", "log-engine"]),
    ("simulator", &["oncelog"]),
    ("oncelog-cli", &["oncelog", "simulator"]),
];

/// Packages that may use any crate: nothing depends on them.
const OUTSIDE: [&str; 2] = ["oncelog-tests", "oncelog-benches"];

/// Crates where async must not reach.
const WITHOUT_TOKIO: [&str; 4] = [
    "record-batch",
    "segment-storage",
    "pid-allocator",
    "partition-log",
];

/// The one file with `unsafe`.
const UNSAFE: &str = "crates/segment-storage/src/disk/map.rs";

const LINES_MAX: usize = 500;

/// Files that may be longer, and why.
const LONG_FILES: [(&str, &str); 0] = [];

/// Where time, threads and files may come from: the real disk, the engine's environment and
/// threads, the command, the examples, and what drives tests, models and benches.
const OUTSIDE_WORLD: [&str; 14] = [
    "crates/segment-storage/src/disk/os.rs",
    "crates/segment-storage/src/disk/os/",
    "crates/segment-storage/src/disk/map.rs",
    "crates/segment-storage/src/disk/memory/gate.rs",
    "crates/log-engine/src/env.rs",
    "crates/log-engine/src/core.rs",
    "crates/log-engine/src/blocking.rs",
    "crates/log-engine/src/interleavings.rs",
    "crates/consumer-inbox/src/sqlite/thread.rs",
    "crates/oncelog/src/testing",
    "crates/oncelog-cli/",
    "crates/oncelog/examples/",
    "benches/",
    "tests/",
];

struct Package {
    /// Names of its normal and build dependencies.
    dependencies: BTreeSet<String>,
}

fn packages() -> BTreeMap<String, Package> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let package = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        let dependencies = all
            .filter(|d| d["kind"].as_str() != Some("dev"))
            .map(|d| text(&d["name"]));
        let dependencies = dependencies.collect();
        (text(&package["name"]), Package { dependencies })
    };
    let all = metadata["packages"].as_array().unwrap();
    all.iter().map(package).collect()
}

#[test]
fn crates_depend_on_each_other_as_drawn() {
    let packages = packages();
    let ours: BTreeSet<&str> = packages.keys().map(String::as_str).collect();
    let known: BTreeSet<&str> = LAYERS
        .iter()
        .map(|(name, _)| *name)
        .chain(OUTSIDE)
        .collect();
    assert_eq!(ours, known, "a package that no layer is drawn for");
    for (name, allowed) in LAYERS {
        let found = packages[name].dependencies.iter().map(String::as_str);
        let found: BTreeSet<&str> = found.filter(|d| ours.contains(d)).collect();
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        assert_eq!(found, allowed, "what {name} depends on");
    }
    for (name, package) in &packages {
        for outside in OUTSIDE {
            let depends = package.dependencies.contains(outside);
            assert!(!depends, "{name} depends on {outside}");
        }
    }
}

// What every package of the lock file depends on.
fn locked() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in text.split("[[package]]").skip(1) {
        let quoted = |line: &str| line.split('"').nth(1).map(str::to_owned);
        let name = package
            .lines()
            .find_map(|l| l.strip_prefix("name = ").and_then(quoted));
        let dependencies = package.split("dependencies = [").nth(1).unwrap_or("");
        let names = dependencies.lines().filter_map(quoted);
        let names = names.map(|d| d.split(' ').next().unwrap_or("").to_owned());
        found.entry(name.unwrap()).or_default().extend(names);
    }
    found
}

#[test]
fn async_stops_at_the_engine() {
    let (packages, locked) = (packages(), locked());
    assert!(
        locked["log-engine"].contains("tokio"),
        "the lock file is read"
    );
    for name in WITHOUT_TOKIO {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut next: Vec<String> = packages[name].dependencies.iter().cloned().collect();
        while let Some(at) = next.pop() {
            assert_ne!(at, "tokio", "{name} depends on tokio");
            // Of our own crates the lock file lists what their tests use, too.
            let further = match packages.get(&at) {
                Some(package) => package.dependencies.clone(),
                None => locked.get(&at).cloned().unwrap_or_default(),
            };
            next.extend(further.into_iter().filter(|d| seen.insert(d.clone())));
        }
    }
}

// Lines of code, numbered from 1, without what is behind `//`.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let code = |line| str::split(line, "//").next().unwrap_or("");
    text.lines()
        .map(code)
        .enumerate()
        .map(|(n, line)| (n + 1, line))
}

#[test]
fn unsafe_is_in_one_file() {
    let mut lines = 0;
    for (file, text) in rust_files() {
        for (number, line) in code(&text) {
            let words = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
            if words.iter().any(|word| line.contains(word)) && !line.contains('"') {
                assert_eq!(file, UNSAFE, "line {number}");
                lines += 1;
            }
        }
        let is_root = ["src/lib.rs", "src/main.rs", "harness/lib.rs"];
        if is_root.iter().any(|root| file.ends_with(root)) {
            let lint = match file.starts_with("crates/segment-storage/") {
                true => "#![deny(unsafe_code)]",
                false => "#![forbid(unsafe_code)]",
            };
            assert!(text.contains(lint), "{file} lacks {lint}");
        }
    }
    assert!(lines > 0, "{UNSAFE} has none: it moved");
}

#[test]
fn files_are_short() {
    let mut wrong = Vec::new();
    let files = rust_files();
    for (file, text) in &files {
        let lines = text.lines().count();
        let reason = LONG_FILES.iter().find(|(name, _)| name == file);
        match reason {
            None if lines > LINES_MAX => wrong.push(format!("{file} has {lines} lines")),
            Some(_) if lines <= LINES_MAX => wrong.push(format!("{file} needs no reason any more")),
            Some((_, "")) => wrong.push(format!("{file} has no reason")),
            _ => {}
        }
    }
    assert!(files.len() > 50, "the sources were not found");
    assert!(wrong.is_empty(), "above {LINES_MAX} lines: {wrong:#?}");
}

#[test]
fn time_threads_and_files_come_from_few_places() {
    let words = [
        "SystemTime::now",
        "Instant::now",
        "thread::spawn",
        "thread::Builder",
        "thread::sleep",
        "std::fs",
        "File::open",
        "File::create",
        "RandomState",
    ];
    let mut wrong = Vec::new();
    for (file, text) in rust_files() {
        let is_test = file.contains("/tests/") || file.ends_with("/tests.rs");
        if is_test
            || OUTSIDE_WORLD
                .iter()
                .any(|allowed| file.starts_with(allowed))
        {
            continue;
        }
        // Unit tests are at the end of a file.
        let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
        for (number, line) in code(text) {
            let found = words.iter().filter(|word| has_path(line, word));
            wrong.extend(found.map(|word| format!("{file}:{number}: {word}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

// `SlotFile::open` is not `File::open`.
fn has_path(line: &str, path: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(path)
        .any(|(at, _)| !line[..at].ends_with(is_word))
}

#[test]
fn nothing_is_left_undone_or_ignored() {
    // In two parts, or this file would be found.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("#[", "ignore"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    let mut wrong = Vec::new();
    for (file, text) in rust_files() {
        for (number, line) in text.lines().enumerate() {
            let found = words.iter().filter(|word| line.contains(**word));
            wrong.extend(found.map(|word| format!("{file}:{}: {word}", number + 1)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

// Every `Name::function` or `module::function` in a text.
fn paths(text: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for (at, _) in text.match_indices("::") {
        let owner = text[..at].rsplit(|c| !is_word(c)).next().unwrap_or("");
        let name = text[at + 2..].split(|c| !is_word(c)).next().unwrap_or("");
        let lower = name.starts_with(|c: char| c.is_ascii_lowercase());
        if !owner.is_empty() && lower {
            found.insert((owner.to_owned(), name.to_owned()));
        }
    }
    found
}

#[test]
fn the_architecture_names_functions_that_exist() {
    let document = root().join("docs/architecture.md");
    let text = std::fs::read_to_string(&document).unwrap();
    let named = paths(&text);
    assert!(
        named.len() >= 10,
        "the data path has function names: {named:?}"
    );
    let files = rust_files();
    let sources = || files.iter().filter(|(file, _)| file.starts_with("crates/"));
    let mut missing = Vec::new();
    for (owner, function) in named {
        let call = format!("fn {function}");
        let has_function = |text: &str| {
            let ends = |rest: &str| rest.starts_with(['(', '<']);
            text.match_indices(&call)
                .any(|(at, _)| ends(&text[at + call.len()..]))
        };
        let is_type = owner.starts_with(|c: char| c.is_ascii_uppercase());
        let belongs = |file: &str, text: &str| match is_type {
            true => code(text).any(|(_, line)| {
                let has = |word: &str| {
                    line.split(|c: char| !c.is_alphanumeric() && c != '_')
                        .any(|w| w == word)
                };
                (has("impl") || has("trait")) && has(&owner)
            }),
            false => {
                file.ends_with(&format!("/{owner}.rs")) || file.contains(&format!("/{owner}/"))
            }
        };
        let exists = sources().any(|(file, text)| belongs(file, text) && has_function(text));
        if !exists {
            missing.push(format!("{owner}::{function}"));
        }
    }
    assert!(missing.is_empty(), "docs/architecture.md names {missing:?}");
}
