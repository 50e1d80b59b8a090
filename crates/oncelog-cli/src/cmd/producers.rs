//! `producers`: what each partition knows of each producer.

use std::collections::HashMap;

use oncelog::{ProducerView, Topic};
use serde_json::{Value, json};

use crate::args::{Common, Producers};
use crate::cmd::open_to_read;
use crate::exit::Stop;
use crate::interrupt::Interrupt;
use crate::output::{Out, table};

pub(crate) fn run(args: &Producers, common: &Common, interrupt: &Interrupt) -> anyhow::Result<()> {
    let engine = open_to_read(common.data())?;
    let topics = match &args.topic {
        Some(name) => vec![engine.topic(name)?],
        None => engine.topics(),
    };
    // Of a name whose epochs were used up, the newest id.
    let names = engine.named_producers().into_iter();
    let names: HashMap<i64, String> = names.map(|(name, id)| (id, name)).collect();
    let mut out = Out::new();
    let mut rows = Vec::new();
    for (topic, index) in topics
        .iter()
        .flat_map(|t| (0..t.partitions()).map(move |p| (t, p)))
    {
        if interrupt.asked() {
            return Err(Stop::Interrupted.into());
        }
        for producer in topic.partition(index)?.producers()? {
            let name = names.get(&producer.producer_id).map(String::as_str);
            if common.json {
                out.json(&line(topic, index, &producer, name))?;
            } else {
                rows.push(row(topic, index, &producer, name));
            }
        }
    }
    if !common.json {
        let heads = [
            "topic",
            "partition",
            "producer",
            "epoch",
            "sequences",
            "last offset",
            "batches",
            "name",
        ];
        out.bytes(table(heads, &rows).as_bytes())?;
    }
    out.flush()
}

/// Offset of the newest record that is remembered.
fn last_offset(producer: &ProducerView) -> Option<u64> {
    let batch = producer.window.last()?;
    Some(batch.base_offset + u64::from(batch.count).saturating_sub(1))
}

fn line(topic: &Topic, partition: u32, producer: &ProducerView, name: Option<&str>) -> Value {
    let batches = producer.window.iter().map(|batch| {
        json!({
            "first_sequence": batch.first_sequence,
            "last_sequence": batch.last_sequence,
            "base_offset": batch.base_offset,
            "count": batch.count,
        })
    });
    json!({
        "topic": topic.name(),
        "partition": partition,
        "producer_id": producer.producer_id,
        "epoch": producer.epoch,
        "first_sequence": producer.window.first().map(|batch| batch.first_sequence),
        "last_sequence": producer.window.last().map(|batch| batch.last_sequence),
        "last_offset": last_offset(producer),
        "batches": batches.collect::<Vec<_>>(),
        "last_append_ms": producer.last_append_ms,
        "name": name,
        "open_transaction_offset": producer.open_transaction_offset,
    })
}

fn row(topic: &Topic, partition: u32, producer: &ProducerView, name: Option<&str>) -> [String; 8] {
    let window = &producer.window;
    let sequences = match (window.first(), window.last()) {
        (Some(first), Some(last)) => format!("{} to {}", first.first_sequence, last.last_sequence),
        _ => "-".to_owned(),
    };
    [
        topic.name().to_owned(),
        partition.to_string(),
        producer.producer_id.to_string(),
        producer.epoch.to_string(),
        sequences,
        last_offset(producer).map_or("-".to_owned(), |offset| offset.to_string()),
        window.len().to_string(),
        name.unwrap_or("-").to_owned(),
    ]
}
