//! Starts the writer, kills it, and judges what is left, 20 times for each directory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::child::Child;
use harness::history::Loss;
use harness::random::Random;
use oncelog::{Ack, Engine, inspect};

use crate::points::{Nth, POINTS, Point, RECOVERY};
use crate::told::Told;
use crate::writer::{ACK, DIRECTORY, POINT};

const KILLS: &str = "ONCELOG_KILLS";
const SEED: &str = "ONCELOG_SEED";
/// Kills of one directory before a fresh one is begun.
const KILLS_EACH: usize = 20;
const AT_RANDOM: &str = "at a random moment";
const RANDOM_RECOVERY: &str = "mid-recovery: at a random moment";

/// How the next process is to end.
#[derive(Debug)]
enum End {
    AtRandom,
    WhileOpening,
    At(Nth),
}

/// One directory and its processes.
struct Place {
    root: tempfile::TempDir,
    ack: Ack,
    told: Told,
    /// No process has closed it since the last kill.
    is_unclean: bool,
}

#[derive(Default)]
struct Totals {
    kills: BTreeMap<&'static str, usize>,
    answers: usize,
    read: usize,
    resolved: usize,
    directories: usize,
}

impl Totals {
    fn kills(&self) -> usize {
        self.kills.values().sum()
    }

    fn in_recovery(&self) -> usize {
        let in_recovery = |(name, _): &(&&str, &usize)| name.starts_with("mid-recovery");
        let found = self.kills.iter().filter(in_recovery);
        found.map(|(_, count)| count).sum()
    }

    // Points where nobody was killed yet.
    fn missed(&self) -> impl Iterator<Item = &'static Point> {
        POINTS.iter().filter(|p| !self.kills.contains_key(p.name))
    }

    fn print(&self) {
        println!("{:<36} kills", "point");
        for (name, count) in &self.kills {
            println!("{name:<36} {count:5}");
        }
    }
}

impl Place {
    fn new(ack: Ack) -> Place {
        Place {
            root: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
            ack,
            told: Told::default(),
            is_unclean: false,
        }
    }

    fn directory(&self) -> PathBuf {
        self.root.path().join("data")
    }

