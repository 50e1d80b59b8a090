//! The main job in one go.

use serde_json::Value;

use crate::harness::{Place, has_fields};

fn demo(args: &[&str]) -> Value {
    let place = Place::new();
    let mut all = vec!["demo", "--records", "20000", "--producers", "20", "--json"];
    all.extend(args);
    let mut result = place.run(&all).code(0).json();
    assert_eq!(
        std::fs::read_dir(place.path()).unwrap().count(),
        0,
        "it left files here"
    );
    has_fields(
        &result,
        &[
            "sent",
            "retransmitted",
            "restarts",
            "stored",
            "unique",
            "duplicated",
            "lost",
            "seed",
            "elapsed_ms",
        ],
    );
    result
        .as_object_mut()
        .unwrap()
        .remove("elapsed_ms")
        .unwrap();
    result
}

#[test]
fn every_record_is_stored_once() {
    let result = demo(&["--seed", "42"]);
    for (field, value) in [
        ("sent", 20_000),
        ("stored", 20_000),
        ("unique", 20_000),
        ("duplicated", 0),
        ("lost", 0),
        ("restarts", 0),
        ("seed", 42),
    ] {
        assert_eq!(result[field], value, "{field}");
    }
    assert!(result["retransmitted"].as_u64().unwrap() > 0);
    assert_eq!(result["duplicates_answered"], result["retransmitted"]);
}

#[test]
fn the_same_seed_gives_the_same_counts_and_another_one_others() {
    let first = demo(&["--seed", "0x2a", "--lost-ack", "0.3"]);
    assert_eq!(demo(&["--seed", "42", "--lost-ack", "0.3"]), first);
    let other = demo(&["--seed", "43", "--lost-ack", "0.3"]);
    assert_ne!(other["retransmitted"], first["retransmitted"]);
}

#[test]
fn nine_of_ten_acknowledgements_may_be_lost() {
    let result = demo(&["--seed", "1", "--lost-ack", "0.9"]);
    assert_eq!(
        (&result["duplicated"], &result["lost"]),
        (&0.into(), &0.into())
    );
    // Each batch is sent ten times on average.
    let resent = result["retransmitted"].as_u64().unwrap();
    assert!((120_000..260_000).contains(&resent), "{resent}");
}

#[test]
fn without_idempotence_what_is_sent_again_is_there_twice() {
    let with = demo(&["--seed", "42"]);
    let without = demo(&["--seed", "42", "--no-idempotence"]);
    assert_eq!(without["retransmitted"], with["retransmitted"]);
    assert_eq!(without["duplicated"], with["retransmitted"]);
    assert_eq!(without["unique"], 20_000);
    assert_eq!(without["lost"], 0);
}

#[test]
fn people_get_a_table_and_the_log_stays_where_they_asked_for_it() {
    let place = Place::new();
    let ran = place
        .run(&[
            "demo",
            "--records",
            "1000",
            "--seed",
            "42",
            "--data",
            "here",
        ])
        .code(0);
    let lines: Vec<&str> = ran.text().lines().collect();
    let heads: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(heads, ["sent", "resent", "stored", "duplicated", "lost"]);
    let numbers: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(
        (numbers[0], numbers[2], numbers[3], numbers[4]),
        ("1,000", "1,000", "0", "0")
    );
    assert!(
        ran.text().contains("seed 42: duplicated 0, lost 0"),
        "{ran:?}"
    );
    let read = place.run(&["consume", "demo", "--data", "here"]).code(0);
    assert_eq!(read.text().lines().count(), 1_000);
    assert!(read.text().starts_with("producer 000"));
}
