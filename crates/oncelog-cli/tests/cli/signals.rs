//! Signals and closed pipes: a clean end, and the summary so far.

use std::io::{BufRead, BufReader, Write};

use crate::harness::{Place, ended, signal, until};

#[test]
fn a_reader_that_has_enough_ends_the_command_quietly() {
    let place = Place::new();
    let input = (0..50_000)
        .map(|n| format!("record {n}\n"))
        .collect::<String>();
    place.run_with_input(&["produce", "t"], &input).code(0);
    for args in [&["consume", "t"][..], &["consume", "t", "--json"]] {
        let mut child = place.start(args);
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        assert!(first.contains("record 0"), "{first}");
        // The pipe is closed now, with more to come than it holds.
        let ran = ended(child).code(0);
        assert_eq!(ran.stderr, "");
    }
    let ran = place
        .shell("oncelog consume t 2> errors | head -n 2; cat errors >&2")
        .code(0);
    assert_eq!(
        (ran.text(), ran.stderr.as_str()),
        ("record 0\nrecord 1\n", "")
    );
}

#[test]
fn produce_prints_what_was_acknowledged_when_it_is_told_to_end() {
    for name in ["TERM", "INT"] {
        let place = Place::new();
        place.run(&["topic", "create", "t"]).code(0);
        let mut writer = place.start(&["produce", "t", "--json", "--linger-ms", "1"]);
        writer
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"one\ntwo\nthree")
            .unwrap();
        // The first two can be read when they are acknowledged; the third has no end yet.
        let read = place
            .run(&["consume", "t", "--follow", "--max", "2"])
            .code(0);
        assert_eq!(read.text(), "one\ntwo\n");
        signal(&writer, name);
        // Its input stays open: only the signal can have ended it.
        let input = writer.stdin.take();
        let ran = ended(writer).code(1).says(&["interrupted"]);
        drop(input);
        assert_eq!(ran.json()["records"], 2);
        assert_eq!(place.run(&["consume", "t"]).code(0).text(), "one\ntwo\n");
    }
}

#[test]
fn following_ends_with_0_when_it_is_told_to() {
    for name in ["TERM", "INT"] {
        let place = Place::new();
        place
            .run_with_input(&["produce", "t", "--partitions", "2"], "one\n")
            .code(0);
        let mut reader = place.start(&["consume", "t", "--follow"]);
        let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "one");
        // It waits now, and sees what another process appends.
        place.run_with_input(&["produce", "t"], "two\n").code(0);
        assert_eq!(lines.next().unwrap().unwrap(), "two");
        signal(&reader, name);
        assert!(lines.next().is_none());
        ended(reader).code(0).says(&["2 records"]);
    }
}

#[test]
fn a_demo_that_is_told_to_end_judges_what_it_sent() {
    let place = Place::new();
    let args = [
        "demo",
        "--records",
        "1000000000",
        "--producers",
        "4",
        "--json",
        "--data",
        "d",
    ];
    let mut child = place.start(&args);
    // Sending has begun when the log can be described.
    let describe = ["topic", "describe", "demo", "--json", "--data", "d"];
    until(&mut child, || {
        let ran = place.run(&describe);
        ran.code == Some(0) && ran.json()["records"].as_u64().unwrap() > 0
    });
    signal(&child, "TERM");
    let ran = ended(child).code(1).says(&["interrupted"]);
    let result = ran.json();
    assert!(result["sent"].as_u64().unwrap() > 0);
    assert_eq!(result["stored"], result["sent"]);
    assert_eq!(
        (&result["duplicated"], &result["lost"]),
        (&0.into(), &0.into())
    );
}
