//! A real process, real files, a named producer, and SIGKILL at random moments. The same command
//! is started again each time, and sends its source from where the name says.

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use harness::child::{Child, say};
use harness::ledger::{Ledger, Line, TOPIC};
use harness::random::Random;
use oncelog::testing::Lossy;
use oncelog::{Ack, Engine, TopicConfig, inspect};

const DIRECTORY: &str = "ONCELOG_FEED_DIRECTORY";
const ACK: &str = "ONCELOG_FEED_ACK";
const SEED: &str = "ONCELOG_FEED_SEED";
const FROM_START: &str = "ONCELOG_FEED_FROM_START";

const PARTITIONS: u32 = 3;
/// Rounds of one directory before a fresh one is begun.
const ROUNDS_EACH: usize = 15;
const ROUNDS: usize = 60;
/// Lines that a process sends at most: it waits to be killed then.
const LINES: u64 = 3_000;

fn open(directory: impl AsRef<Path>, ack: Ack) -> Engine {
    let engine = Engine::open(directory).unwrap();
    if engine.topic(TOPIC).is_err() {
        let mut config = TopicConfig::default().with_ack(ack);
        config.set("segment.bytes", "65536").unwrap();
        config.set("flush.ms", "5").unwrap();
        engine.create_topic(TOPIC, PARTITIONS, config).unwrap();
    }
    engine
}

// The process. Does nothing unless the parent started it.
#[test]
fn sends_its_source_until_it_is_killed_when_asked() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let ack: Ack = std::env::var(ACK).unwrap().parse().unwrap();
    say(format_args!("\nopening"));
    let engine = open(directory, ack);
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    let lossy = Lossy::seed(seed).lose_answers(0.1);
    let producer = engine.producer().name("feed").transport(lossy);
    let producer = producer.batch_bytes(400).open().unwrap();
    let resume_from = producer.resume_from();
    let from = match std::env::var_os(FROM_START) {
        Some(_) => 0,
        None => resume_from,
    };
    say(format_args!("opened"));
    say(format_args!("resumes {resume_from}"));
    let mut waiting = std::collections::VecDeque::new();
    for position in from..resume_from + LINES {
        let line = Line::at(0, position);
        say(format_args!("sent {position}"));
        let ticket = producer.blocking_send(line.record(true)).unwrap();
        waiting.push_back((position, ticket));
        while waiting.front().is_some_and(|(_, ticket)| ticket.is_done()) || waiting.len() > 60 {
            let (position, ticket) = waiting.pop_front().unwrap();
            let at = ticket.blocking_wait().unwrap();
            let offset = at.offset.map_or(-1, |offset| offset.cast_signed());
            say(format_args!("stored {position} {} {offset}", at.partition));
        }
    }
    loop {
        std::thread::park();
    }
}

// Takes note of what it said; returns where it went on, if it said that.
fn note(lines: &[String], ledger: &mut Ledger) -> Result<(Option<u64>, u64), String> {
    let (mut resumes, mut stored) = (None, 0);
    for line in lines {
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or("");
        let numbers: Vec<i64> = words.map_while(|w| w.parse().ok()).collect();
        let position = || Line::at(0, numbers[0].cast_unsigned());
        match (kind, numbers.len()) {
            ("resumes", 1) => resumes = Some(numbers[0].cast_unsigned()),
            ("sent", 1) => ledger.sent(&position(), true),
            ("stored", 3) => {
                let partition = u32::try_from(numbers[1]).unwrap();
                let offset = u64::try_from(numbers[2]).ok();
                ledger.stored_at(&position(), partition, offset)?;
                stored += 1;
            }
            // The last line may be cut.
            _ if Some(line) == lines.last() => {}
            _ => panic!("the process said {line:?}"),
        }
    }
    Ok((resumes, stored))
}

// Kills of one directory; returns how many answers were given.
fn rounds(count: usize, ack: Ack, random: &mut Random) -> Result<u64, String> {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let directory = root.path().join("data");
    let mut ledger = Ledger::default();
    let mut answers = 0;
    for round in 0..count {
        let (ack_text, seed) = (ack.to_string(), random.next_u64().to_string());
        let mut variables = vec![
            (DIRECTORY, directory.as_os_str()),
            (ACK, OsStr::new(&ack_text)),
            (SEED, OsStr::new(&seed)),
        ];
        if random.below(3) == 0 {
            variables.push((FROM_START, OsStr::new("1")));
        }
        let test = "killed::sends_its_source_until_it_is_killed_when_asked";
        let mut child = Child::start(test, &variables);
        child.wait_for(if random.below(8) == 0 {
            "opening"
        } else {
            "opened"
        });
        std::thread::sleep(Duration::from_micros(random.below(40_000)));
        let mut lines = child.kill();
        lines.retain(|line| line != "opened");
        let (resumes, stored) = note(&lines, &mut ledger)?;
        answers += stored;
        if round % 3 != 2 && round + 1 < count {
            // Left as it is, for the next process to recover.
            continue;
        }
        let engine = open(&directory, ack);
        let found = ledger.check(&engine)?;
        let from = resumes.unwrap_or(0);
        if !found.has_all_below(0, from) {
            return Err(format!(
                "resumed from {from}, and lines below it are missing"
            ));
        }
        if round + 1 == count {
            let producer = engine.producer().name("feed").open().unwrap();
            for position in 0..ledger.sent_of(0) {
                let line = Line::at(0, position);
                let ticket = producer.blocking_send(line.record(true)).unwrap();
                drop(ticket);
            }
            producer.blocking_close().map_err(|e| e.to_string())?;
            ledger.check_complete(&engine)?;
        }
        engine.close().map_err(|e| e.to_string())?;
        drop(engine);
        let report = inspect::verify(&directory).unwrap();
        if !report.ok {
            return Err(format!("{:?}", report.problems));
        }
    }
    Ok(answers)
}

#[test]
fn a_named_producer_whose_process_is_killed_stores_every_line_once() {
    if std::env::var_os(DIRECTORY).is_some() {
        return;
    }
    let seed = std::env::var("ONCELOG_SEED").map_or(7, |text| text.parse().unwrap());
    let mut random = Random::new(seed);
    let begun = Instant::now();
    let mut answers = 0;
    let acks = [Ack::Synced, Ack::Memory, Ack::Synced, Ack::Interval];
    for ack in acks {
        match rounds(ROUNDS_EACH, ack, &mut random) {
            Ok(more) => answers += more,
            Err(violation) => panic!("VIOLATION with ONCELOG_SEED={seed}, {ack}: {violation}"),
        }
    }
    assert_eq!(acks.len() * ROUNDS_EACH, ROUNDS);
    println!(
        "ONCELOG_SEED={seed}: {ROUNDS} kills in {:.1?}, {answers} answers",
        begun.elapsed()
    );
    assert!(
        answers > 1_000,
        "the processes sent next to nothing: {answers}"
    );
}
