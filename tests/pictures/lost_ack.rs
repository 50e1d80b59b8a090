//! The answer of a batch is lost; its producer sends it again and gets the first answer.

use std::time::Duration;

use oncelog::storage::MemoryDisk;
use oncelog::testing::Lossy;
use oncelog::{Decision, Record};

use crate::canvas::{Anchor, Canvas};
use crate::exchange::{HEIGHT, Lives};
use crate::stored::{self, StoredBatch};
use crate::watched::{self, Request, Watched};

const LOST: f64 = 0.3;
const PER_BATCH: usize = 3;
const BATCHES: usize = 3;
/// A batch leaves when it is full.
const LINGER: Duration = Duration::from_secs(60);

const LIVES: Lives = Lives {
    producer: 236,
    log: 600,
};
/// Where the first request is.
const FIRST: i32 = 154;

/// Draws a run in which the answer of the second batch is lost, and no other.
pub(crate) fn draw() -> String {
    let wanted = |seed| {
        let (requests, batches) = run(seed);
        let lost = requests.iter().map(|request| !request.is_answered);
        let is_it = lost.eq([false, true, false, false]);
        is_it.then(|| picture(seed, &requests, &batches))
    };
    (1..1_000).find_map(wanted).expect("a seed that does it")
}

fn run(seed: u64) -> (Vec<Request>, Vec<StoredBatch>) {
    let engine = watched::engine(&MemoryDisk::new());
    engine.ensure_topic("orders", 1).unwrap();
    let link = Watched::new(Lossy::seed(seed).lose_answers(LOST));
    let producer = engine.producer().transport(link.clone());
    let producer = producer.batch_records(PER_BATCH).linger(LINGER);
    let producer = producer.open().unwrap();
    for batch in 0..BATCHES {
        let send = |number| {
            let value = format!("order {}", batch * PER_BATCH + number);
            producer.blocking_send(Record::to("orders").value(&value))
        };
        let tickets: Vec<_> = (0..PER_BATCH).map(|n| send(n).unwrap()).collect();
        for ticket in tickets {
            let _ = ticket.blocking_wait().unwrap();
        }
    }
    (link.requests(), stored::read(&engine, "orders"))
}

fn picture(seed: u64, requests: &[Request], batches: &[StoredBatch]) -> String {
    assert_eq!(requests[2].decision, Decision::Duplicate);
    let mut canvas = Canvas::new(760);
    canvas.text((24, 34), Anchor::Start, "title", "A lost acknowledgement");
    let under = format!("topic orders, partition 0; oncelog::testing::Lossy, seed {seed}");
    canvas.text((24, 56), Anchor::Start, "small muted", &under);
    let rows = i32::try_from(requests.len()).unwrap();
    let end = FIRST + rows * HEIGHT - 30;
    LIVES.draw(&mut canvas, (78, end), ["producer", "log"]);
    for ((at, request), row) in requests.iter().enumerate().zip(0..) {
        let y = FIRST + row * HEIGHT;
        let what = format!("{} records", request.records);
        LIVES.exchange(&mut canvas, y, &what, request);
        let is_again = at > 0 && requests[at - 1].identity == request.identity;
        if is_again {
            note(&mut canvas, y, ["the same bytes,", "the same sequence"]);
        } else if !request.is_answered {
            note(
                &mut canvas,
                y + 38,
                ["no answer: is it stored?", "the batch is sent again"],
            );
        }
    }
    canvas.text((24, end + 38), Anchor::Start, "head", "What a reader finds");
    assert_eq!(requests[0].offset, 0, "it is told from the beginning");
    let bottom = stored::draw(&mut canvas, (24, end + 54), batches, None, |_| "first");
    let carried: u32 = requests.iter().map(|request| request.records).sum();
    let stored = batches.iter().flat_map(StoredBatch::numbers);
    let stored: Vec<u64> = stored.copied().collect();
    let once: Vec<u64> = (0..).take(BATCHES * PER_BATCH).collect();
    assert_eq!(stored, once, "each record is there once, and in order");
    let sum = format!(
        "{carried} records carried, {} stored: each once",
        stored.len()
    );
    canvas.text((120, bottom + 24), Anchor::Start, "note good", &sum);
    canvas.finish(
        "A lost acknowledgement and its resend",
        "A producer's batch is stored, but the answer is lost. The producer sends the same batch under the same \
         sequence again; the log finds it, appends nothing, and answers with the first offset.",
    )
}

// Beside the producer's life.
fn note(canvas: &mut Canvas, y: i32, lines: [&str; 2]) {
    for (line, text) in (0..).zip(lines) {
        let place = (LIVES.producer - 14, y + line * 17);
        canvas.text(place, Anchor::End, "note", text);
    }
}
