//! `dump_batches`.

use std::fs;
use std::path::{Path, PathBuf};

use log_engine::inspect::{BatchSummary, Damage, InspectError, dump_batches};
use log_engine::{Ack, Engine, TopicConfig};
use tempfile::TempDir;

use crate::directory::{BATCHES, RECORDS, batch, closed, copy, fill, with_extension};

fn dump(path: &Path) -> (Vec<BatchSummary>, Option<InspectError>) {
    let mut batches = Vec::new();
    for batch in dump_batches(path).unwrap() {
        match batch {
            Ok(batch) => batches.push(batch),
            Err(error) => return (batches, Some(error)),
        }
    }
    (batches, None)
}

fn whole(path: &Path) -> Vec<BatchSummary> {
    let (batches, error) = dump(path);
    assert!(error.is_none(), "{error:?}");
    assert!(
        batches
            .iter()
            .all(|b| b.crc_ok && b.size == b.bytes.len() as u64)
    );
    batches
}

#[test]
fn folder_is_dumped_in_the_order_of_offsets() {
    let directory = closed();
    let folder = directory.path().join("orders-1");
    let batches = whole(&folder);
    assert_eq!(batches.len() as u64, BATCHES);
    for (n, summary) in batches.iter().enumerate() {
        let offset = i64::try_from(n as u64 * RECORDS).unwrap();
        assert_eq!(summary.header.base_offset, offset);
    }
    // Positions begin anew in each file, and each file alone gives its part.
    let mut alone = Vec::new();
    for segment in with_extension(&folder, "log") {
        let part = whole(&segment);
        assert_eq!(part[0].position, 0);
        assert_eq!(part[0].file, segment.to_str().unwrap());
        let bytes: Vec<u8> = part.iter().flat_map(|b| b.bytes.to_vec()).collect();
        assert_eq!(bytes, fs::read(&segment).unwrap());
        alone.extend(part.iter().map(|b| (b.file.clone(), b.position)));
    }
    let together: Vec<_> = batches
        .iter()
        .map(|b| (b.file.clone(), b.position))
        .collect();
    assert_eq!(alone, together);
}

#[test]
fn reserved_tail_and_prepared_segments_of_a_running_engine_are_read() {
    let directory = TempDir::new().unwrap();
    let engine = Engine::open(directory.path()).unwrap();
    let memory = TopicConfig::default().with_ack(Ack::Memory);
    for (name, config) in [("synced", TopicConfig::default()), ("memory", memory)] {
        let topic = engine.create_topic(name, 1, config).unwrap();
        fill(&engine, &topic.partition(0).unwrap(), 6);
        let batches = whole(&directory.path().join(format!("{name}-0")));
        assert_eq!(batches.len(), 6);
        let file = fs::metadata(&batches[0].file).unwrap().len();
        assert!(
            file > batches[5].position + batches[5].size,
            "no reserved tail"
        );
    }
    engine.close().unwrap();
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

#[test]
fn batches_of_other_implementations_are_dumped() {
    let fixtures = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/record_batches.json"
    );
    let text = fs::read_to_string(fixtures).unwrap();
    let vectors: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let directory = TempDir::new().unwrap();
    // As Kafka names a segment in the middle of a log, with its other files beside it.
    let segment = directory.path().join("00000000000000004711.log");
    let mut bytes = Vec::new();
    for vector in &vectors {
        bytes.extend(unhex(vector["hex"].as_str().unwrap()));
    }
    fs::write(&segment, &bytes).unwrap();
    for beside in ["timeindex", "index", "snapshot"] {
        fs::write(segment.with_extension(beside), "Kafka's").unwrap();
    }
    fs::write(directory.path().join("leader-epoch-checkpoint"), "0\n0\n").unwrap();
    for path in [segment.as_path(), directory.path()] {
        let batches = whole(path);
        assert_eq!(batches.len(), vectors.len());
        for (summary, vector) in batches.iter().zip(&vectors) {
            let header = &vector["header"];
            let hex = vector["hex"].as_str().unwrap();
            assert_eq!(summary.bytes, unhex(hex), "{}", vector["name"]);
            assert!(header.is_object());
        }
    }
}

