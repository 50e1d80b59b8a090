//! Looking at a data directory: topics, producers, batches, invariants.

use crate::harness::{Place, has_fields};

fn filled() -> Place {
    let place = Place::new();
    let input = (0..100)
        .map(|n| format!("k{},record {n}\n", n % 5))
        .collect::<String>();
    let args = [
        "produce",
        "t",
        "--partitions",
        "2",
        "--key-column",
        "1",
        "--batch-records",
        "10",
    ];
    place.run_with_input(&args, &input).code(0);
    place
}

#[test]
fn topics_are_created_listed_described_and_deleted() {
    let place = filled();
    let args = [
        "topic",
        "create",
        "u",
        "--partitions",
        "3",
        "--config",
        "flush.ms=7",
        "--json",
    ];
    let created = place.run(&args).code(0).json();
    assert_eq!(created["name"], "u");
    assert_eq!(created["partitions"].as_array().unwrap().len(), 3);
    assert_eq!(created["config"]["flush.ms"], "7");
    place
        .run(&["topic", "create", "u"])
        .code(1)
        .says(&["u exists"]);

    let list = place.run(&["topic", "list", "--json"]).code(0).json();
    let names: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["name"].clone())
        .collect();
    assert_eq!(names, ["t", "u"]);
    let text = place.run(&["topic", "list"]).code(0);
    let heads: Vec<&str> = text
        .text()
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(heads, ["topic", "partitions", "records", "bytes", "ack"]);

    let described = place
        .run(&["topic", "describe", "t", "--json"])
        .code(0)
        .json();
    let mut records = 0;
    for (index, partition) in described["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        has_fields(partition, &["last_stable_offset", "size_bytes", "segments"]);
        assert_eq!(partition["partition"], index);
        assert_eq!(partition["log_start_offset"], 0);
        assert_eq!(partition["producers"], 1);
        records += partition["high_watermark"].as_u64().unwrap();
    }
    assert_eq!(records, 100);
    assert_eq!(described["config"]["ack"], "synced");

    let deleted = place
        .run(&["topic", "delete", "t", "--json"])
        .code(0)
        .json();
    assert_eq!(deleted["name"], "t");
    place.run(&["consume", "t"]).code(1);
    assert_eq!(
        place.run(&["topic", "list", "--json"]).code(0).json()[0]["name"],
        "u"
    );
}

#[test]
fn producers_show_their_window() {
    let place = filled();
    place.run_with_input(&["produce", "u"], "1\n").code(0);
    let all = place.run(&["producers", "--json"]).code(0).json_lines();
    assert_eq!(all.len(), 3);
    let of_topic = place
        .run(&["producers", "t", "--json"])
        .code(0)
        .json_lines();
    assert_eq!(of_topic.len(), 2);
    let mut records = 0;
    for producer in &of_topic {
        has_fields(
            producer,
            &[
                "partition",
                "last_append_ms",
                "name",
                "open_transaction_offset",
            ],
        );
        assert_eq!(
            (&producer["topic"], &producer["epoch"]),
            (&"t".into(), &0.into())
        );
        let batches = producer["batches"].as_array().unwrap();
        assert!((1..=5).contains(&batches.len()));
        assert_eq!(producer["first_sequence"], batches[0]["first_sequence"]);
        let last = producer["last_sequence"].as_u64().unwrap();
        assert_eq!(producer["last_offset"], last);
        records += last + 1;
    }
    assert_eq!(records, 100);
    assert_eq!(of_topic[0]["producer_id"], of_topic[1]["producer_id"]);
    assert_ne!(of_topic[0]["producer_id"], all[2]["producer_id"]);
    let text = place.run(&["producers", "u"]).code(0);
    assert!(text.text().contains("0 to 0"), "{text:?}");
}

