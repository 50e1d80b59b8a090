//! Documents name what exists: tests, files, and each other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking; helpers included"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use harness::sources::{root, rust_files};

/// `README.md` and all documents, with their texts.
fn documents() -> Vec<(PathBuf, String)> {
    let mut found = vec![root().join("README.md")];
    for directory in ["docs", "docs/decisions"] {
        let entries = std::fs::read_dir(root().join(directory)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|e| e == "md")));
    }
    let text = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path, text)
    };
    found.into_iter().map(text).collect()
}

#[test]
fn the_guarantees_name_tests_that_exist() {
    let text = std::fs::read_to_string(root().join("docs/guarantees.md")).unwrap();
    let quoted = text.split('`').skip(1).step_by(2);
    let is_test = |word: &&str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        word.matches('_').count() >= 3 && word.chars().all(plain)
    };
    let named: BTreeSet<&str> = quoted.filter(is_test).collect();
    assert!(named.len() > 30, "the tables name tests: {named:?}");
    let mut tests = BTreeSet::new();
    for (_, text) in rust_files() {
        for (at, _) in text.match_indices("test]") {
            let code = text[at..].split_once("fn ").map(|(_, code)| code);
            let name = code.and_then(|code| code.split(['(', '<']).next());
            tests.extend(name.map(str::to_owned));
        }
    }
    let missing: Vec<_> = named.iter().filter(|n| !tests.contains(**n)).collect();
    assert!(missing.is_empty(), "docs/guarantees.md names {missing:?}");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    let mut links = 0;
    for (path, text) in documents() {
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#']).next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            links += 1;
            if !path.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(links > 20, "links are found");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_decision_is_in_the_list_by_its_title() {
    let documents = documents();
    let is_decision = |path: &Path| path.parent().unwrap().ends_with("decisions");
    let all = documents.iter().filter(|(path, _)| is_decision(path));
    let (list, pages): (Vec<_>, Vec<_>) = all.partition(|(path, _)| path.ends_with("README.md"));
    assert!(pages.len() > 9);
    for (path, text) in pages {
        let file = path.file_name().unwrap().to_str().unwrap();
        let (number, title) = text.lines().next().unwrap().split_once(": ").unwrap();
        let number = number.trim_start_matches("# ");
        assert!(file.starts_with(number), "{file} begins with # {number}");
        let row = format!("| [{number}]({file}) | {title} |");
        assert!(list[0].1.lines().any(|line| line == row), "no row {row}");
    }
}
