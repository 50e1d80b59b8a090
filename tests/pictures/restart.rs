//! A program is killed between its append and the answer, and started again: without a name, and
//! with one.

use std::time::Duration;

use oncelog::storage::MemoryDisk;
use oncelog::testing::Lossy;
use oncelog::{Engine, Producer, Record};

use crate::canvas::{Anchor, Canvas};
use crate::exchange::{HEIGHT, Lives, span};
use crate::stored::{self, StoredBatch};
use crate::watched::{self, Request, Watched};

const LOST: f64 = 0.3;
const LINES: u64 = 9;
const PER_BATCH: u64 = 3;
const NAME: &str = "feed";

/// What happened, in this order.
struct Story {
    first_run: Vec<Request>,
    /// Where the log says to go on, of a named producer.
    resume_from: Option<u64>,
    /// Records that were handed over again and not sent.
    skipped: u64,
    second_run: Vec<Request>,
    stored: Vec<StoredBatch>,
}

/// Draws runs in which the answer of the second batch is lost, and no other.
pub(crate) fn draw() -> String {
    let both = |seed| Some((seed, [story(seed, false)?, story(seed, true)?]));
    let found = (1..1_000).find_map(both);
    let (seed, stories) = found.expect("a seed that does it");
    let mut canvas = Canvas::new(980);
    let title = "Killed before the answer, and started again";
    canvas.text((24, 34), Anchor::Start, "title", title);
    let under = format!(
        "a file of {LINES} lines, read again from the first line without an answer; oncelog::testing::Lossy, seed {seed}"
    );
    canvas.text((24, 56), Anchor::Start, "small muted", &under);
    for (left, story) in [0, 490].into_iter().zip(&stories) {
        panel(&mut canvas, left, story);
    }
    canvas.finish(
        "A restart, without and with a name",
        "Two programs are killed between an append and its answer and start again. The one without a name gets a new \
         producer id, and the lines that it sends again are stored twice. The one with a name keeps its id, gets the next \
         epoch and the position to go on from, and every line is stored once.",
    )
}

fn open(engine: &Engine, link: &Watched, is_named: bool) -> Producer {
    let mut builder = engine
        .producer()
        .transport(link.clone())
        .batch_records(usize::try_from(PER_BATCH).unwrap())
        .linger(Duration::from_secs(60));
    if is_named {
        builder = builder.name(NAME);
    }
    builder.open().unwrap()
}

// Sends a batch of lines and waits; whether all of them were answered.
fn send(producer: &Producer, first: u64) -> bool {
    let send = |line: u64| {
        let value = format!("line {line}");
        let mut record = Record::to("lines").value(&value);
        if producer.name().is_some() {
            record = record.position(line);
        }
        producer.blocking_send(record).unwrap()
    };
    let tickets: Vec<_> = (first..first + PER_BATCH).map(send).collect();
    let answers = tickets.into_iter().map(|ticket| ticket.blocking_wait());
    answers.filter(Result::is_err).count() == 0
}

// `None` where the seed loses other answers.
fn story(seed: u64, is_named: bool) -> Option<Story> {
    let disk = MemoryDisk::new();
    let lossy = Lossy::seed(seed).lose_answers(LOST);
    let link = Watched::new(lossy.clone()).killing(&disk);
    let engine = watched::engine(&disk);
    engine.ensure_topic("lines", 1).unwrap();
    let producer = open(&engine, &link, is_named);
    // The first line that no answer came for.
    let mut known = 0;
    while known < LINES && send(&producer, known) {
        known += PER_BATCH;
    }
    let first_run = link.requests();

    let engine = watched::engine(&link.disk_of_the_killed()?);
    let link = Watched::new(lossy.clone());
    let producer = open(&engine, &link, is_named);
    let resume_from = is_named.then(|| producer.resume_from());
    for first in (known..LINES).step_by(usize::try_from(PER_BATCH).unwrap()) {
        assert!(send(&producer, first));
    }
    let is_it = known == PER_BATCH && lossy.counts().answers_lost == 1;
    let stored = stored::read(&engine, "lines");
    is_it.then(|| Story {
        first_run,
        resume_from,
        skipped: producer.counts().skipped,
        second_run: link.requests(),
        stored,
    })
}

fn panel(canvas: &mut Canvas, left: i32, story: &Story) {
    let lives = Lives {
        producer: left + 70,
        log: left + 350,
    };
    let end = 178 + 4 * HEIGHT + 40;
    let head = match story.resume_from {
        None => "Without a name".to_owned(),
        Some(_) => format!("With the name \"{NAME}\""),
    };
    canvas.text((left + 24, 92), Anchor::Start, "head", &head);
    lives.draw(canvas, (106, end), ["program", "log"]);

    let mut first = 0;
    let mut y = 178;
    for request in &story.first_run {
        line_exchange(canvas, lives, (y, first), request);
        first += i64::from(request.records);
        y += HEIGHT;
    }
    let killed = y - 30;
    canvas.line((left + 24, killed), (left + 466, killed), "answer bad");
    canvas.text(
        (left + 24, killed + 16),
        Anchor::Start,
        "small bad",
        "killed",
    );
    let again = match story.resume_from {
        None => "new session, nothing known of before".to_owned(),
        Some(position) => format!("next epoch; resume_from() is {position}"),
    };
    canvas.text(
        (lives.middle(), killed + 38),
        Anchor::Middle,
        "small",
        &again,
    );

    y += 62;
    // What the first run sent last, and got no answer for, comes again.
    first -= i64::from(story.first_run.last().unwrap().records);
    if story.skipped > 0 {
        let skipped = i32::try_from(story.skipped).unwrap();
        let what = format!("lines {} are handed over again:", span(first, skipped));
        canvas.text((lives.middle(), y - 22), Anchor::Middle, "small", &what);
        let what = "stored already, not sent";
        canvas.text((lives.middle(), y - 4), Anchor::Middle, "note good", what);
        first += i64::from(skipped);
        y += HEIGHT;
    }
    for request in &story.second_run {
        line_exchange(canvas, lives, (y, first), request);
        first += i64::from(request.records);
        y += HEIGHT;
    }
    strip(canvas, (left + 24, end + 20), &story.stored);
}

fn line_exchange(canvas: &mut Canvas, lives: Lives, (y, first): (i32, i64), request: &Request) {
    let count = i32::try_from(request.records).unwrap();
    let what = format!("lines {}", span(first, count));
    lives.exchange(canvas, y, &what, request);
}

fn strip(canvas: &mut Canvas, place: (i32, i32), stored: &[StoredBatch]) {
    let times = |line: u64| {
        let lines = stored.iter().flat_map(StoredBatch::numbers);
        lines.filter(|other| **other == line).count()
    };
    let is_twice = |at: usize| stored[at].numbers().iter().any(|line| times(*line) > 1);
    let class = |at| if is_twice(at) { "twice" } else { "once" };
    let bottom = stored::draw(canvas, place, stored, Some("lines"), class);
    let records: usize = stored.iter().map(|batch| batch.numbers().len()).sum();
    let twice = (0..LINES).filter(|line| times(*line) > 1).count();
    let lost = (0..LINES).filter(|line| times(*line) == 0).count();
    assert_eq!(lost, 0);
    let (text, class) = match twice {
        0 => (format!("{records} records: every line once"), "note good"),
        _ => (
            format!("{records} records: {twice} lines twice"),
            "note bad",
        ),
    };
    canvas.text((place.0, bottom + 24), Anchor::Start, class, &text);
}
