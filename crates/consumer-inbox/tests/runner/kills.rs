//! Consumers with transactions, killed at each place, over each store (31, 32, 41, 48).

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use crate::common::child;
use crate::home::{Home, homes};

const CHILD: &str = "kills::child_consumes";

#[test]
fn child_consumes() {
    if let Some(argument) = child::argument() {
        Home::of(&argument).consume();
    }
}

fn once(ids: &[&str]) -> BTreeMap<String, usize> {
    ids.iter().map(|id| ((*id).to_owned(), 1)).collect()
}

#[test]
fn case_31_and_32_killed_anywhere_the_effect_is_there_once() {
    for (at, committed) in [
        ("C0", 0),
        ("C1", 0),
        ("C2", 0),
        ("C3", 0),
        ("C4", 1),
        ("C5", 1),
    ] {
        homes(&["A-1", "B-1"], |home| {
            let store = &home.store;
            // The second one, so that there is something to keep. Databases pass these places themselves, too.
            let is_twice = store != "embedded" && ["C1", "C3", "C4"].contains(&at);
            let nth = if is_twice { 3 } else { 2 };
            child::abort(CHILD, &home.argument(), &format!("{at}:abort:{nth}"));
            let kept = ["A-1", "B-1"].split_at(1 + committed).0.to_vec();
            assert_eq!(home.effects(), once(&kept), "{store} at {at}");
            let summary = home.consume();
            assert_eq!(home.effects(), once(&["A-1", "B-1"]), "{store} at {at}");
            // What is committed is not even delivered.
            let duplicates = summary.redeliveries + summary.republications;
            let runs = u64::from(committed == 0);
            assert_eq!(
                (summary.runs, summary.done, duplicates),
                (runs, runs, 0),
                "{store} at {at}"
            );
        });
    }
}

#[test]
fn case_41_a_dead_letter_is_there_once_wherever_it_dies() {
    for at in ["C3", "C4", "C5", "Sent"] {
        homes(&["K/bad", "K/ok"], |home| {
            let store = &home.store;
            child::abort(CHILD, &home.argument(), &format!("{at}:abort"));
            home.consume();
            let letters = [(0, "attempts-exhausted".to_owned())];
            assert_eq!(home.letters(), letters, "{store} at {at}");
            assert_eq!(home.effects(), once(&["K/ok"]), "{store} at {at}");
        });
    }
}

/// The first half of a batch, which was being written behind the last one of that file.
fn half_a_batch(file: &Path) {
    let bytes = std::fs::read(file).unwrap();
    let number = |at: usize, len: usize| {
        let bytes = &bytes[at..at + len];
        bytes
            .iter()
            .fold(0_usize, |n, byte| n << 8 | usize::from(*byte))
    };
    let mut end = 0;
    let mut batch = 0..0;
    while end + 12 <= bytes.len() && number(end + 8, 4) > 0 {
        batch = end..end + 12 + number(end + 8, 4);
        end = batch.end;
    }
    assert!(batch.len() > 61, "a batch");
    let next = u64::try_from(number(batch.start, 8) + number(batch.start + 23, 4) + 1).unwrap();
    let mut torn = bytes[batch].to_vec();
    torn[..8].copy_from_slice(&next.to_be_bytes());
    torn.truncate(torn.len() / 2);
    let mut file = OpenOptions::new().write(true).open(file).unwrap();
    file.seek(SeekFrom::Start(u64::try_from(end).unwrap()))
        .unwrap();
    file.write_all(&torn).unwrap();
}

#[test]
fn case_48_half_a_batch_behind_the_last_one_is_cut_off() {
    homes(&["A-1", "B-1"], |home| {
        if home.store != "embedded" {
            return;
        }
        child::abort(CHILD, &home.argument(), "C3:abort:2");
        let log = home.directory.join("log/__ids-billing-0");
        let files = std::fs::read_dir(log)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut logs: Vec<_> = files
            .filter(|path| path.extension().is_some_and(|e| e == "log"))
            .collect();
        logs.sort();
        half_a_batch(logs.last().unwrap());
        assert_eq!(home.effects(), once(&["A-1"]));
        let summary = home.consume();
        assert_eq!(home.effects(), once(&["A-1", "B-1"]));
        assert_eq!((summary.runs, summary.done), (1, 1));
    });
}
