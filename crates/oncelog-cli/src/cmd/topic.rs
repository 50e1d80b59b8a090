//! `topic`: create, list, describe and delete.

use oncelog::{ConfigError, Create, Engine, Topic, TopicConfig};
use serde_json::{Map, Value, json};

use crate::args::{self, Common, TopicCommand};
use crate::cmd::{open_to_read, open_to_write};
use crate::exit::Stop;
use crate::output::{Out, counted, grouped, table};

pub(crate) fn run(args: &args::Topic, common: &Common) -> anyhow::Result<()> {
    match &args.command {
        TopicCommand::Create {
            name,
            partitions,
            config,
        } => create(name, *partitions, config, common),
        TopicCommand::List => list(common),
        TopicCommand::Describe { name } => {
            let engine = open_to_read(common.data())?;
            let described = Described::of(&engine.topic(name)?)?;
            described.print(common)
        }
        TopicCommand::Delete { name } => delete(name, common),
    }
}

fn create(name: &str, partitions: u32, settings: &[String], common: &Common) -> anyhow::Result<()> {
    let mut config = TopicConfig::default();
    for setting in settings {
        let Some((key, value)) = setting.split_once('=') else {
            let text = format!("--config {setting}: allowed: K=V, such as ack=interval");
            return Err(Stop::Usage(text).into());
        };
        let usage = |error: ConfigError| Stop::Usage(format!("--config {setting}: {error}"));
        config.set(key.trim(), value.trim()).map_err(usage)?;
    }
    let engine = open_to_write(common.data(), Create::Missing)?;
    let topic = engine.create_topic(name, partitions, config)?;
    let described = Described::of(&topic)?;
    close(engine)?;
    if common.json {
        return described.print(common);
    }
    let mut out = Out::new();
    let partitions = counted(partitions.into(), "partition");
    out.line(&format!("created topic {name} with {partitions}"))?;
    out.flush()
}

fn list(common: &Common) -> anyhow::Result<()> {
    let engine = open_to_read(common.data())?;
    let topics = engine.topics();
    let mut out = Out::new();
    if common.json {
        let mut all = Vec::new();
        for topic in &topics {
            all.push(Described::of(topic)?.json());
        }
        out.json(&all)?;
    } else if topics.is_empty() {
        out.line("no topics; create one with `oncelog topic create NAME`")?;
    } else {
        let rows: Vec<_> = topics
            .iter()
            .map(|topic| {
                let about = topic.describe();
                let bytes: u64 = about.partitions.iter().map(|p| p.size_bytes).sum();
                [
                    about.name,
                    about.partitions.len().to_string(),
                    grouped(about.records),
                    grouped(bytes),
                    topic.config().ack().to_string(),
                ]
            })
            .collect();
        let heads = ["topic", "partitions", "records", "bytes", "ack"];
        out.bytes(table(heads, &rows).as_bytes())?;
    }
    out.flush()
}

fn delete(name: &str, common: &Common) -> anyhow::Result<()> {
    let engine = open_to_write(common.data(), Create::Never)?;
    let described = Described::of(&engine.topic(name)?)?;
    engine.delete_topic(name)?;
    close(engine)?;
    let mut out = Out::new();
    if common.json {
        let mut json = described.json();
        json["deleted"] = Value::Bool(true);
        out.json(&json)?;
    } else {
        out.line(&format!("deleted topic {name}"))?;
    }
    out.flush()
}

fn close(engine: Engine) -> anyhow::Result<()> {
    Ok(engine.close()?)
}

/// What there is to say about a topic.
struct Described {
    name: String,
    records: u64,
    partitions: Vec<(oncelog::PartitionDescription, usize)>,
    config: Vec<(&'static str, String)>,
}

impl Described {
    fn of(topic: &Topic) -> anyhow::Result<Described> {
        let about = topic.describe();
        let mut partitions = Vec::new();
        for described in about.partitions {
            // An engine that only reads has no table of producers at hand, but can make one.
            let producers = match topic.partition(described.partition)?.producers() {
                Ok(producers) => producers.len(),
                Err(_) => described.producers,
            };
            partitions.push((described, producers));
        }
        let (name, records, config) = (about.name, about.records, about.config);
        Ok(Described {
            name,
            records,
            partitions,
            config,
        })
    }

    fn json(&self) -> Value {
        let partitions = self.partitions.iter().map(|(p, producers)| {
            json!({
                "partition": p.partition,
                "log_start_offset": p.log_start_offset,
                "high_watermark": p.high_watermark,
                "last_stable_offset": p.last_stable_offset,
                "log_end_offset": p.log_end_offset,
                "size_bytes": p.size_bytes,
                "segments": p.segments,
                "producers": producers,
                "accepted_unknown": p.accepted_unknown,
                "consumed_to": p.consumed_to,
                "held_from": p.held_from,
                "state": p.state,
            })
        });
        let config = self
            .config
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.clone().into()));
        json!({
            "name": self.name,
            "records": self.records,
            "partitions": partitions.collect::<Vec<_>>(),
            "config": config.collect::<Map<String, Value>>(),
        })
    }

    fn print(&self, common: &Common) -> anyhow::Result<()> {
        let mut out = Out::new();
        if common.json {
            out.json(&self.json())?;
            return out.flush();
        }
        out.line(&format!(
            "topic {}, {}",
            self.name,
            counted(self.records, "record")
        ))?;
        out.line("")?;
        let or_dash = |offset: Option<u64>| offset.map_or("-".to_owned(), |o| o.to_string());
        let rows: Vec<_> = self
            .partitions
            .iter()
            .map(|(p, producers)| {
                [
                    p.partition.to_string(),
                    p.log_start_offset.to_string(),
                    p.high_watermark.to_string(),
                    p.last_stable_offset.to_string(),
                    grouped(p.size_bytes),
                    p.segments.to_string(),
                    producers.to_string(),
                    or_dash(p.consumed_to),
                    or_dash(p.held_from),
                    p.state.clone(),
                ]
            })
            .collect();
        let heads = [
            "partition",
            "log start",
            "high watermark",
            "last stable",
            "bytes",
            "segments",
            "producers",
            "consumed to",
            "held from",
            "state",
        ];
        out.bytes(table(heads, &rows).as_bytes())?;
        out.line("")?;
        for (key, value) in &self.config {
            out.line(&format!("{key}={value}"))?;
        }
        out.flush()
    }
}
