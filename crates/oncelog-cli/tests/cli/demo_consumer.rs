//! The second half in one go.

use serde_json::Value;

use crate::harness::{Place, has_fields};

fn demo(args: &[&str]) -> Value {
    let place = Place::new();
    let mut all = vec!["demo", "--consumer", "--json", "--records", "3000"];
    all.extend(args);
    let mut result = place.run(&all).code(0).json();
    let left = std::fs::read_dir(place.path()).unwrap().count();
    assert_eq!(left, 0, "it left files here");
    has_fields(
        &result,
        &[
            "delivered",
            "redelivered",
            "republished",
            "consumer_crashes",
            "effects",
            "effects_lost",
            "effects_duplicated",
            "naive_effects_duplicated",
            "seed",
        ],
    );
    result
        .as_object_mut()
        .unwrap()
        .remove("elapsed_ms")
        .unwrap();
    result
}

fn number(result: &Value, field: &str) -> u64 {
    result[field].as_u64().unwrap()
}

#[test]
fn each_effect_happens_once_and_the_naive_consumers_twice() {
    let result = demo(&["--seed", "42"]);
    for (field, value) in [
        ("effects", 3_000),
        ("effects_lost", 0),
        ("effects_duplicated", 0),
        ("seed", 42),
    ] {
        assert_eq!(result[field], value, "{field}");
    }
    assert_eq!(result["store"], "embedded");
    // At least one in a hundred again, of either kind, and a death for every thousand.
    assert!(number(&result, "redelivered") >= 30, "{result}");
    assert!(number(&result, "republished") >= 30, "{result}");
    assert!(number(&result, "consumer_crashes") >= 3, "{result}");
    assert!(number(&result, "lost_acks") >= 30, "{result}");
    let records = 3_000 + number(&result, "republished");
    assert_eq!(
        number(&result, "delivered"),
        records + number(&result, "redelivered")
    );
    let naive = &result["naive"];
    assert_eq!(naive["effects_lost"], 0);
    assert_eq!(
        naive["effects_duplicated"],
        result["naive_effects_duplicated"]
    );
    // All that was published again, and more.
    assert!(
        number(&result, "naive_effects_duplicated") > number(&result, "republished"),
        "{result}"
    );
    assert_eq!(
        number(naive, "effects"),
        3_000 + number(naive, "effects_duplicated")
    );
}

#[test]
fn the_same_seed_gives_the_same_counts_whatever_store_and_another_one_others() {
    let first = demo(&["--seed", "0x2b"]);
    assert_eq!(demo(&["--seed", "43"]), first);
    let mut memory = demo(&["--seed", "43", "--store", "memory"]);
    assert_eq!(memory["store"], "memory");
    memory["store"] = first["store"].clone();
    assert_eq!(memory, first);
    assert_ne!(demo(&["--seed", "44"])["delivered"], first["delivered"]);
}

#[test]
fn without_lost_acknowledgements_only_deaths_repeat_and_half_may_be_lost() {
    let none = demo(&["--seed", "1", "--lost-ack", "0"]);
    assert_eq!(none["lost_acks"], 0);
    let half = demo(&["--seed", "1", "--lost-ack", "0.5"]);
    assert!(number(&half, "lost_acks") > 1_000, "{half}");
    assert!(
        number(&half, "redelivered") > number(&none, "redelivered") + 1_000,
        "{half}"
    );
    assert_eq!(
        (&half["effects"], &none["effects"]),
        (&3_000.into(), &3_000.into())
    );
}

#[test]
fn people_get_a_table_and_the_effects_stay_where_they_asked_for_them() {
    let place = Place::new();
    let args = [
        "demo",
        "--consumer",
        "--records",
        "1000",
        "--seed",
        "7",
        "--data",
        "here",
    ];
    let ran = place.run(&args).code(0);
    let lines: Vec<&str> = ran.text().lines().collect();
    let row = |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    let (inbox, naive) = (row(lines[1]), row(lines[2]));
    assert_eq!((&*inbox[0], &*inbox[1]), ("inbox", "1,000"));
    assert_eq!(inbox[6..], ["1,000", "0", "0"]);
    assert_eq!((&*naive[0], &*naive[7]), ("naive", "0"));
    assert_ne!(naive[8], "0");
    assert!(
        ran.text().contains("seed 7: each effect once, in"),
        "{ran:?}"
    );
    let read = place.run(&["consume", "effects", "--data", "here"]).code(0);
    let mut effects: Vec<&str> = read.text().lines().collect();
    effects.sort_unstable();
    effects.dedup();
    assert_eq!(effects.len(), 1_000);
    // The groups are there still, and have read everything.
    let groups = place
        .run(&["groups", "careful", "--data", "here", "--json"])
        .code(0);
    assert_eq!(groups.text().matches("\"lag\":0").count(), 4, "{groups:?}");
}

#[test]
fn what_belongs_to_producers_is_refused() {
    let place = Place::new();
    for args in [
        &["demo", "--consumer", "--producers", "3"][..],
        &["demo", "--consumer", "--no-idempotence"],
        &["demo", "--store", "memory"],
        &["demo", "--consumer", "--store", "tape"],
    ] {
        place.run(args).code(2);
    }
}