#[test]
fn dump_shows_every_batch_of_a_file_or_a_folder() {
    let place = filled();
    let mut counted = 0;
    for log in ["t-0", "t-1"] {
        let folder = format!("oncelog-data/{log}");
        let batches = place.run(&["dump", &folder, "--json"]).code(0).json_lines();
        let file = place.segment(log);
        let of_file = place
            .run(&["dump", file.to_str().unwrap(), "--json"])
            .code(0)
            .json_lines();
        assert_eq!(of_file.len(), batches.len());
        let (mut position, mut offset) = (0, 0);
        for batch in &batches {
            has_fields(batch, &["producer_id", "epoch", "timestamp"]);
            assert_eq!(batch["position"], position);
            assert_eq!(batch["base_offset"], offset);
            assert_eq!(batch["base_sequence"], offset);
            assert_eq!(
                (&batch["crc_ok"], &batch["compression"]),
                (&true.into(), &"none".into())
            );
            assert_eq!(
                (&batch["transactional"], &batch["control"]),
                (&false.into(), &false.into())
            );
            position += batch["size"].as_u64().unwrap();
            offset += batch["count"].as_u64().unwrap();
            assert_eq!(batch["last_offset"], offset - 1);
        }
        counted += offset;

        let with = place
            .run(&["dump", &folder, "--records", "--json"])
            .code(0)
            .json_lines();
        let first = &with[0]["records"][0];
        assert!(
            first["value"].as_str().unwrap().contains(",record "),
            "{first}"
        );
        let text = place.run(&["dump", &folder, "--records"]).code(0);
        assert!(text.text().contains("record "), "{text:?}");
    }
    assert_eq!(counted, 100);
}

#[test]
fn dump_of_a_damaged_batch_is_4_and_says_where() {
    let place = filled();
    let segment = place.segment("t-0");
    let mut bytes = std::fs::read(&segment).unwrap();
    // In the first batch, behind its header.
    bytes[70] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let ran = place
        .run(&["dump", segment.to_str().unwrap(), "--json"])
        .code(4);
    let ran = ran.says(&[
        "00000000000000000000.log",
        "damaged at byte 0",
        "CRC",
        "verify",
    ]);
    let batches = ran.json_lines();
    // What follows it cannot be trusted to be where it seems.
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0]["crc_ok"], false);
    place
        .run(&["dump", "nothing-here"])
        .code(1)
        .says(&["nothing-here"]);
}

#[test]
fn verify_holds_on_a_whole_directory_and_finds_a_flipped_bit() {
    let place = filled();
    let result = place.run(&["verify", "--json"]).code(0).json();
    assert_eq!(result["ok"], true);
    assert_eq!(result["records"], 100);
    assert_eq!(result["problems"].as_array().unwrap().len(), 0);
    assert!(result["batches"].as_u64().unwrap() >= 10);
    assert!(result["bytes"].as_u64().unwrap() > 1_000);
    assert!(
        place
            .run(&["verify"])
            .code(0)
            .text()
            .contains("100 records")
    );

    let segment = place.segment("t-1");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[70] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let ran = place.run(&["verify", "--json"]).code(4);
    let result = ran.json();
    assert_eq!(result["ok"], false);
    let problem = &result["problems"][0];
    has_fields(problem, &["position", "invariant", "what"]);
    assert!(
        problem["file"].as_str().unwrap().contains("t-1"),
        "{problem}"
    );
    let text = place.run(&["verify"]).code(4);
    assert!(text.text().contains("t-1"), "{text:?}");
    // It wrote nothing.
    assert_eq!(std::fs::read(&segment).unwrap(), bytes);
}

#[test]
fn a_footer_that_does_not_match_its_segment_is_damage() {
    let place = Place::new();
    let create = ["topic", "create", "t", "--config", "segment.bytes=1048576"];
    place.run(&create).code(0);
    let input = format!("{}\n", "x".repeat(10_000)).repeat(300);
    place.run_with_input(&["produce", "t"], &input).code(0);
    let footer = place.segment("t-0").with_extension("footer");
    let mut bytes = std::fs::read(&footer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&footer, &bytes).unwrap();
    let ran = place.run(&["verify", "--json"]).code(4);
    assert_eq!(ran.json()["problems"][0]["invariant"], "R12");
    ran.says(&["00000000000000000000.footer"]);
}
