//! Damage at random: found and named, and never a panic or an endless loop.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use log_engine::inspect::{dump_batches, verify};
use log_engine::{Engine, TopicConfig};
use tempfile::TempDir;

use crate::directory::{about, check, copy, files, fill, send_named, small};

const FLIPS: usize = 1_500;
const WOUNDS: usize = 400;
const SEED: u64 = 0x6f6e_6365_6c6f_6733;
/// Far above what a check of these few files takes.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }
}

/// Sealed segments, one that is not, indexes, snapshots, two generations; closed cleanly.
fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    for round in 0..2 {
        let engine = Engine::open(directory.path()).unwrap();
        for (name, config) in [("small", small()), ("large", TopicConfig::default())] {
            let topic = match engine.topic(name) {
                Ok(topic) => topic,
                Err(_) => engine.create_topic(name, 1, config).unwrap(),
            };
            fill(&engine, &topic.partition(0).unwrap(), 25);
        }
        send_named(&engine, "small", round * 5..round * 5 + 8);
        engine.close().unwrap();
    }
    directory
}

/// Whether a byte is in a leader epoch of a segment without a footer: no CRC covers that, and a
/// value between its neighbours' is as good as another (R12).
fn is_unprotected(path: &Path, at: usize, before: &[u8]) -> bool {
    if path.extension().is_none_or(|e| e != "log") || path.with_extension("footer").exists() {
        return false;
    }
    let mut start = 0;
    while start < before.len() {
        if (start + 12..start + 16).contains(&at) {
            return true;
        }
        let length = before[start + 8..start + 12].try_into().unwrap();
        start += 12 + usize::try_from(i32::from_be_bytes(length)).unwrap();
    }
    false
}

#[test]
fn every_flipped_byte_is_named_or_harmless() {
    println!("seed {SEED:#x}");
    let mut random = Random(SEED);
    let directory = directory();
    assert_eq!(check(directory.path()).problems, []);
    let files = files(directory.path());
    let mut kinds = std::collections::BTreeMap::<String, (usize, usize, usize)>::new();
    for round in 0..FLIPS {
        let path = &files[random.below(files.len())];
        let before = fs::read(path).unwrap();
        if before.is_empty() {
            continue;
        }
        // Half of the flips in the first 700 bytes, where the numbers of most files are.
        let most = if round % 2 == 0 {
            before.len()
        } else {
            before.len().min(700)
        };
        let at = random.below(most);
        let mut damaged = before.clone();
        damaged[at] ^= 1 << random.below(8);
        fs::write(path, &damaged).unwrap();
        let report = check(directory.path());
        let case = format!("{} byte {at} (round {round}): {report:?}", path.display());
        let is_named = !about(&report, path).is_empty();
        let is_noted = report
            .notes
            .iter()
            .any(|note| note.contains(path.to_str().unwrap()));
        let name = path.file_name().unwrap().to_str().unwrap();
        let kind = name.rsplit('.').next().unwrap();
        match kind {
            // Nobody decides anything by what is in it.
            "lock" => assert!(report.ok, "{case}"),
            // An older mark is still a lower bound. What it does not reach any more is above it.
            "marks" => {
                assert!(is_named || is_noted, "{case}");
                assert!(is_named || at < 1_024, "{case}");
            }
            "log" if is_unprotected(path, at, &before) => {}
            _ => assert!(is_named, "{case}"),
        }
        // By an older bound or mark, other files are not as they should be either.
        if !["marks", "producer-ids"].contains(&kind) {
            assert_eq!(report.problems.len(), about(&report, path).len(), "{case}");
        }
        let seen = kinds.entry(kind.to_owned()).or_default();
        seen.0 += 1;
        seen.1 += usize::from(is_named);
        seen.2 += usize::from(is_noted);
        fs::write(path, &before).unwrap();
    }
    println!("kind: flips, named as a problem, noted: {kinds:?}");
    assert!(check(directory.path()).ok);
    let kinds: Vec<&str> = kinds.keys().map(String::as_str).collect();
    for kind in [
        "footer",
        "format",
        "generation",
        "index",
        "log",
        "marks",
        "names",
        "snapshot",
        "topics",
    ] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
}

#[test]
fn no_wound_makes_it_panic_or_hang() {
    println!("seed {SEED:#x}");
    let mut random = Random(SEED ^ 1);
    let whole = directory();
    let names: Vec<_> = files(whole.path())
        .iter()
        .map(|file| file.strip_prefix(whole.path()).unwrap().to_owned())
        .collect();
    let mut found = 0;
    for round in 0..WOUNDS {
        let wounded = copy(whole.path());
        let mut done = Vec::new();
        for _ in 0..1 + random.below(4) {
            let name = &names[random.below(names.len())];
            done.push(wound(&mut random, wounded.path(), name, &names));
        }
        let started = Instant::now();
        match verify(wounded.path()) {
            Ok(report) => found += usize::from(!report.ok),
            Err(error) => panic!("round {round}: {done:?}: {error}"),
        }
        for log in ["small-0", "large-0"] {
            if let Ok(batches) = dump_batches(&wounded.path().join(log)) {
                assert!(batches.count() < 1_000, "round {round}: {done:?}");
            }
        }
        assert!(started.elapsed() < TIME_LIMIT, "round {round}: {done:?}");
    }
    println!("{found} of {WOUNDS} were found");
    assert!(found > WOUNDS * 8 / 10, "{found}");
}

fn wound(random: &mut Random, root: &Path, name: &Path, names: &[std::path::PathBuf]) -> String {
    let path = root.join(name);
    let Ok(mut bytes) = fs::read(&path) else {
        return String::new();
    };
    let at = random.below(bytes.len() + 1);
    let kind = random.below(7);
    match kind {
        0 => bytes.truncate(at),
        1 => bytes.resize(
            bytes.len() + random.below(10_000),
            u8::try_from(at % 256).unwrap(),
        ),
        2 => {
            let end = bytes.len().min(at + 600);
            bytes[at..end].fill(0);
        }
        3 => bytes
            .iter_mut()
            .skip(at)
            .take(40)
            .for_each(|b| *b = random.next().to_be_bytes()[0]),
        4 => {
            fs::remove_file(&path).unwrap();
            return format!("removed {}", name.display());
        }
        5 => {
            // A directory in its place.
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            return format!("a directory for {}", name.display());
        }
        _ => {
            let other = root.join(&names[random.below(names.len())]);
            bytes = fs::read(other).unwrap_or_default();
        }
    }
    fs::write(&path, bytes).unwrap();
    format!("{kind} at {at} in {}", name.display())
}
