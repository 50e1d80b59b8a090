//! `groups`: how far each consumer group is with each partition.

use oncelog::{GroupDescription, GroupError, GroupPartition};
use serde_json::{Value, json};

use crate::args::{Common, Groups};
use crate::cmd::open_to_read;
use crate::output::{Out, table};

pub(crate) fn run(args: &Groups, common: &Common) -> anyhow::Result<()> {
    let engine = open_to_read(common.data())?;
    let mut groups = engine.groups()?;
    if let Some(name) = &args.group {
        groups.retain(|group| group.group == *name);
        if groups.is_empty() {
            return Err(GroupError::UnknownGroup { name: name.clone() }.into());
        }
    }
    let mut out = Out::new();
    let all = groups
        .iter()
        .flat_map(|group| group.partitions.iter().map(move |p| (group, p)));
    if common.json {
        for (group, partition) in all {
            out.json(&line(group, partition))?;
        }
    } else if groups.is_empty() {
        out.line("no consumer groups; a program makes one when it joins it (Engine::group)")?;
    } else {
        let rows: Vec<_> = all
            .map(|(group, partition)| row(group, partition))
            .collect();
        let heads = [
            "group",
            "topic",
            "partition",
            "position",
            "end",
            "lag",
            "in flight",
            "acked above",
            "member",
            "epoch",
            "hold",
        ];
        out.bytes(table(heads, &rows).as_bytes())?;
    }
    out.flush()
}

fn line(group: &GroupDescription, about: &GroupPartition) -> Value {
    json!({
        "group": group.group,
        "topic": about.topic,
        "partition": about.partition,
        "position": about.position,
        "end": about.end,
        "lag": about.lag,
        "in_flight": about.in_flight,
        "acked_above": about.acked_above,
        "member": about.member,
        "epoch": about.epoch,
        "hold": about.hold,
        "lost": about.lost,
    })
}

fn row(group: &GroupDescription, about: &GroupPartition) -> [String; 11] {
    let or_dash = |number: Option<u64>| number.map_or("-".to_owned(), |n| n.to_string());
    let position = match about.lost {
        Some(lost) => format!("{lost} (lost)"),
        None => or_dash(about.position),
    };
    [
        group.group.clone(),
        about.topic.clone(),
        about.partition.to_string(),
        position,
        about.end.to_string(),
        about.lag.to_string(),
        about.in_flight.to_string(),
        about.acked_above.to_string(),
        or_dash(about.member),
        about.epoch.to_string(),
        or_dash(about.hold),
    ]
}
