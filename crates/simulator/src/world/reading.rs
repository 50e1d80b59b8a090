//! Readers that follow, each over all lives of the engine, and deletion under them.

use oncelog::{ConsumedRecord, ReadError, Reader, Start};

use super::{Task, World, poll};
use crate::batch::content;
use crate::random::Random;
use crate::violation::{Violation, violated};

impl World {
    /// A log's reader reads some records.
    pub(crate) fn read(&mut self, log: usize, records: u64) -> Result<(), Violation> {
        let (topic, partition) = (self.logs[log].topic, self.logs[log].partition);
        if self.logs[log].reader.is_none() {
            // What a weak level lost is not there to go on from.
            let end = self.logs[log].model.end();
            let cursor = self.logs[log]
                .cursor
                .min(end)
                .max(self.logs[log].model.start());
            self.logs[log].cursor = cursor;
            let reader = self.engine()?.reader(topic).partition(partition).follow();
            match reader.start(Start::Offset(cursor)).open() {
                Ok(reader) => self.logs[log].reader = Some(reader),
                // Not shown before it is durable: above the high watermark there is nothing.
                Err(ReadError::OutOfRange { .. }) => return Ok(()),
                Err(error) => return violated("I27", format!("{topic}-{partition}: {error}")),
            }
        }
        for _ in 0..records {
            let Some(mut reader) = self.logs[log].reader.take() else {
                return Ok(());
            };
            let mut next: Task<(_, Reader)> = Box::pin(async move {
                let record: Option<Result<ConsumedRecord, _>> = reader.next().await;
                (record, reader)
            });
            // Without a record the reader is gone with its future, and opened again next time.
            let Some((record, reader)) = poll(&mut next) else {
                return Ok(());
            };
            match record {
                Some(Ok(record)) => {
                    let cursor = self.logs[log].cursor;
                    let content = record.value().and_then(|value| content(value));
                    self.logs[log]
                        .model
                        .read(cursor, record.offset(), content)?;
                    self.logs[log].cursor = record.offset() + 1;
                    self.logs[log].reader = Some(reader);
                    self.counts.read += 1;
                }
                Some(Err(ReadError::Deleted { first, .. })) => {
                    self.logs[log].cursor = first;
                    let start = self.logs[log].model.start();
                    if first != start {
                        return violated(
                            "I28",
                            format!(
                                "{topic}-{partition} begins at {start}, a reader is sent to {first}"
                            ),
                        );
                    }
                    return Ok(());
                }
                Some(Err(error)) => {
                    return violated("I27", format!("{topic}-{partition}: {error}"));
                }
                None => {
                    return violated(
                        "I28",
                        format!("{topic}-{partition}: a reader that follows ended"),
                    );
                }
            }
        }
        Ok(())
    }

    /// Deletes records from the front of a log.
    pub(crate) fn delete(&mut self, log: usize, random: &mut Random) -> Result<(), Violation> {
        let handle = self.handle(log)?;
        let (start, end) = (handle.log_start_offset(), handle.high_watermark());
        let to = random.between(start, end);
        let name = self.logs[log].model.name.clone();
        self.logs[log].model.deletion_asked(to);
        let done = handle.delete_before(to);
        self.event(format_args!("{name} deleted before {to}: {}", done.is_ok()));
        match done {
            Ok(()) if handle.log_start_offset() < to => violated(
                "I22",
                format!(
                    "log {name}: deleted before {to}, begins at {}",
                    handle.log_start_offset()
                ),
            ),
            Err(error) if !self.may_fail() => violated("I13", format!("log {name}: {error}")),
            _ => self.look(),
        }
    }
}
