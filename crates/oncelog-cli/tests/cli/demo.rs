//! The main job in one go.

use serde_json::Value;

use crate::harness::{Place, has_fields};

fn demo(args: &[&str]) -> Value {
    let place = Place::new();
    let mut all = vec!["demo", "--records", "20000", "--json"];
    if !args.contains(&"--producers") {
        all.extend(["--producers", "20"]);
    }
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
        ("seed", 42),
    ] {
        assert_eq!(result[field], value, "{field}");
    }
    // Only what lost its answer is sent again, and the log knows all of it.
    assert!(result["retransmitted"].as_u64().unwrap() > 0);
    assert_eq!(result["duplicates_answered"], result["retransmitted"]);
    // About one in 2,000 records, fewer where a restart is under way.
    let restarts = result["restarts"].as_u64().unwrap();
    assert!((3..30).contains(&restarts), "{restarts}");
}

#[test]
fn producers_that_restart_all_the_time_lose_and_repeat_nothing() {
    for (producers, seed) in [("1", "1"), ("20", "2"), ("3000", "3")] {
        let result = demo(&[
            "--restart",
            "0.02",
            "--seed",
            seed,
            "--producers",
            producers,
        ]);
        assert_eq!(
            (&result["stored"], &result["unique"]),
            (&20_000.into(), &20_000.into())
        );
        let restarts = result["restarts"].as_u64().unwrap();
        assert!((80..400).contains(&restarts), "{restarts}");
        // The naive run restarts at the same records.
        assert_eq!(result["naive"]["restarts"], result["restarts"]);
        assert_eq!(result["naive"]["lost"], 0);
    }
    assert_eq!(demo(&["--restart", "0"])["restarts"], 0);
}

#[test]
fn the_same_seed_gives_the_same_counts_and_another_one_others() {
    let first = demo(&["--seed", "0x2a", "--lost-ack", "0.3", "--restart", "0.01"]);
    assert_eq!(
        demo(&["--seed", "42", "--lost-ack", "0.3", "--restart", "0.01"]),
        first
    );
    let other = demo(&["--seed", "43", "--lost-ack", "0.3", "--restart", "0.01"]);
    assert_ne!(other["retransmitted"], first["retransmitted"]);
    assert_ne!(other["restarts"], first["restarts"]);
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
    let mut without = demo(&["--seed", "42", "--no-idempotence"]);
    assert!(without["duplicated"].as_u64() > with["retransmitted"].as_u64());
    assert_eq!(without["duplicated"], without["retransmitted"]);
    assert_eq!(without["unique"], 20_000);
    assert_eq!(without["lost"], 0);
    // It is the naive run that stands beside the other one.
    without.as_object_mut().unwrap().remove("seed");
    assert_eq!(with["naive"], without);
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
            "--lost-ack",
            "0.5",
            "--data",
            "here",
        ])
        .code(0);
    let lines: Vec<&str> = ran.text().lines().collect();
    let heads: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(heads, ["sent", "resent", "stored", "duplicated", "lost"]);
    let numbers: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!((numbers[0], numbers[1]), ("oncelog", "1,000"));
    assert_eq!(numbers[3..], ["1,000", "0", "0"]);
    let naive: Vec<&str> = lines[2].split_whitespace().collect();
    assert_eq!((naive[0], naive[1], naive[5]), ("naive", "1,000", "0"));
    assert_ne!(naive[4], "0");
    assert!(
        ran.text().contains("seed 42: duplicated 0, lost 0"),
        "{ran:?}"
    );
    let read = place.run(&["consume", "demo", "--data", "here"]).code(0);
    assert_eq!(read.text().lines().count(), 1_000);
    assert!(read.text().starts_with("producer 000"));
}
