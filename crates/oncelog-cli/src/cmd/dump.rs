//! `dump`: every batch of a segment or partition folder.

use anyhow::Context;
use oncelog::inspect::{BatchSummary, dump_batches};
use oncelog::{BatchError, Records};
use serde_json::{Value, json};

use crate::args::{Common, Dump};
use crate::exit::Stop;
use crate::interrupt::Interrupt;
use crate::output::{Out, bytes_json};

pub(crate) fn run(args: &Dump, common: &Common, interrupt: &Interrupt) -> anyhow::Result<()> {
    let mut out = Out::new();
    let outcome = print_all(args, common, interrupt, &mut out);
    out.flush()?;
    outcome
}

fn print_all(
    args: &Dump,
    common: &Common,
    interrupt: &Interrupt,
    out: &mut Out,
) -> anyhow::Result<()> {
    if !args.path.exists() {
        let text = format!(
            "{} does not exist; name a segment file (*.log), or the folder of a partition such as \
             oncelog-data/orders-0",
            args.path.display()
        );
        return Err(Stop::Failed(text).into());
    }
    let mut file = String::new();
    for batch in dump_batches(&args.path)? {
        if interrupt.asked() {
            return Err(Stop::Interrupted.into());
        }
        let batch = batch?;
        let mut about = about(&batch);
        // What a damaged batch holds is anybody's guess.
        let records = if args.records && batch.crc_ok {
            let damaged = || {
                let (file, position) = (&batch.file, batch.position);
                Stop::Damaged(format!(
                    "{file}: the records of the batch at byte {position} cannot be read"
                ))
            };
            Some(records(&batch).with_context(damaged)?)
        } else {
            None
        };
        if common.json {
            if let Some(records) = records {
                about.push(("records", Value::Array(records)));
            }
            let fields = about
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value));
            out.json(&fields.collect::<serde_json::Map<_, _>>())?;
            continue;
        }
        if batch.file != file {
            file.clone_from(&batch.file);
            out.line(&file)?;
        }
        out.line(&text(about.iter().filter(|(name, _)| *name != "file")))?;
        for record in records.unwrap_or_default() {
            out.line(&format!("  {record}"))?;
        }
    }
    Ok(())
}

fn about(batch: &BatchSummary) -> Vec<(&'static str, Value)> {
    let header = &batch.header;
    let attributes = header.attributes;
    let compression = attributes.compression().map(|codec| codec.name());
    vec![
        ("file", json!(batch.file)),
        ("base_offset", json!(header.base_offset)),
        ("last_offset", json!(header.last_offset())),
        ("position", json!(batch.position)),
        ("size", json!(batch.size)),
        ("crc_ok", json!(batch.crc_ok)),
        ("producer_id", json!(header.producer_id)),
        ("epoch", json!(header.producer_epoch)),
        ("base_sequence", json!(header.base_sequence)),
        ("count", json!(header.record_count)),
        ("compression", json!(compression)),
        ("transactional", json!(attributes.is_transactional())),
        ("control", json!(attributes.is_control())),
        ("timestamp", json!(header.max_timestamp)),
    ]
}

fn records(batch: &BatchSummary) -> Result<Vec<Value>, BatchError> {
    let mut records = Vec::new();
    for record in Records::of(&batch.bytes)? {
        let record = record?;
        let headers = record.headers.iter();
        let headers = headers
            .map(|h| json!({ "key": h.key.as_str(), "value": bytes_json(h.value.as_deref()) }));
        records.push(json!({
            "offset": record.offset,
            "timestamp": record.timestamp,
            "sequence": record.sequence,
            "key": bytes_json(record.key.as_deref()),
            "value": bytes_json(record.value.as_deref()),
            "headers": headers.collect::<Vec<_>>(),
        }));
    }
    Ok(records)
}

/// Names and values on a line, as `kafka-dump-log.sh` prints them.
fn text<'a>(fields: impl Iterator<Item = &'a (&'static str, Value)>) -> String {
    let shown = |value: &Value| match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let fields: Vec<_> = fields
        .map(|(name, value)| format!("{name}: {}", shown(value)))
        .collect();
    fields.join(" ")
}
