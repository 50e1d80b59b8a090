//! `dead-letters`: what groups gave up, and sending it again.

use oncelog::{Create, DeadLetter};
use serde_json::{Value, json};

use crate::args::{Common, DeadLetters, DeadLettersCommand};
use crate::cmd::{open_to_read, open_to_write};
use crate::exit::Stop;
use crate::interrupt::Interrupt;
use crate::output::{Out, bytes_json, counted, note, table};

pub(crate) fn run(
    args: &DeadLetters,
    common: &Common,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    match &args.command {
        DeadLettersCommand::List { topic } => list(topic, common, interrupt),
        DeadLettersCommand::Redrive { topic } => redrive(topic, common, interrupt),
    }
}

fn list(topic: &str, common: &Common, interrupt: &Interrupt) -> anyhow::Result<()> {
    let engine = open_to_read(common.data())?;
    let mut out = Out::new();
    let mut rows = Vec::new();
    for letter in engine.dead_letters(topic)? {
        if interrupt.asked() {
            return Err(Stop::Interrupted.into());
        }
        let letter = letter?;
        if common.json {
            out.json(&line(&letter))?;
        } else {
            rows.push(row(&letter));
        }
    }
    if !common.json && rows.is_empty() {
        out.line(&format!("no dead letters in {topic}"))?;
    } else if !common.json {
        let heads = [
            "group",
            "topic",
            "partition",
            "offset",
            "biz-id",
            "attempts",
            "reason",
            "last error",
        ];
        out.bytes(table(heads, &rows).as_bytes())?;
    }
    out.flush()
}

fn redrive(topic: &str, common: &Common, interrupt: &Interrupt) -> anyhow::Result<()> {
    let engine = open_to_write(common.data(), Create::Never)?;
    let mut out = Out::new();
    let mut sent = 0;
    let mut is_interrupted = false;
    for letter in engine.dead_letters(topic)? {
        is_interrupted = interrupt.asked();
        if is_interrupted {
            break;
        }
        let letter = letter?;
        if engine.blocking_redrive(&letter)? {
            sent += 1;
            if common.json {
                out.json(&line(&letter))?;
            }
        }
    }
    engine.close()?;
    let summary = format!("sent {} again", counted(sent, "dead letter"));
    if common.json {
        note(&summary);
    } else {
        out.line(&summary)?;
    }
    out.flush()?;
    match is_interrupted {
        true => Err(Stop::Interrupted.into()),
        false => Ok(()),
    }
}

fn line(letter: &DeadLetter) -> Value {
    json!({
        "group": letter.group(),
        "topic": letter.topic(),
        "partition": letter.partition(),
        "offset": letter.offset(),
        "biz_id": bytes_json(letter.biz_id()),
        "reason": letter.reason(),
        "attempts": letter.attempts(),
        "last_error": letter.last_error(),
        "scenario": letter.scenario(),
        "origin_ms": letter.origin_ms(),
        "dead_letter": {
            "topic": letter.record().topic(),
            "partition": letter.record().partition(),
            "offset": letter.record().offset(),
        },
    })
}

fn row(letter: &DeadLetter) -> [String; 8] {
    let biz_id = letter.biz_id().map_or("-".into(), String::from_utf8_lossy);
    [
        letter.group().to_owned(),
        letter.topic().to_owned(),
        letter.partition().to_string(),
        letter.offset().to_string(),
        biz_id.into_owned(),
        letter.attempts().to_string(),
        letter.reason().into_owned(),
        letter.last_error().into_owned(),
    ]
}
