//! Which cases there are.

use harness::random::Random;

use crate::canonical::{CLOSED, Canonical, KILLED};
use crate::change::{Change, Fill, SECTOR};
use crate::examine::Outcome;
use crate::sweep::{kind, run, seed, sweep};

/// A small file; lengths of larger ones are drawn.
const SMALL: usize = 4_096;

/// Pairs of sectors of one file that are exchanged.
const PAIRS_MAX: usize = 6;

fn both(what: &str, cases: impl Fn(&Canonical) -> Vec<Change>) {
    println!("seed {}", seed());
    let directories = [&*CLOSED, &*KILLED].into_iter();
    let violations = directories.map(|canonical| sweep(what, canonical, cases(canonical)));
    assert_eq!(violations.sum::<u64>(), 0, "{what}: seed {}", seed());
}

#[test]
fn one_case() {
    let Ok(text) = std::env::var("ONCELOG_CASE") else {
        return;
    };
    let (name, change) = text.split_once(' ').unwrap();
    let canonical = Canonical::by_name(name).expect("closed or killed");
    let change = Change::parse(change).expect("a case as it was printed");
    println!("{name} {change}: {:?}", run(canonical, &change));
}

#[test]
fn undamaged_directories_give_the_same_answers() {
    for canonical in [&*CLOSED, &*KILLED] {
        let done = run(canonical, &Change::Nothing).unwrap();
        assert_eq!(
            done,
            Ok((Outcome::Same, String::new())),
            "{}",
            canonical.name
        );
    }
}

#[test]
fn cases_are_read_as_they_are_printed() {
    let file = || "synced-0/marks".to_owned();
    for change in [
        Change::Nothing,
        Change::Flip {
            file: file(),
            bit: 9,
        },
        Change::Cut {
            file: file(),
            len: 3,
        },
        Change::Grow {
            file: file(),
            by: 512,
            fill: Fill::Ones,
        },
        Change::Zero {
            file: file(),
            sector: 1,
        },
        Change::Copy {
            file: file(),
            from: 1,
            to: 2,
        },
        Change::Exchange {
            file: file(),
            one: 0,
            other: 2,
        },
        Change::Insert {
            file: file(),
            sector: 2,
        },
        Change::Drop {
            file: file(),
            sector: 2,
        },
        Change::Remove {
            files: vec![file(), "names".to_owned()],
        },
        Change::Put {
            file: file(),
            other: "names".to_owned(),
        },
        Change::Trade {
            one: file(),
            other: "names".to_owned(),
        },
    ] {
        assert_eq!(Change::parse(&change.to_string()), Some(change));
    }
}

#[test]
fn single_bits() {
    let wanted = std::env::var("ONCELOG_FLIPS").unwrap_or_else(|_| "2000".to_owned());
    both("flips", |canonical| {
        let files: Vec<_> = canonical
            .files
            .iter()
            .filter(|(_, b)| !b.is_empty())
            .collect();
        let flip = |file: &str, bit| Change::Flip {
            file: file.to_owned(),
            bit,
        };
        if wanted == "all" {
            let bits = |(file, bytes): &(&String, &Vec<u8>)| {
                let file = (*file).clone();
                (0..bytes.len() * 8)
                    .map(move |bit| flip(&file, bit))
                    .collect::<Vec<_>>()
            };
            return files.iter().flat_map(bits).collect();
        }
        let mut random = Random::new(seed());
        let count: usize = wanted.parse().unwrap();
        // Files alike, whatever they hold, and in every second case where most numbers are.
        let draw = |n: usize| {
            let (file, bytes) = files[below(&mut random, files.len())];
            let most = if n.is_multiple_of(2) { 700 } else { usize::MAX };
            flip(file, below(&mut random, bytes.len().min(most) * 8))
        };
        (0..count).map(draw).collect()
    });
}

fn below(random: &mut Random, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).unwrap()
}

// The file that stands for others of its kind, where all lengths are not asked for.
fn is_first_of_kind(canonical: &Canonical, file: &str) -> bool {
    let mut alike = canonical
        .files
        .keys()
        .filter(|other| kind(other) == kind(file));
    alike.next().is_some_and(|first| first == file)
}