/// A file of three batches, and where they begin.
fn three(directory: &TempDir) -> (PathBuf, [usize; 3], Vec<u8>) {
    let path = directory.path().join("00000000000000000000.log");
    let batches = [batch(1, 0, 0, 2), batch(1, 0, 2, 5), batch(1, 0, 7, 1)];
    let starts = [0, batches[0].len(), batches[0].len() + batches[1].len()];
    let bytes = batches.concat();
    fs::write(&path, &bytes).unwrap();
    assert_eq!(whole(&path).len(), 3);
    (path, starts, bytes)
}

#[test]
fn damage_ends_the_dump_and_is_named() {
    let directory = TempDir::new().unwrap();
    let (path, [_, second, third], bytes) = three(&directory);
    let try_with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut damaged = bytes.clone();
        change(&mut damaged);
        fs::write(&path, &damaged).unwrap();
        let (batches, error) = dump(&path);
        let Some(InspectError::Damaged {
            file,
            position,
            damage,
        }) = error
        else {
            panic!("{error:?}");
        };
        assert_eq!(file, path.to_str().unwrap());
        (batches, usize::try_from(position).unwrap(), damage)
    };
    // The CRC: the batch is shown, marked, and then the dump ends.
    let (batches, position, damage) = try_with(&|bytes| bytes[second + 100] ^= 1);
    assert_eq!(
        batches.iter().map(|b| b.crc_ok).collect::<Vec<_>>(),
        [true, false]
    );
    assert_eq!(position, second);
    assert!(damage.to_string().contains("CRC"), "{damage}");
    // A length beyond the file.
    let (batches, position, damage) = try_with(&|bytes| bytes[second + 8] = 0x7f);
    assert_eq!((batches.len(), position), (1, second));
    assert!(matches!(damage, Damage::BeyondEnd { .. }), "{damage}");
    // Another format.
    let (batches, position, damage) = try_with(&|bytes| bytes[third + 16] = 1);
    assert_eq!((batches.len(), position), (2, third));
    assert!(damage.to_string().contains("magic byte is 1"), "{damage}");
    // A zeroed page is not the end of the file.
    let (batches, position, damage) = try_with(&|bytes| bytes[second..third].fill(0));
    assert_eq!((batches.len(), position), (1, second));
    assert!(
        matches!(damage, Damage::Hole { at, .. } if at >= third as u64),
        "{damage}"
    );
    // A cut batch, header or record.
    for cut in [bytes.len() - 1, third + 61, third + 60, third + 12] {
        let (batches, position, _) = try_with(&|bytes| bytes.truncate(cut));
        assert_eq!((batches.len(), position), (2, third), "cut at {cut}");
    }
    // Zeros to the end are reserved space.
    for zeros in [1, 61, 100, 3 << 20] {
        let mut reserved = bytes.clone();
        reserved.resize(bytes.len() + zeros, 0);
        fs::write(&path, &reserved).unwrap();
        assert_eq!(whole(&path).len(), 3, "{zeros} zeros");
    }
}

#[test]
fn batch_larger_than_the_read_ahead_is_dumped() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("large.bin");
    let large = batch(1, 0, 1, 30_000);
    assert!(large.len() > 3 << 20);
    fs::write(
        &path,
        [batch(1, 0, 0, 1), large.clone(), batch(1, 0, 30_001, 1)].concat(),
    )
    .unwrap();
    let batches = whole(&path);
    assert_eq!(batches.len(), 3);
    assert_eq!(batches[1].bytes, large);
}

#[test]
fn what_cannot_be_dumped_says_why() {
    let directory = closed();
    let error = |path: &Path| dump_batches(path).err().unwrap();
    // The data directory holds folders, not segments.
    assert!(matches!(
        error(directory.path()),
        InspectError::NoSegments { .. }
    ));
    let missing = error(&directory.path().join("orders-7"));
    assert!(missing.to_string().contains("orders-7"), "{missing}");
    // Damage in the middle of a folder ends the dump of the folder.
    let damaged = copy(directory.path());
    let folder = damaged.path().join("orders-0");
    let segments = with_extension(&folder, "log");
    fs::write(
        &segments[1],
        "not a batch, and that for longer than a header has bytes ........",
    )
    .unwrap();
    let mut batches = dump_batches(&folder).unwrap();
    let first = batches.by_ref().take_while(Result::is_ok).count();
    assert_eq!(first, whole(&segments[0]).len());
    assert!(batches.next().is_none());
}
