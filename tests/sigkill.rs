//! A real process, real files, and SIGKILL at random moments: every answered record is there once
//! and in order, and nothing that nobody sent.
//!
//! The writer is this test's own binary, started again. It says on a pipe what it is about to
//! append before it does, and each answer; the parent believes that alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking, and counts little; helpers included"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use harness::child::{Child, say};
use harness::history::{BatchName, History};
use harness::random::Random;
use oncelog::{Ack, Engine, TopicConfig, inspect};

const DIRECTORY: &str = "ONCELOG_KILL_DIRECTORY";
const ACK: &str = "ONCELOG_KILL_ACK";
const KILLS: &str = "ONCELOG_KILLS";
const SEED: &str = "ONCELOG_SEED";

const PARTITIONS: u32 = 2;
const PRODUCERS: usize = 4;
/// What a writer sends at most: it waits to be killed then, so that checking stays cheap.
const BATCHES_EACH: usize = 500;
/// Kills of one directory before a fresh one is begun.
const KILLS_EACH: usize = 20;

// The writer. Does nothing unless the parent started it.
#[test]
fn writes_until_it_is_killed_when_asked() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let ack: Ack = std::env::var(ACK).unwrap().parse().unwrap();
    say(format_args!("\nopening"));
    let engine = Engine::open(directory).unwrap();
    if engine.topic("t").is_err() {
        let mut config = TopicConfig::default().with_ack(ack);
        config.set("segment.bytes", "16384").unwrap();
        config.set("flush.ms", "5").unwrap();
        engine.create_topic("t", PARTITIONS, config).unwrap();
    }
    say(format_args!("opened"));
    std::thread::scope(|scope| {
        for _ in 0..PRODUCERS {
            scope.spawn(|| produce(&engine));
        }
    });
    loop {
        std::thread::park();
    }
}

// Up to five batches in flight, as Kafka's clients have, and a repeat now and then.
fn produce(engine: &Engine) {
    let session = engine.session().unwrap();
    let producer_id = session.producer_id();
    say(format_args!("id {producer_id}"));
    let topic = engine.topic("t").unwrap();
    let mut in_flight = VecDeque::new();
    let mut next: Vec<BatchName> = (0..PARTITIONS)
        .map(|partition| BatchName {
            producer_id,
            partition,
            sequence: 0,
        })
        .collect();
    for n in 0..BATCHES_EACH {
        let slot = n % next.len();
        let batch = next[slot];
        next[slot] = batch.next();
        let partition = topic.partition(batch.partition).unwrap();
        let (place, sequence) = (batch.partition, batch.sequence);
        say(format_args!("sent {producer_id} {place} {sequence}"));
        let bytes = batch.bytes();
        let pending = partition.blocking_start(&bytes).unwrap();
        if n % 7 == 0 {
            let again = partition.blocking_append(&bytes).unwrap();
            assert!(again.duplicate && again.offset == pending.appended().offset);
        }
        in_flight.push_back((batch, pending));
        if in_flight.len() == 5 {
            answer(in_flight.pop_front().unwrap());
        }
    }
    in_flight.into_iter().for_each(answer);
}

fn answer((batch, pending): (BatchName, oncelog::Pending)) {
    let at = pending.blocking_wait().unwrap();
    let BatchName {
        producer_id,
        partition,
        sequence,
    } = batch;
    let offset = at.offset;
    say(format_args!(
        "answered {producer_id} {partition} {sequence} {offset}"
    ));
}

fn start(directory: &Path, ack: Ack) -> Child {
    let ack = ack.to_string();
    let variables = [(DIRECTORY, directory.as_os_str()), (ACK, OsStr::new(&ack))];
    Child::start("writes_until_it_is_killed_when_asked", &variables)
}

fn note(lines: &[String], history: &mut History, ids: &mut BTreeSet<i64>) {
    for line in lines {
        let mut words = line.split(' ');
        let kind = words.next().unwrap();
        let numbers: Vec<i64> = words.map_while(|w| w.parse().ok()).collect();
        let batch = || BatchName {
            producer_id: numbers[0],
            partition: u32::try_from(numbers[1]).unwrap(),
            sequence: i32::try_from(numbers[2]).unwrap(),
        };
        match (kind, numbers.len()) {
            ("id", 1) => assert!(ids.insert(numbers[0]), "id {} again (I15)", numbers[0]),
            ("sent", 3) => history.sent(batch()),
            ("answered", 4) => history.answered(batch(), u64::try_from(numbers[3]).unwrap()),
            _ => panic!("the writer said {line:?}"),
        }
    }
}

