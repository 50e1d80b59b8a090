//! Lines in, the same lines out.

use serde_json::json;

use crate::harness::{Place, Ran, has_fields};

/// Events of seven producers in their order, and a header line.
fn events() -> String {
    let mut text = "number,origin,what\n".to_owned();
    for number in 0..5_000 {
        text.push_str(&format!(
            "{number},key-{},some event of that key\n",
            number * number % 7
        ));
    }
    text
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_file_comes_back_once_with_every_codec_over_a_link_that_loses_acknowledgements() {
    let events = events();
    let records = events.split_once('\n').unwrap().1;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let place = Place::new();
        place.write("events.csv", &events);
        let args = "produce events --file events.csv --partitions 3 --header-line --key-column \
                    origin --lost-ack 0.4 --seed 5 --batch-records 50 --json --compression";
        let args: Vec<&str> = args.split_whitespace().chain([codec]).collect();
        let result = place.run(&args).code(0).json();
        has_fields(
            &result,
            &[
                "records",
                "batches",
                "retransmitted",
                "duplicates_answered",
                "skipped",
                "producer_id",
                "epoch",
                "bytes",
                "elapsed_ms",
                "records_per_second",
            ],
        );
        assert_eq!(result["records"], 5_000);
        assert!(result["retransmitted"].as_u64().unwrap() >= 50);
        assert_eq!(result["duplicates_answered"], result["retransmitted"]);

        let read = place.run(&["consume", "events"]).code(0);
        assert_eq!(sorted(read.text()), sorted(records), "{codec}");
        // Per key the order is that of the file.
        let keyed = place
            .run(&["consume", "events", "--format", "key-value"])
            .code(0);
        for key in (0..7).map(|key| format!("key-{key}")) {
            let of_key = |text: &str, what: &str| -> Vec<String> {
                let lines = text.lines().filter(|line| line.contains(what));
                lines
                    .map(|line| line.rsplit('\t').next().unwrap().to_owned())
                    .collect()
            };
            let got = of_key(keyed.text(), &format!("{key}\t"));
            assert_eq!(got, of_key(records, &format!(",{key},")), "{codec}, {key}");
        }
        let batches = place
            .run(&["dump", "oncelog-data/events-0", "--json"])
            .code(0)
            .json_lines();
        assert!(!batches.is_empty() && batches.iter().all(|b| b["compression"] == codec));
    }
}

#[test]
fn bytes_come_back_as_they_went_in() {
    let place = Place::new();
    let input = b"text\n\n\xff\xfe\x00\r\nlast line without its end";
    place.run_with_input(&["produce", "t"], input).code(0);
    let read = place.run(&["consume", "t"]).code(0);
    assert_eq!(read.stdout, [&input[..], b"\n"].concat());

    let lines = place.run(&["consume", "t", "--json"]).code(0).json_lines();
    assert_eq!(lines.len(), 4);
    for (offset, line) in lines.iter().enumerate() {
        has_fields(line, &["timestamp", "headers", "biz_id", "source_position"]);
        assert_eq!(line["topic"], "t");
        assert_eq!(line["partition"], 0);
        assert_eq!(line["offset"], offset);
        assert_eq!(line["sequence"], offset);
        assert_eq!(line["producer_epoch"], 0);
        assert!(line["producer_id"].is_u64());
        assert!(line["key"].is_null());
    }
    assert_eq!(lines[1]["value"], "");
    assert_eq!(lines[2]["value"], json!({ "base64": "//4ADQ==" }));
}

