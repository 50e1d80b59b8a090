//! Everything that was ever found, and the seed inputs, through all targets.
//!
//! `ONCELOG_FUZZ_SEEDS=DIR` writes the seeds into one folder for each target, for the fuzzer to begin
//! with.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use crate::TARGETS;
use crate::canonical::{CLOSED, KILLED};

fn folder() -> std::path::PathBuf {
    // As a test of `oncelog-tests`, or as a library of the fuzzer.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    if here.ends_with("fuzz") {
        here.to_owned()
    } else {
        here.join("fuzz")
    }
}

#[test]
fn what_was_found_stays_mended() {
    let mut count = 0;
    for (name, target) in TARGETS {
        let Ok(files) = fs::read_dir(folder().join("regressions").join(name)) else {
            continue;
        };
        for file in files {
            let path = file.unwrap().path();
            let data = fs::read(&path).unwrap();
            let done = catch_unwind(|| target(&data));
            assert!(done.is_ok(), "{}", path.display());
            count += 1;
        }
    }
    println!("{count} regressions");
}

#[test]
fn targets_take_their_seeds() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name}");
        for (at, seed) in seeds.iter().enumerate() {
            let done = catch_unwind(|| target(seed));
            assert!(done.is_ok(), "{name}: seed {at}: {}", hex(seed));
            if let Ok(root) = std::env::var("ONCELOG_FUZZ_SEEDS") {
                let folder = Path::new(&root).join(name);
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join(format!("seed-{at}")), seed).unwrap();
            }
        }
        println!("{name}: {} seeds", seeds.len());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// Batches of real clients.
fn vectors() -> Vec<Vec<u8>> {
    let path = folder().join("../fixtures/record_batches.json");
    let text = fs::read_to_string(path).unwrap();
    let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
    let hex = vectors.as_array().unwrap().iter();
    hex.filter_map(|vector| vector["hex"].as_str())
        .map(|hex| {
            let digits = hex.as_bytes().chunks(2);
            let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16);
            digits.map(|pair| byte(pair).unwrap()).collect()
        })
        .collect()
}

fn files(extension: &str) -> Vec<Vec<u8>> {
    let all = CLOSED.files.iter().chain(&KILLED.files);
    all.filter(|(name, _)| name.ends_with(extension))
        .map(|(_, bytes)| bytes.clone())
        .collect()
}

// The frame's body, behind the bytes that have a target make a frame of it.
fn bodies(extension: &str, before: &[u8]) -> Vec<Vec<u8>> {
    let body = |bytes: Vec<u8>| [before, &bytes[10..bytes.len() - 4]].concat();
    files(extension).into_iter().map(body).collect()
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let with = |head: &[u8], tail: &[u8]| [head, tail].concat();
    let batches = vectors();
    let mut seeds: Vec<Vec<u8>> = match target {
        "batch_parse" => batches,
        "records" => {
            let seed = |b: &Vec<u8>| with(&[b[22], b[60], b[26].wrapping_add(1), 0], &b[61..]);
            batches.iter().map(seed).collect()
        }
        "decompress" => {
            let seed = |b: &Vec<u8>| with(&[b[22] % 5 + 250 / 5 * 5 - 100, 255, 255], &b[61..]);
            batches.iter().map(seed).collect()
        }
        "snapshot" => bodies(".snapshot", &[0, 1]),
        "index" => bodies(".index", &[0, 1]),
        "marks_slots" => {
            let mut seeds = Vec::new();
            for (name, kinds) in [
                ("marks", &[0, 1][..]),
                ("producer-ids", &[2]),
                ("generation", &[3]),
            ] {
                for file in files(name) {
                    for kind in kinds {
                        let mut seed = vec![*kind];
                        for slot in file.chunks(512) {
                            // The body alone; the target makes the frame.
                            let len = u32::from_be_bytes(slot[6..10].try_into().unwrap());
                            let body = &slot[10..10 + usize::try_from(len).unwrap()];
                            seed.push(2);
                            seed.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
                            seed.extend_from_slice(body);
                        }
                        seeds.push(seed);
                    }
                }
            }
            seeds
        }
        "state_files" => {
            let kinds = ["topics", "names", "format", ".footer", ".snapshot"];
            let mut seeds: Vec<Vec<u8>> = (0..5)
                .map(|kind| vec![130 + kind, 0, 40, 1, 7, 7, 0])
                .collect();
            for (kind, extension) in (0..).zip(kinds) {
                seeds.extend(bodies(extension, &[kind, 1]));
            }
            seeds
        }
        "segment_recovery" => (0..40_u8)
            .map(|n| {
                let bytes = (0..200_u16).map(|at| (at * 31 + u16::from(n) * 97).to_be_bytes()[1]);
                with(&[n, n * 3, n], &bytes.collect::<Vec<u8>>())
            })
            .collect(),
        "directory_recovery" => (0..60_u8)
            .map(|n| {
                let bytes = (0..40_u16).map(|at| (at * 37 + u16::from(n) * 101).to_be_bytes()[1]);
                with(&[n], &bytes.collect::<Vec<u8>>())
            })
            .collect(),
        _ => (0..60_u8)
            .map(|n| {
                let bytes = (0..150_u16)
                    .map(|at| (at + 3).wrapping_mul(u16::from(n) * 26 + 131).to_be_bytes()[0]);
                bytes.collect()
            })
            .collect(),
    };
    seeds.sort_unstable();
    seeds.dedup();
    seeds
}
