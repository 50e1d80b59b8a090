//! One way to damage a directory, as it is printed and read again.

use std::collections::BTreeMap;
use std::fmt;

use harness::random::Random;

pub(crate) const SECTOR: usize = 512;

/// Names are those of files of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing at all.
    Nothing,
    Flip {
        file: String,
        bit: usize,
    },
    Cut {
        file: String,
        len: usize,
    },
    Grow {
        file: String,
        by: usize,
        fill: Fill,
    },
    Zero {
        file: String,
        sector: usize,
    },
    /// One sector has the contents of another one.
    Copy {
        file: String,
        from: usize,
        to: usize,
    },
    Exchange {
        file: String,
        one: usize,
        other: usize,
    },
    /// A sector of zeros comes in between.
    Insert {
        file: String,
        sector: usize,
    },
    /// A sector goes, and what follows moves up.
    Drop {
        file: String,
        sector: usize,
    },
    Remove {
        files: Vec<String>,
    },
    /// A file has the contents of another one.
    Put {
        file: String,
        other: String,
    },
    Trade {
        one: String,
        other: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    Zeros,
    Ones,
    Random,
}

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// What changed files hold now; `None`: they are gone.
pub(crate) type Changed = BTreeMap<String, Option<Vec<u8>>>;

impl Change {
    /// `None` when the case changes nothing.
    pub(crate) fn apply(&self, files: &Files) -> Option<Changed> {
        let mut changed = Changed::new();
        let mut edit = |file: &String, edit: &mut dyn FnMut(&mut Vec<u8>)| {
            let before = &files[file];
            let mut bytes = before.clone();
            edit(&mut bytes);
            if bytes != *before {
                changed.insert(file.clone(), Some(bytes));
            }
        };
        match self {
            Change::Nothing => return Some(changed),
            Change::Flip { file, bit } => edit(file, &mut |b| b[bit / 8] ^= 1 << (bit % 8)),
            Change::Cut { file, len } => edit(file, &mut |b| b.truncate(*len)),
            Change::Grow { file, by, fill } => edit(file, &mut |b| {
                let mut random = Random::new(5);
                for _ in 0..*by {
                    b.push(match fill {
                        Fill::Zeros => 0,
                        Fill::Ones => 0xff,
                        Fill::Random => random.next_u64().to_be_bytes()[0],
                    });
                }
            }),
            Change::Zero { file, sector } => edit(file, &mut |b| {
                let range = range_of(*sector, b.len());
                b[range].fill(0);
            }),
            Change::Copy { file, from, to } => edit(file, &mut |b| {
                let sector = b[range_of(*from, b.len())].to_vec();
                put_sector(b, *to, &sector);
            }),
            Change::Exchange { file, one, other } => edit(file, &mut |b| {
                let (first, second) = (range_of(*one, b.len()), range_of(*other, b.len()));
                let (first, second) = (b[first].to_vec(), b[second].to_vec());
                put_sector(b, *one, &second);
                put_sector(b, *other, &first);
            }),
            Change::Insert { file, sector } => edit(file, &mut |b| {
                let at = (sector * SECTOR).min(b.len());
                b.splice(at..at, [0; SECTOR]);
            }),
            Change::Drop { file, sector } => edit(file, &mut |b| {
                let range = range_of(*sector, b.len());
                b.drain(range);
            }),
            Change::Remove { files } => {
                changed.extend(files.iter().map(|file| (file.clone(), None)));
            }
            Change::Put { file, other } => edit(file, &mut |b| *b = files[other].clone()),
            Change::Trade { one, other } => {
                edit(one, &mut |b| *b = files[other].clone());
                edit(other, &mut |b| *b = files[one].clone());
            }
        }
        (!changed.is_empty()).then_some(changed)
    }
}

fn range_of(sector: usize, len: usize) -> std::ops::Range<usize> {
    let start = (sector * SECTOR).min(len);
    start..(start + SECTOR).min(len)
}

fn put_sector(bytes: &mut [u8], sector: usize, contents: &[u8]) {
    let range = range_of(sector, bytes.len());
    let len = range.len().min(contents.len());
    bytes[range.start..range.start + len].copy_from_slice(&contents[..len]);
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Nothing => write!(f, "nothing"),
            Change::Flip { file, bit } => write!(f, "flip {file} {bit}"),
            Change::Cut { file, len } => write!(f, "cut {file} {len}"),
            Change::Grow { file, by, fill } => write!(f, "grow {file} {by} {fill:?}"),
            Change::Zero { file, sector } => write!(f, "zero {file} {sector}"),
            Change::Copy { file, from, to } => write!(f, "copy {file} {from} {to}"),
            Change::Exchange { file, one, other } => write!(f, "exchange {file} {one} {other}"),
            Change::Insert { file, sector } => write!(f, "insert {file} {sector}"),
            Change::Drop { file, sector } => write!(f, "drop {file} {sector}"),
            Change::Remove { files } => write!(f, "remove {}", files.join(" ")),
            Change::Put { file, other } => write!(f, "put {file} {other}"),
            Change::Trade { one, other } => write!(f, "trade {one} {other}"),
        }
    }
}

impl Change {
    /// Reads a case as it was printed.
    pub(crate) fn parse(text: &str) -> Option<Change> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let file = words.get(1).map(|file| (*file).to_owned());
        let number = |at: usize| words.get(at)?.parse::<usize>().ok();
        Some(match *words.first()? {
            "nothing" => Change::Nothing,
            "flip" => Change::Flip {
                file: file?,
                bit: number(2)?,
            },
            "cut" => Change::Cut {
                file: file?,
                len: number(2)?,
            },
            "grow" => {
                let fill = match *words.get(3)? {
                    "Zeros" => Fill::Zeros,
                    "Ones" => Fill::Ones,
                    _ => Fill::Random,
                };
                Change::Grow {
                    file: file?,
                    by: number(2)?,
                    fill,
                }
            }
            "zero" => Change::Zero {
                file: file?,
                sector: number(2)?,
            },
            "copy" => Change::Copy {
                file: file?,
                from: number(2)?,
                to: number(3)?,
            },
            "exchange" => Change::Exchange {
                file: file?,
                one: number(2)?,
                other: number(3)?,
            },
            "insert" => Change::Insert {
                file: file?,
                sector: number(2)?,
            },
            "drop" => Change::Drop {
                file: file?,
                sector: number(2)?,
            },
            "remove" => Change::Remove {
                files: words[1..].iter().map(|file| (*file).to_owned()).collect(),
            },
            "put" => Change::Put {
                file: file?,
                other: (*words.get(2)?).to_owned(),
            },
            "trade" => Change::Trade {
                one: file?,
                other: (*words.get(2)?).to_owned(),
            },
            _ => return None,
        })
    }
}
