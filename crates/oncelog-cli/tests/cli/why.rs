//! `why`: what an append would be answered, beside a writer or not.

use std::io::Write;

use serde_json::Value;

use crate::harness::{Place, ended, has_fields};

fn why(place: &Place, question: (i64, i16, i32), count: Option<&str>) -> Value {
    let (id, epoch, sequence) = question;
    let numbers = [id.to_string(), epoch.to_string(), sequence.to_string()];
    let options = ["--producer-id", "--epoch", "--sequence"];
    let mut args = vec!["why", "t", "0", "--json"];
    for (option, number) in options.into_iter().zip(&numbers) {
        args.extend([option, number]);
    }
    if let Some(count) = count {
        args.extend(["--count", count]);
    }
    place.run(&args).code(0).json()
}

/// Ten batches of three records each, by a producer without a name; its id.
fn filled() -> (Place, i64) {
    let place = Place::new();
    let input = (0..30).map(|n| format!("{n}\n")).collect::<String>();
    let args = ["produce", "t", "--batch-records", "3", "--json"];
    let ran = place.run_with_input(&args, input).code(0).json();
    (place, ran["producer_id"].as_i64().unwrap())
}

#[test]
fn each_question_gets_its_decision_and_rule() {
    let (place, id) = filled();
    for (question, count, decision, rule, offset, expected) in [
        ((id, 0, 30), Some("5"), "append", "D11", Some(30), Some(30)),
        (
            (id, 0, 27),
            Some("3"),
            "duplicate",
            "D2",
            Some(27),
            Some(30),
        ),
        // The number of records is that of the batch which begins there.
        ((id, 0, 15), None, "duplicate", "D2", Some(15), Some(30)),
        (
            (id, 0, 12),
            Some("3"),
            "out_of_order",
            "D14",
            None,
            Some(30),
        ),
        (
            (id, 0, 27),
            Some("1"),
            "out_of_order",
            "D13",
            None,
            Some(30),
        ),
        ((id, 0, 31), None, "out_of_order", "D12", None, Some(30)),
        ((id, 1, 0), None, "append", "D7", Some(30), Some(0)),
        ((id, 1, 30), None, "out_of_order", "D8", None, Some(0)),
        ((id + 1, 0, 0), None, "append", "D6", Some(30), Some(0)),
        ((id + 1, 0, 4), None, "unknown", "D6", None, Some(0)),
        ((-1, -1, -1), None, "append", "D0", Some(30), None),
        ((id, 0, -4), None, "invalid", "D1", None, None),
    ] {
        let told = why(&place, question, count);
        let rule_of = (told["decision"].as_str(), told["rule"].as_str());
        assert_eq!(rule_of, (Some(decision), Some(rule)), "{question:?} {told}");
        let numbers = (told["offset"].as_u64(), told["expected_sequence"].as_i64());
        assert_eq!(numbers, (offset, expected), "{question:?} {told}");
    }
    let window = &why(&place, (id, 0, 0), None)["window"];
    assert_eq!(window.as_array().unwrap().len(), 5);
    has_fields(
        &window[0],
        &["first_sequence", "last_sequence", "base_offset", "count"],
    );
    assert_eq!(
        (&window[4]["first_sequence"], &window[4]["base_offset"]),
        (&27.into(), &27.into())
    );
}

#[test]
fn people_see_the_window_with_what_they_asked_for_marked() {
    let (place, id) = filled();
    let id = id.to_string();
    let args = [
        "why",
        "t",
        "0",
        "--producer-id",
        &id,
        "--epoch",
        "0",
        "--sequence",
        "21",
    ];
    let ran = place.run(&args).code(0);
    let lines: Vec<&str> = ran.text().lines().collect();
    assert_eq!(lines[0], "duplicate (D2): in the log already, at offset 21");
    assert_eq!(lines[3], "[15..17] [18..20] [21..23] [24..26] [27..29] ->");
    assert_eq!(lines[4], "                  ^^^^^^^^ asked");
}

#[test]
fn what_a_newer_holder_of_a_name_fenced_is_told_so() {
    let place = Place::new();
    let send = |input: &str| {
        let args = ["produce", "t", "--name", "f", "--json"];
        place.run_with_input(&args, input).code(0).json()
    };
    let id = send("1\n")["producer_id"].as_i64().unwrap();
    assert_eq!(send("1\n2\n")["epoch"], 1);
    let told = why(&place, (id, 0, 1), None);
    assert_eq!(
        (&told["decision"], &told["rule"]),
        (&"fenced".into(), &"D4".into())
    );
    assert_eq!(told["current_epoch"], 1);
}

#[test]
fn it_appends_nothing_and_works_beside_a_writer() {
    let place = Place::new();
    let mut writer = place.start(&["produce", "t", "--linger-ms", "1"]);
    writer.stdin.as_mut().unwrap().write_all(b"1\n").unwrap();
    loop {
        let producers = place.run(&["producers", "t", "--json"]);
        if producers.code == Some(0) && !producers.stdout.is_empty() {
            let id = producers.json()["producer_id"].as_i64().unwrap();
            for _ in 0..2 {
                let told = why(&place, (id, 0, 1), None);
                assert_eq!(
                    (&told["decision"], &told["offset"]),
                    (&"append".into(), &1.into())
                );
            }
            break;
        }
        assert!(writer.try_wait().unwrap().is_none(), "the command ended");
    }
    drop(writer.stdin.take());
    ended(writer).code(0);
    assert_eq!(place.run(&["consume", "t"]).code(0).text(), "1\n");
    let args = "why t 1 --producer-id 1 --epoch 0 --sequence 0";
    let args: Vec<&str> = args.split(' ').collect();
    place.run(&args).code(2).says(&["partitions 0"]);
}
