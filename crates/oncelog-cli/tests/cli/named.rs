//! `produce --name`: the same input again sends only what is missing.

use serde_json::Value;

use crate::harness::{Place, has_fields};

fn lines(range: std::ops::Range<u32>) -> String {
    range.map(|n| format!("k{},{n}\n", n % 5)).collect()
}

/// Sends lines 1 to `end` under a name.
fn send(place: &Place, name: &str, end: u32) -> Value {
    let args = "produce t --key-column 1 --partitions 2 --batch-records 7 --json --name";
    let args: Vec<&str> = args.split(' ').chain([name]).collect();
    place.run_with_input(&args, lines(0..end)).code(0).json()
}

#[test]
fn the_same_input_again_is_skipped_and_what_was_added_is_sent() {
    let place = Place::new();
    let first = send(&place, "feed", 100);
    has_fields(&first, &["records", "skipped", "producer_id", "epoch"]);
    assert_eq!(
        (&first["records"], &first["skipped"]),
        (&100.into(), &0.into())
    );
    for epoch in 1..4 {
        let again = send(&place, "feed", 100);
        assert_eq!(
            (&again["records"], &again["skipped"]),
            (&0.into(), &100.into())
        );
        assert_eq!(again["producer_id"], first["producer_id"]);
        assert_eq!(again["epoch"], epoch);
    }
    let more = send(&place, "feed", 130);
    assert_eq!(
        (&more["records"], &more["skipped"]),
        (&30.into(), &100.into())
    );
    // Another name is another producer, without a name nobody is known.
    assert_eq!(send(&place, "other", 10)["records"], 10);
    let consumed = place.run(&["consume", "t", "--json"]).code(0).json_lines();
    assert_eq!(consumed.len(), 140);
    // Each batch says how far the source goes with it; the log's own header is not shown.
    for line in consumed {
        assert_eq!(line["headers"], Value::Array(Vec::new()));
        let number: u64 = line["value"].as_str().unwrap()[3..].parse().unwrap();
        let position = line["source_position"].as_u64().unwrap();
        assert!(position > number, "{line}");
    }
}

#[test]
fn a_file_and_standard_input_have_the_same_positions_and_the_header_line_counts() {
    let place = Place::new();
    let text = format!("key,number\n{}", lines(0..50));
    place.write("in.csv", &text);
    let args = "produce t --name f --header-line --key-column key --json --file";
    let run = |file: &'static str, input: &str| {
        let args: Vec<&str> = args.split(' ').chain([file]).collect();
        place.run_with_input(&args, input).code(0).json()
    };
    assert_eq!(run("in.csv", "")["records"], 50);
    let again = run("-", &text);
    assert_eq!(
        (&again["records"], &again["skipped"]),
        (&0.into(), &50.into())
    );
    let more = run("-", &format!("{text}k9,51"));
    assert_eq!(
        (&more["records"], &more["skipped"]),
        (&1.into(), &50.into())
    );
    let all = place.run(&["consume", "t", "--json"]).code(0).json_lines();
    assert_eq!(all.len(), 51);
    assert_eq!(all.last().unwrap()["source_position"], 52);
}

#[test]
fn records_without_a_key_go_to_the_partition_of_their_line() {
    let place = Place::new();
    let args = "produce t --name f --partitions 3 --batch-records 4";
    let args: Vec<&str> = args.split(' ').collect();
    for end in [10, 20, 30] {
        place.run_with_input(&args, lines(0..end)).code(0);
    }
    for partition in ["0", "1", "2"] {
        let args = ["consume", "t", "--partition", partition];
        let read = place.run(&args).code(0);
        let lines: Vec<u64> = read
            .text()
            .lines()
            .map(|l| l[3..].parse().unwrap())
            .collect();
        let remainder = |line: &u64| (line + 1) % 3;
        assert_eq!(lines.len(), 10);
        assert!(
            lines
                .iter()
                .all(|line| remainder(line).to_string() == partition)
        );
        assert!(lines.is_sorted());
    }
}

#[test]
fn producers_are_shown_with_their_names() {
    let place = Place::new();
    send(&place, "feed-7", 10);
    place.run_with_input(&["produce", "t"], "x\n").code(0);
    let all = place
        .run(&["producers", "t", "--json"])
        .code(0)
        .json_lines();
    let names: Vec<_> = all
        .iter()
        .map(|producer| producer["name"].clone())
        .collect();
    assert!(
        names.contains(&"feed-7".into()) && names.contains(&Value::Null),
        "{names:?}"
    );
    assert!(place.run(&["producers"]).code(0).text().contains("feed-7"));
}

#[test]
fn a_topic_with_more_partitions_than_the_name_knows_is_refused() {
    let place = Place::new();
    send(&place, "feed", 10);
    let engine = oncelog::Engine::open(place.path().join("oncelog-data")).unwrap();
    engine.add_partitions("t", 3).unwrap();
    engine.close().unwrap();
    let args = ["produce", "t", "--name", "feed", "--key-column", "1"];
    let ran = place.run_with_input(&args, lines(0..20)).code(1);
    ran.says(&[
        "line 1",
        "\"feed\" wrote to 2 partitions",
        "has 3",
        "another --name",
    ]);
    assert_eq!(
        place.run(&["consume", "t"]).code(0).text().lines().count(),
        10
    );
}

#[test]
fn a_changed_topic_level_and_a_second_topic_do_not_confuse_a_name() {
    let place = Place::new();
    for topic in ["a", "b"] {
        for records in [5, 0] {
            let args = ["produce", topic, "--name", "f", "--json"];
            let ran = place.run_with_input(&args, lines(0..5)).code(0).json();
            assert_eq!(ran["records"], records, "{topic}");
        }
    }
    // A topic made again is another one.
    place.run(&["topic", "delete", "a"]).code(0);
    let args = ["produce", "a", "--name", "f", "--json", "--ack", "memory"];
    let ran = place.run_with_input(&args, lines(0..5)).code(0).json();
    assert_eq!(ran["records"], 5);
}