// Appends the last batches again that were sent and not answered: each is there already, or is
// taken now, and the log agrees with itself about which (I7).
fn resolve(engine: &Engine, history: &mut History) -> usize {
    let topic = engine.topic("t").unwrap();
    let mut open: BTreeMap<(i64, u32), Vec<BatchName>> = BTreeMap::new();
    for (batch, answered) in &history.batches {
        let lane = open
            .entry((batch.producer_id, batch.partition))
            .or_default();
        match answered {
            Some(_) => lane.clear(),
            None => lane.push(*batch),
        }
    }
    let mut resolved = 0;
    for batch in open.into_values().flatten() {
        let partition = topic.partition(batch.partition).unwrap();
        let at = partition.blocking_append(&batch.bytes()).unwrap();
        history.answered(batch, at.offset);
        resolved += 1;
    }
    resolved
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

#[derive(Default)]
struct Totals {
    kills: usize,
    in_recovery: usize,
    answers: usize,
    resolved: usize,
    records: usize,
}

// Up to `kills` kills of one directory.
fn rounds(kills: usize, ack: Ack, random: &mut Random, totals: &mut Totals) {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let directory = root.path().join("data");
    let mut history = History::default();
    let mut ids = BTreeSet::new();
    let mut left = kills;
    while left > 0 {
        let what = format!("{ack}, {left} kills left");
        let mut writer = start(&directory, ack);
        writer.wait_for("opened");
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        let lines = writer.kill();
        note(&lines, &mut history, &mut ids);
        left -= 1;
        if random.below(2) == 0 && left > 0 {
            // Again while it recovers from that.
            let mut writer = start(&directory, ack);
            writer.wait_for("opening");
            std::thread::sleep(Duration::from_micros(random.below(2_500)));
            let mut lines = writer.kill();
            let has_opened = lines.iter().any(|line| line == "opened");
            lines.retain(|line| line != "opened");
            note(&lines, &mut history, &mut ids);
            totals.in_recovery += usize::from(!has_opened);
            left -= 1;
        }
        // Every other time a copy is looked at, and the writer recovers the original itself.
        let is_copy = random.below(2) == 0;
        let looked_at = root.path().join("copy");
        if is_copy {
            copy_tree(&directory, &looked_at);
        }
        let looked_at = if is_copy { &looked_at } else { &directory };
        let report = inspect::verify(looked_at).unwrap();
        assert!(report.ok, "{what}, before opening: {:?}", report.problems);
        let engine = Engine::open(looked_at).unwrap();
        history.check(&engine, "t", &what);
        if !is_copy {
            totals.resolved += resolve(&engine, &mut history);
            totals.records = history.check(&engine, "t", &what);
        }
        engine.close().unwrap();
        drop(engine);
        let report = inspect::verify(looked_at).unwrap();
        assert!(report.ok, "{what}, after opening: {:?}", report.problems);
        if is_copy {
            std::fs::remove_dir_all(looked_at).unwrap();
        }
    }
    totals.kills += kills;
    totals.answers += history.answers();
}

#[test]
fn answered_records_survive_sigkill_at_random_moments() {
    if std::env::var_os(DIRECTORY).is_some() {
        return;
    }
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().unwrap())
    };
    let kills = usize::try_from(number(KILLS, 200)).unwrap();
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number(SEED, u64::from(now.subsec_nanos()));
    println!("{SEED}={seed} {KILLS}={kills}");
    let mut random = Random::new(seed);
    let mut totals = Totals::default();
    let begun = Instant::now();
    let acks = [Ack::Synced, Ack::Interval, Ack::Memory];
    for ack in acks.into_iter().cycle() {
        let left = kills - totals.kills;
        if left == 0 {
            break;
        }
        rounds(left.min(KILLS_EACH), ack, &mut random, &mut totals);
    }
    println!(
        "{} kills in {:.0?}, {} of them during recovery; {} answers kept, {} appends resolved",
        totals.kills,
        begun.elapsed(),
        totals.in_recovery,
        totals.answers,
        totals.resolved
    );
    assert!(totals.answers > kills, "the writers wrote next to nothing");
}
