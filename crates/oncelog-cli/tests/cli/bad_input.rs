//! Each bad input has its exit code, and a text that says what to do.

use std::io::Write;

use crate::harness::{Place, ended, until};

#[test]
fn wrong_usage_is_2_and_names_the_option_and_what_is_allowed() {
    let place = Place::new();
    place
        .run_with_input(&["produce", "t", "--partitions", "2"], "a,b\n")
        .code(0);
    for (args, parts) in [
        (
            &["produce", "t", "--ack", "maybe"][..],
            &["--ack", "synced", "interval", "memory"][..],
        ),
        (
            &["produce", "t", "--compression", "zip"],
            &["--compression", "gzip", "zstd"],
        ),
        (
            &["produce", "t", "--lost-ack", "1"],
            &["--lost-ack", "0 to 0.9"],
        ),
        (
            &["produce", "t", "--partitions", "0"],
            &["--partitions", "1 to 10000"],
        ),
        (
            &["produce", "t", "--partitions", "3"],
            &["--partitions 3", "exists with 2"],
        ),
        (
            &["produce", "t", "--max-in-flight", "6"],
            &["--max-in-flight 6", "1 to 5"],
        ),
        (
            &["produce", "t", "--key-column", "b"],
            &["--key-column b", "number of a column"],
        ),
        (
            &["produce", "t", "--delimiter", ""],
            &["--delimiter", "one character"],
        ),
        (&["produce", "../t"], &["../t", "topic name"]),
        (&["topic", "create", "a b"], &["a b", "topic name"]),
        (
            &["topic", "create", "x", "--config", "ack"],
            &["--config ack", "K=V"],
        ),
        (
            &["topic", "create", "x", "--config", "ack=no"],
            &["--config ack=no", "synced"],
        ),
        (
            &["topic", "create", "x", "--config", "acks=1"],
            &["--config acks=1", "segment.bytes"],
        ),
        (
            &["consume", "t", "--partition", "2"],
            &["partitions 0 to 1"],
        ),
        (
            &["consume", "t", "--offset", "first"],
            &["--offset", "earliest, latest"],
        ),
        (
            &["consume", "t", "--format", "xml"],
            &["--format", "key-value"],
        ),
        (
            &["consume", "t", "--json", "--format", "value"],
            &["--format", "--json"],
        ),
        (
            &["demo", "--records", "0"],
            &["--records", "1 to 1000000000"],
        ),
        (&["demo", "--restart", "1"], &["--restart", "0 to 0.9"]),
        (
            &["produce", "t", "--biz-id-column", "1,b"],
            &["--biz-id-column b", "number of a column"],
        ),
        (&["produce", "t", "--name", ""], &["producer name"]),
        (
            &["why", "t", "0", "--producer-id", "1", "--epoch", "0"],
            &["--sequence"],
        ),
        (
            &[
                "why",
                "t",
                "0",
                "--producer-id",
                "1",
                "--epoch",
                "x",
                "--sequence",
                "0",
            ],
            &["--epoch", "-32768 to 32767"],
        ),
        (&["produce", "t", "--speed", "9"], &["--speed"]),
        (&["frobnicate"], &["frobnicate"]),
        (&[], &["Usage"]),
    ] {
        place.run(args).code(2).says(parts);
    }
    assert_eq!(place.run(&["consume", "t"]).code(0).text(), "a,b\n");
}

#[test]
fn a_column_that_the_header_line_does_not_name_is_2_and_nothing_is_sent() {
    let place = Place::new();
    let args = ["produce", "t", "--header-line", "--key-column", "orign"];
    let ran = place
        .run_with_input(&args, "year,origin\n2013,EWR\n")
        .code(2);
    ran.says(&["--key-column orign", "allowed: year, origin"]);
    assert_eq!(place.run(&["consume", "t"]).code(0).text(), "");
}

#[test]
fn a_line_without_the_key_column_is_named_and_those_before_it_are_sent() {
    let place = Place::new();
    let args = ["produce", "t", "--key-column", "2", "--json"];
    let ran = place.run_with_input(&args, "1,a\n2,b\n3\n4,d\n").code(1);
    assert_eq!(ran.json()["records"], 2);
    ran.says(&["line 3 has 1 columns"]);
    assert_eq!(place.run(&["consume", "t"]).code(0).text(), "1,a\n2,b\n");
}

#[test]
fn a_line_above_the_limit_is_named_and_those_before_it_are_sent() {
    let place = Place::new();
    place
        .run(&["topic", "create", "t", "--config", "max.message.bytes=1000"])
        .code(0);
    // The limit counts the batch: 61 bytes of header, and a few of the record.
    for (bytes, code) in [(900, 0), (990, 1), (1_001, 1), (100_000, 1)] {
        let input = format!("short\n{}\nnever\n", "x".repeat(bytes));
        let ran = place.run_with_input(&["produce", "t"], &input).code(code);
        if code == 1 {
            ran.says(&["line 2: ", "max.message.bytes 1000"]);
        }
    }
    let read = place.run(&["consume", "t"]).code(0);
    let short: Vec<&str> = read
        .text()
        .lines()
        .filter(|line| line.len() < 100)
        .collect();
    // Only the first run came to its end.
    assert_eq!(short, ["short", "never", "short", "short", "short"]);
}

