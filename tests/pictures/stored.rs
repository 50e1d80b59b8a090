//! The log's batches as a reader finds them, and a strip of boxes that shows them.

use oncelog::{BatchHeader, Engine, Records};

use crate::canvas::{Anchor, Canvas};
use crate::exchange::span;

/// A batch in the log.
pub(crate) struct StoredBatch {
    header: BatchHeader,
    /// The number that each record's value ends with.
    numbers: Vec<u64>,
}

/// All batches of partition 0.
pub(crate) fn read(engine: &Engine, topic: &str) -> Vec<StoredBatch> {
    let mut reader = engine.reader(topic).partition(0).open().unwrap();
    let mut batches = Vec::new();
    while let Some(run) = reader.blocking_next_batches() {
        let mut rest = run.unwrap().bytes;
        while !rest.is_empty() {
            let header = BatchHeader::read(&rest).unwrap();
            let batch = rest.split_to(header.size());
            let number = |value: bytes::Bytes| {
                let text = String::from_utf8(value.to_vec()).unwrap();
                text.rsplit(' ').next().unwrap().parse().unwrap()
            };
            let values = Records::of(&batch).unwrap().map(|r| r.unwrap().value);
            let numbers = values.map(|value| number(value.unwrap())).collect();
            batches.push(StoredBatch { header, numbers });
        }
    }
    batches
}

impl StoredBatch {
    pub(crate) fn numbers(&self) -> &[u64] {
        &self.numbers
    }

    // The rows of its box, from the top.
    fn rows(&self, what: Option<&str>) -> Vec<String> {
        let header = &self.header;
        let records = header.record_count;
        let mut rows = vec![span(header.base_offset, records)];
        if what.is_some() {
            rows.push(span(i64::try_from(self.numbers[0]).unwrap(), records));
        }
        rows.push(format!("{}, {}", header.producer_id, header.producer_epoch));
        rows.push(span(i64::from(header.base_sequence), records));
        rows
    }
}

const BOX: (i32, i32) = (92, 22);
const LABELS: i32 = 96;

/// Draws batches as boxes from `(x, y)` on; `what` the numbers in the values are, if they are shown;
/// `class` says how each box is painted. Returns where it ends.
pub(crate) fn draw(
    canvas: &mut Canvas,
    (x, y): (i32, i32),
    batches: &[StoredBatch],
    what: Option<&str>,
    class: impl Fn(usize) -> &'static str,
) -> i32 {
    let labels = [Some("offset"), what, Some("PID, epoch"), Some("sequence")];
    let labels: Vec<_> = labels.into_iter().flatten().collect();
    let baseline = |row: usize| y + i32::try_from(row).unwrap() * BOX.1 + 16;
    for (row, label) in labels.iter().enumerate() {
        canvas.text((x, baseline(row)), Anchor::Start, "small muted", label);
    }
    let height = i32::try_from(labels.len()).unwrap() * BOX.1;
    for (at, batch) in batches.iter().enumerate() {
        let left = x + LABELS + i32::try_from(at).unwrap() * BOX.0;
        canvas.rect((left, y), (BOX.0 - 4, height + 2), class(at));
        for (row, text) in batch.rows(what).iter().enumerate() {
            let middle = left + (BOX.0 - 4) / 2;
            canvas.text((middle, baseline(row)), Anchor::Middle, "code", text);
        }
    }
    y + height + 2
}