#[test]
fn lengths() {
    let is_complete = std::env::var("ONCELOG_CUTS").is_ok_and(|all| all == "all");
    both("lengths", |canonical| {
        let mut random = Random::new(seed() ^ 1);
        let mut cases = Vec::new();
        for (file, bytes) in &canonical.files {
            let len = bytes.len();
            let mut lengths: Vec<usize> = if len <= SMALL && kind(file) != "log" {
                let phase = below(&mut random, 7);
                let step = if is_complete { 1 } else { 7 };
                let first = if is_complete { 0 } else { phase };
                (first..len).step_by(step).collect()
            } else {
                (0..12).map(|_| below(&mut random, len.max(1))).collect()
            };
            if is_complete && len <= SMALL {
                lengths.extend(0..len);
            }
            let boundaries = (0..=len / SECTOR).map(|sector| sector * SECTOR);
            lengths.extend(boundaries);
            lengths.extend([0, 1, len / 2, len.saturating_sub(1)]);
            lengths.retain(|cut| *cut < len.max(1));
            lengths.sort_unstable();
            lengths.dedup();
            let file = || file.clone();
            cases.extend(
                lengths
                    .into_iter()
                    .map(|len| Change::Cut { file: file(), len }),
            );
            for fill in [Fill::Zeros, Fill::Ones, Fill::Random] {
                let by = [1, 512, 4_096];
                cases.extend(by.map(|by| Change::Grow {
                    file: file(),
                    by,
                    fill,
                }));
            }
        }
        cases
    });
}

#[test]
fn sectors() {
    both("sectors", |canonical| {
        let mut random = Random::new(seed() ^ 2);
        let mut cases = Vec::new();
        for (name, bytes) in &canonical.files {
            let count = bytes.len().div_ceil(SECTOR);
            let file = || name.clone();
            for sector in 0..count {
                cases.push(Change::Zero {
                    file: file(),
                    sector,
                });
                cases.push(Change::Insert {
                    file: file(),
                    sector,
                });
                cases.push(Change::Drop {
                    file: file(),
                    sector,
                });
                if sector + 1 < count {
                    cases.push(Change::Copy {
                        file: file(),
                        from: sector,
                        to: sector + 1,
                    });
                    cases.push(Change::Copy {
                        file: file(),
                        from: sector + 1,
                        to: sector,
                    });
                }
            }
            for _ in 0..if count > 1 { PAIRS_MAX } else { 0 } {
                let (one, other) = (below(&mut random, count), below(&mut random, count));
                cases.push(Change::Exchange {
                    file: file(),
                    one,
                    other,
                });
                cases.push(Change::Copy {
                    file: file(),
                    from: one,
                    to: other,
                });
            }
        }
        cases
    });
}

#[test]
fn missing_files() {
    both("missing", |canonical| {
        let files: Vec<&String> = canonical.files.keys().collect();
        let mut cases = Vec::new();
        for (at, file) in files.iter().enumerate() {
            cases.push(Change::Remove {
                files: vec![(*file).clone()],
            });
            for other in &files[at + 1..] {
                cases.push(Change::Remove {
                    files: vec![(*file).clone(), (*other).clone()],
                });
            }
        }
        cases
    });
}

#[test]
fn files_of_others() {
    both("swaps", |canonical| {
        let files: Vec<&String> = canonical.files.keys().collect();
        let mut cases = Vec::new();
        for one in &files {
            for other in &files {
                let (one, other) = ((*one).clone(), (*other).clone());
                if one == other {
                    continue;
                }
                if kind(&one) == kind(&other) && one < other {
                    cases.push(Change::Trade {
                        one: one.clone(),
                        other: other.clone(),
                    });
                }
                let is_odd =
                    is_first_of_kind(canonical, &one) && is_first_of_kind(canonical, &other);
                if kind(&one) == kind(&other) || is_odd {
                    cases.push(Change::Put { file: one, other });
                }
            }
        }
        cases
    });
}