#[test]
fn an_unknown_topic_is_1_and_says_how_to_create_it() {
    let place = Place::new();
    place.run_with_input(&["produce", "t"], "1\n").code(0);
    for args in [
        &["consume", "nope"][..],
        &["topic", "describe", "nope"],
        &["topic", "delete", "nope"],
    ] {
        place
            .run(args)
            .code(1)
            .says(&["no topic nope", "oncelog topic create nope"]);
    }
    place
        .run(&["producers", "nope"])
        .code(1)
        .says(&["oncelog topic create nope"]);
}

#[test]
fn where_no_data_directory_is_nothing_is_read_and_nothing_made() {
    let place = Place::new();
    for args in [
        &["consume", "t"][..],
        &["topic", "list"],
        &["topic", "delete", "t"],
        &["verify"],
    ] {
        place.run(args).code(1).says(&["oncelog-data"]);
    }
    place
        .run(&["produce", "t", "--file", "nope.csv"])
        .code(1)
        .says(&["--file", "nope.csv"]);
    place
        .run(&["produce", "t", "--file", "."])
        .code(2)
        .says(&["--file", "directory"]);
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_directory_in_use_is_3_and_names_the_holder_and_reading_works_beside_it() {
    let place = Place::new();
    let mut writer = place.start(&["produce", "t", "--linger-ms", "1"]);
    writer
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"one\ntwo\n")
        .unwrap();
    // The topic exists when the writer has it open; until then there is nothing to read.
    until(&mut writer, || {
        place.run(&["topic", "describe", "t"]).code == Some(0)
    });
    let read = place
        .run(&["consume", "t", "--follow", "--max", "2"])
        .code(0);
    assert_eq!(read.text(), "one\ntwo\n");

    let holder = format!("process {}", writer.id());
    for args in [
        &["produce", "t"][..],
        &["topic", "create", "u"],
        &["topic", "delete", "t"],
    ] {
        place.run(args).code(3).says(&["in use", &holder]);
    }
    drop(writer.stdin.take());
    ended(writer).code(0);
    assert_eq!(place.run(&["consume", "t"]).code(0).text(), "one\ntwo\n");
}

#[test]
fn a_damaged_file_is_4_and_names_file_and_position() {
    let place = Place::new();
    let input = (0..1_000)
        .map(|n| format!("record {n}\n"))
        .collect::<String>();
    place
        .run_with_input(&["produce", "t", "--batch-records", "10"], &input)
        .code(0);
    let segment = place.segment("t-0");
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&segment, &bytes).unwrap();

    let name = "00000000000000000000.log";
    let read = place
        .run(&["consume", "t"])
        .code(4)
        .says(&[name, "damaged at byte", "verify"]);
    // What lies before the damage is still printed.
    assert!(read.text().starts_with("record 0\nrecord 1\n"));

    let topics = place.path().join("oncelog-data/topics");
    let mut bytes = std::fs::read(&topics).unwrap();
    bytes[20] ^= 0x40;
    std::fs::write(&topics, &bytes).unwrap();
    for args in [
        &["produce", "t"][..],
        &["consume", "t"],
        &["topic", "list"],
        &["verify"],
    ] {
        place.run(args).code(4).says(&["topics"]);
    }
}

#[test]
fn an_unclean_end_is_told_by_those_who_read_and_recovered_by_those_who_write() {
    let place = Place::new();
    let mut writer = place.start(&["produce", "t", "--ack", "memory", "--linger-ms", "1"]);
    writer
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"never synced\n")
        .unwrap();
    // A segment has another name until it is first synced.
    let folder = place.path().join("oncelog-data/t-0");
    let is_there = |what: &[u8]| {
        let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let contents = files.map(|file| std::fs::read(file.path()).unwrap_or_default());
        contents
            .into_iter()
            .any(|bytes| bytes.windows(what.len()).any(|part| part == what))
    };
    until(&mut writer, || is_there(b"never synced"));
    writer.kill().unwrap();
    ended(writer);
    let read = place.run(&["consume", "t"]).code(0);
    assert_eq!(read.text(), "");
    read.says(&["bytes lie above the stable mark", "opening for writing"]);
    place.run(&["topic", "create", "u"]).code(0);
    let read = place.run(&["consume", "t"]).code(0);
    assert_eq!(read.text(), "never synced\n");
    assert!(!read.stderr.contains("above the stable mark"), "{read:?}");
}
