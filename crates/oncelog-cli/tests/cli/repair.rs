//! `repair`: says what it would give up, does it when told to, and the advice of errors holds.

use std::io::Write;
use std::path::Path;

use crate::harness::{Place, ended, has_fields, until};

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

fn filled() -> (Place, String) {
    let place = Place::new();
    let input: String = (0..100).map(|n| format!("record {n}\n")).collect();
    let args = ["produce", "t", "--batch-records", "10"];
    place.run_with_input(&args, &input).code(0);
    (place, input)
}

#[test]
fn a_whole_directory_is_0_and_keeps_everything() {
    let (place, _) = filled();
    let result = place.run(&["repair", "--json"]).code(0).json();
    has_fields(&result, &["kept", "given_up"]);
    assert_eq!(
        (&result["kept"], &result["applied"]),
        (&100.into(), &false.into())
    );
    assert_eq!(result["given_up"].as_array().unwrap().len(), 0);
    let text = place.run(&["repair", "--apply"]).code(0);
    assert!(text.text().contains("nothing to repair"), "{text:?}");
}

#[test]
fn a_damaged_batch_is_4_until_it_is_given_up_and_the_rest_is_read_and_written_again() {
    let (place, input) = filled();
    let segment = place.segment("t-0");
    // In the first batch, behind its header.
    flip(&segment, 70);
    let damaged = std::fs::read(&segment).unwrap();
    // The error says what to do, and that is so.
    place
        .run_with_input(&["produce", "t"], "x\n")
        .code(4)
        .says(&["oncelog repair"]);
    let ran = place.run(&["repair", "--json"]).code(4);
    let dry = ran.json();
    ran.says(&[
        "00000000000000000000.log",
        "byte 0",
        "oncelog repair --apply",
    ]);
    let given_up = &dry["given_up"][0];
    has_fields(given_up, &["file", "from", "to", "offsets"]);
    assert_eq!(
        (&given_up["from"], &given_up["offsets"]),
        (&0.into(), &serde_json::json!([0, 10]))
    );
    assert_eq!(dry["kept"], 90);
    assert_eq!(std::fs::read(&segment).unwrap(), damaged);
    let text = place.run(&["repair"]).code(4);
    assert!(text.text().contains("would give up"), "{text:?}");

    let done = place.run(&["repair", "--apply", "--json"]).code(0).json();
    assert_eq!(done["given_up"], dry["given_up"]);
    let aside = Path::new(done["set_aside"][0].as_str().unwrap());
    let aside = place.path().join(aside).join("00000000000000000000.log");
    assert_eq!(std::fs::read(aside).unwrap(), damaged);
    place.run(&["verify", "--deep"]).code(0);
    place.run_with_input(&["produce", "t"], "more\n").code(0);
    let rest: String = input
        .lines()
        .skip(10)
        .map(|line| format!("{line}\n"))
        .collect();
    let read = place.run(&["consume", "t"]).code(0);
    assert_eq!(read.text(), format!("{rest}more\n"));
    place.run(&["repair"]).code(0);
}

#[test]
fn lost_producer_ids_are_asked_for() {
    let (place, _) = filled();
    let file = place.path().join("oncelog-data/producer-ids");
    flip(&file, 30);
    flip(&file, 542);
    let options = "--producer-id-floor N";
    place
        .run_with_input(&["produce", "t"], "x\n")
        .code(4)
        .says(&[options]);
    for args in [&["repair"][..], &["repair", "--apply"]] {
        place.run(args).code(4).says(&["producer-ids", options]);
    }
    let low = ["repair", "--apply", "--producer-id-floor", "0"];
    place.run(&low).code(2).says(&["--producer-id-floor"]);
    place
        .run(&["repair", "--producer-id-floor", "9"])
        .code(2)
        .says(&["--apply"]);
    let floor = ["repair", "--apply", "--producer-id-floor", "7000"];
    place.run(&floor).code(0);
    let result = place
        .run_with_input(&["produce", "t", "--json"], "x\n")
        .code(0);
    assert_eq!(result.json()["producer_id"], 7_000);
}

#[test]
fn a_new_lineage_hands_out_other_ids() {
    let (place, _) = filled();
    place
        .run(&["repair", "--new-lineage"])
        .code(2)
        .says(&["--apply"]);
    place.run(&["repair", "--apply", "--new-lineage"]).code(0);
    let result = place
        .run_with_input(&["produce", "t", "--json"], "x\n")
        .code(0);
    assert!(result.json()["producer_id"].as_i64().unwrap() > 1 << 32);
    place.run(&["verify"]).code(0);
}

#[test]
fn a_directory_in_use_is_3_and_none_is_1() {
    let place = Place::new();
    for args in [&["repair"][..], &["repair", "--apply"]] {
        place.run(args).code(1).says(&["oncelog-data"]);
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    let mut writer = place.start(&["produce", "t", "--linger-ms", "1"]);
    let mut stdin = writer.stdin.take().unwrap();
    stdin.write_all(b"one\n").unwrap();
    until(&mut writer, || {
        place.run(&["topic", "describe", "t"]).code == Some(0)
    });
    let holder = format!("process {}", writer.id());
    for args in [&["repair"][..], &["repair", "--apply"]] {
        place.run(args).code(3).says(&["in use", &holder]);
    }
    drop(stdin);
    ended(writer).code(0);
}

#[test]
fn deep_checks_look_into_the_batches() {
    let place = Place::new();
    let args = ["produce", "t", "--compression", "gzip"];
    place.run_with_input(&args, "one\ntwo\n").code(0);
    let result = place.run(&["verify", "--deep", "--json"]).code(0).json();
    assert_eq!(
        (&result["ok"], &result["records"]),
        (&true.into(), &2.into())
    );
    // It remembers the batch's checksum.
    for entry in std::fs::read_dir(place.segment("t-0").parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "snapshot") {
            std::fs::remove_file(path).unwrap();
        }
    }
    // Compressed bytes that are none, under a checksum that is right.
    let segment = place.segment("t-0");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[61..65].fill(0xff);
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    std::fs::write(&segment, &bytes).unwrap();
    place.run(&["verify"]).code(0);
    let ran = place.run(&["verify", "--deep", "--json"]);
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.json()["ok"], false);
    ran.says(&["00000000000000000000.log"]);
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1));
        }
    }
    !crc
}