    // One process, to its end; where it came.
    fn live(&mut self, end: &End, random: &mut Random) -> &'static str {
        let (ack, point) = (
            self.ack.to_string(),
            match end {
                End::At(nth) => nth.to_string(),
                _ => String::new(),
            },
        );
        let directory = self.directory();
        let variables = [
            (DIRECTORY, directory.as_os_str()),
            (ACK, OsStr::new(&ack)),
            (POINT, OsStr::new(&point)),
        ];
        let mut child = Child::start("writer::writes_until_it_is_killed_when_asked", &variables);
        child.wait_for("opening");
        let mut said = Vec::new();
        let mut place = AT_RANDOM;
        match end {
            End::AtRandom => {
                said = child.wait_for("opened");
                std::thread::sleep(Duration::from_micros(random.below(60_000)));
            }
            End::WhileOpening => {
                std::thread::sleep(Duration::from_micros(random.below(2_500)));
                place = RANDOM_RECOVERY;
            }
            End::At(nth) => {
                let is_opening = RECOVERY.iter().any(|p| p.name == nth.point.name);
                let reached = if is_opening { "opened" } else { "idle" };
                let (before, ended) = child.wait_for_any(&[reached]);
                said = before;
                if ended.is_none() {
                    place = nth.point.name;
                }
            }
        }
        said.extend(child.kill());
        let has_opened = said.iter().any(|line| line.starts_with("calls "));
        if place == RANDOM_RECOVERY && (has_opened || !self.is_unclean) {
            place = AT_RANDOM;
        }
        self.told.note(&said);
        self.is_unclean = true;
        place
    }

    // Looks at what is left: at a copy, or at the directory itself, which then is recovered and
    // closed, and takes the batches whose fate is not known.
    fn judge(&mut self, is_copy: bool, what: &str) -> usize {
        let original = self.directory();
        let looked_at = match is_copy {
            true => self.root.path().join("copy"),
            false => original.clone(),
        };
        if is_copy {
            copy_tree(&original, &looked_at);
        }
        let mut resolved = 0;
        if looked_at.join("format").exists() {
            let report = inspect::verify(&looked_at).unwrap();
            assert!(report.ok, "{what}, before opening: {:?}", report.problems);
        }
        let engine = Engine::open(&looked_at).unwrap();
        self.told.check(Loss::Nothing, &engine, what);
        if !is_copy {
            resolved = self.told.resolve(&engine);
            self.told.check(Loss::Nothing, &engine, what);
            self.is_unclean = false;
        }
        engine.close().unwrap();
        drop(engine);
        let report = inspect::verify(&looked_at).unwrap();
        assert!(report.ok, "{what}, after opening: {:?}", report.problems);
        if is_copy {
            std::fs::remove_dir_all(looked_at).unwrap();
        }
        resolved
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

// One of three processes that find an unclean directory is killed while it recovers it; of the
// others most at a point, each point in its turn, and at those that were not reached again.
fn draw(place: &Place, totals: &Totals, turn: &mut usize, random: &mut Random) -> End {
    if place.is_unclean && random.below(5) < 3 {
        if random.below(8) == 0 {
            return End::WhileOpening;
        }
        let point = &RECOVERY[random.below(3) as usize];
        let n = random.below(place.told.opening_calls.clamp(8, point.calls)) + 1;
        return End::At(Nth { point, n });
    }
    let missed = totals.missed().next().filter(|_| *turn >= POINTS.len());
    if let Some(point) = missed {
        return End::At(Nth { point, n: 1 });
    }
    if random.below(3) == 0 {
        return End::AtRandom;
    }
    let point = &POINTS[*turn % POINTS.len()];
    // First near the beginning, so that it is reached.
    let reach = if *turn < POINTS.len() { 3 } else { point.calls };
    *turn += 1;
    let n = random.below(reach.min(point.calls)) + 1;
    End::At(Nth { point, n })
}

#[test]
fn answered_records_survive_sigkill() {
    if std::env::var_os(DIRECTORY).is_some() {
        return;
    }
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().unwrap())
    };
    let kills = usize::try_from(number(KILLS, 160)).unwrap();
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number(SEED, u64::from(now.subsec_nanos()));
    println!("{SEED}={seed} {KILLS}={kills}");
    let mut random = Random::new(seed);
    let mut totals = Totals::default();
    let begun = Instant::now();
    let mut turn = 0;
    let mut acks = [Ack::Synced, Ack::Interval, Ack::Memory]
        .into_iter()
        .cycle();
    while totals.kills() < kills {
        let mut place = Place::new(acks.next().unwrap_or_default());
        for kill in 1..=KILLS_EACH.min(kills - totals.kills()) {
            let end = draw(&place, &totals, &mut turn, &mut random);
            let at = place.live(&end, &mut random);
            *totals.kills.entry(at).or_default() += 1;
            let what = format!("{}, kill {kill} {at}, {SEED}={seed}", place.ack);
            match random.below(3) {
                0 if kill < KILLS_EACH => {}
                1 => _ = place.judge(true, &what),
                _ => totals.resolved += place.judge(false, &what),
            }
        }
        totals.resolved += place.judge(false, "after the last kill");
        totals.answers += place.told.history.answers() + place.told.stored;
        totals.read += place.told.read;
        totals.directories += 1;
    }
    totals.print();
    println!(
        "{} kills of {} directories in {:.0?}, {} of them during recovery; {} answers and {} \
         records shown kept, {} appends resolved",
        totals.kills(),
        totals.directories,
        begun.elapsed(),
        totals.in_recovery(),
        totals.answers,
        totals.read,
        totals.resolved
    );
    assert!(totals.answers > kills, "the writers wrote next to nothing");
    if kills >= 160 {
        let missed: Vec<_> = totals.missed().collect();
        assert!(missed.is_empty(), "nobody was killed at {missed:?}");
        assert!(totals.in_recovery() >= kills / 5, "too few during recovery");
    }
}