/// Values, in the order printed.
fn values(place: &Place, args: &[&str]) -> Vec<String> {
    let args: Vec<&str> = ["consume", "t"].iter().chain(args).copied().collect();
    place
        .run(&args)
        .code(0)
        .text()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn reading_begins_and_ends_where_it_was_asked_to() {
    let place = Place::new();
    let input = (0..10).map(|n| format!("{n}\n")).collect::<String>();
    place
        .run_with_input(&["produce", "t", "--batch-records", "4"], &input)
        .code(0);
    // Inside a batch.
    assert_eq!(values(&place, &["--offset", "6"]), ["6", "7", "8", "9"]);
    assert_eq!(
        values(&place, &["--offset", "2", "--max", "3"]),
        ["2", "3", "4"]
    );
    assert_eq!(values(&place, &["--offset", "10"]).len(), 0);
    assert_eq!(values(&place, &["--offset", "latest"]).len(), 0);
    assert_eq!(values(&place, &["--max", "0"]).len(), 0);
    let above = place.run(&["consume", "t", "--offset", "11"]).code(1);
    above.says(&["offset 11", "high watermark 10"]);
}

#[test]
fn records_without_a_key_take_the_partitions_in_turn() {
    let place = Place::new();
    let input = (0..90).map(|n| format!("{n}\n")).collect::<String>();
    let args = ["produce", "t", "--partitions", "3", "--batch-records", "10"];
    place.run_with_input(&args, &input).code(0);
    for (partition, first) in [("0", "0"), ("1", "10"), ("2", "20")] {
        let read = values(&place, &["--partition", partition]);
        assert_eq!(
            (read.len(), read[0].as_str(), read[29].len()),
            (30, first, 2)
        );
    }
    // An offset is one of a partition.
    let refused = place.run(&["consume", "t", "--offset", "3"]).code(2);
    refused.says(&["--offset 3", "earliest, latest"]);
}

#[test]
fn keys_go_where_kafka_sends_them() {
    let place = Place::new();
    // murmur2 of Kafka's own test (`UtilsTest.testMurmur2`): "21" is -973932308, "foobar" is
    // -790332482, "a-little-bit-long-string" is -985981536.
    let lines = "x;21\nx;foobar\nx;a-little-bit-long-string\n";
    let args = "produce t --partitions 7 --key-column 2 --delimiter ;";
    let args: Vec<&str> = args.split_whitespace().collect();
    place.run_with_input(&args, lines).code(0);
    let mut got: Vec<_> = place
        .run(&["consume", "t", "--json"])
        .code(0)
        .json_lines()
        .iter()
        .map(|line| {
            (
                line["key"].as_str().unwrap().to_owned(),
                line["partition"].clone(),
            )
        })
        .collect();
    got.sort_by(|a, b| a.0.cmp(&b.0));
    let partition = |hash: i32| json!((i64::from(hash) & 0x7fff_ffff) % 7);
    assert_eq!(
        got,
        [
            ("21".to_owned(), partition(-973_932_308)),
            (
                "a-little-bit-long-string".to_owned(),
                partition(-985_981_536)
            ),
            ("foobar".to_owned(), partition(-790_332_482)),
        ]
    );
}

#[test]
fn a_business_id_is_made_of_columns_and_shown() {
    let place = Place::new();
    let input = "year,carrier,flight\n2013,UA,1545\n2013,B6,725\n";
    let args = [
        "produce",
        "t",
        "--header-line",
        "--biz-id-column",
        "carrier,flight",
    ];
    place.run_with_input(&args, input).code(0);
    place
        .run_with_input(&["produce", "t", "--biz-id-column", "2"], "a,b\n")
        .code(0);
    let lines = place.run(&["consume", "t", "--json"]).code(0).json_lines();
    let ids: Vec<_> = lines.iter().map(|line| line["biz_id"].clone()).collect();
    assert_eq!(ids, ["UA-1545", "B6-725", "b"]);
    assert_eq!(
        lines[0]["headers"],
        json!([{ "key": "biz-id", "value": "UA-1545" }])
    );
    let ran = place.run_with_input(&args, "year,carrier\n").code(2);
    ran.says(&["--biz-id-column flight", "allowed: year, carrier"]);
}

fn counts(ran: Ran) -> Vec<serde_json::Value> {
    let result = ran.code(0).json();
    ["records", "batches", "retransmitted", "duplicates_answered"]
        .iter()
        .map(|field| result[field].clone())
        .collect()
}

#[test]
fn the_same_seed_loses_the_same_acknowledgements_however_many_are_in_flight() {
    let place = Place::new();
    place.write("events.csv", events());
    let mut all = Vec::new();
    for (topic, in_flight) in [("a", "1"), ("b", "5"), ("c", "5")] {
        let args =
            "--file events.csv --lost-ack 0.3 --seed 9 --batch-records 20 --json --max-in-flight";
        let args: Vec<&str> = ["produce", topic]
            .into_iter()
            .chain(args.split(' '))
            .chain([in_flight])
            .collect();
        all.push(counts(place.run(&args)));
    }
    assert_eq!(all[0], all[1]);
    assert_eq!(all[1], all[2]);
    assert!(all[0][2].as_u64().unwrap() > 0);
}

#[test]
fn a_level_can_be_raised_and_not_lowered() {
    let place = Place::new();
    place
        .run_with_input(&["produce", "t", "--ack", "interval"], "1\n")
        .code(0);
    let raised = place
        .run_with_input(&["produce", "t", "--ack", "synced"], "2\n")
        .code(0);
    assert!(raised.text().contains("synced"), "{raised:?}");
    place.run_with_input(&["produce", "t"], "3\n").code(0);
    let lowered = place
        .run_with_input(&["produce", "t", "--ack", "memory"], "4\n")
        .code(2);
    lowered.says(&["--ack memory", "allowed: interval, synced"]);
    assert_eq!(values(&place, &[]), ["1", "2", "3"]);
}
