//! `backup`: a copy beside a writer and without one, and what it takes to restore it: nothing.

use std::io::Write;

use crate::harness::{Place, ended, has_fields, until};

#[test]
fn a_backup_is_restored_by_opening_it_and_shares_no_producer_id() {
    let place = Place::new();
    let input: String = (0..100).map(|n| format!("record {n}\n")).collect();
    place
        .run_with_input(
            &["produce", "t", "--partitions", "2", "--name", "n"],
            &input,
        )
        .code(0);
    let result = place.run(&["backup", "copy", "--json"]).code(0).json();
    has_fields(&result, &["files", "bytes", "end_offsets"]);
    let ends = result["end_offsets"].as_object().unwrap();
    let sum: u64 = ends.values().map(|end| end.as_u64().unwrap()).sum();
    assert_eq!((ends.len(), sum), (2, 100));
    let read = |data: &str| {
        let ran = place.run(&["consume", "t", "--data", data]).code(0);
        let mut lines: Vec<String> = ran.text().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(read("copy"), read("oncelog-data"));
    place.run(&["verify", "--deep", "--data", "copy"]).code(0);

    // The name goes on in the copy; a producer without one gets an id that the original has not.
    let longer = format!("{input}one more\n");
    let args = ["produce", "t", "--name", "n", "--data", "copy", "--json"];
    let result = place.run_with_input(&args, &longer).code(0).json();
    assert_eq!(
        (&result["records"], &result["skipped"]),
        (&1.into(), &100.into())
    );
    let args = ["produce", "t", "--data", "copy", "--json"];
    let result = place.run_with_input(&args, "x\n").code(0).json();
    assert!(
        result["producer_id"].as_i64().unwrap() > 1 << 32,
        "{result}"
    );
    assert_eq!(read("oncelog-data").len(), 100);

    let text = place.run(&["backup", "other"]).code(0);
    assert!(text.text().contains("t-0: up to offset"), "{text:?}");
}

#[test]
fn a_backup_beside_a_running_writer_holds_what_was_acknowledged() {
    let place = Place::new();
    let mut writer = place.start(&["produce", "t", "--linger-ms", "1"]);
    let mut stdin = writer.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\n").unwrap();
    until(&mut writer, || {
        place.run(&["consume", "t"]).text() == "one\ntwo\n"
    });
    place.run(&["backup", "copy"]).code(0);
    stdin.write_all(b"three\n").unwrap();
    drop(stdin);
    ended(writer).code(0);
    let read = place.run(&["consume", "t", "--data", "copy"]).code(0);
    assert_eq!(read.text(), "one\ntwo\n");
    place
        .run_with_input(&["produce", "t", "--data", "copy"], "2b\n")
        .code(0);
    let read = place.run(&["consume", "t"]).code(0);
    assert_eq!(read.text(), "one\ntwo\nthree\n");
}

#[test]
fn a_place_that_is_taken_is_2_and_a_missing_source_is_1() {
    let place = Place::new();
    place.run_with_input(&["produce", "t"], "1\n").code(0);
    place.write("file", "mine");
    for to in ["file", "oncelog-data"] {
        place
            .run(&["backup", to])
            .code(2)
            .says(&[to, "not an empty directory"]);
    }
    assert_eq!(std::fs::read(place.path().join("file")).unwrap(), b"mine");
    place
        .run(&["backup", "copy", "--data", "nowhere"])
        .code(1)
        .says(&["nowhere"]);
    assert!(!place.path().join("copy").exists());
    place.run(&["backup"]).code(2).says(&["<TO>"]);
}
