//! `repair`: what is given up of a damaged data directory, and the rest made whole.

use oncelog::inspect::{Finding, GivenUp, RepairError, RepairOptions, RepairReport, repair};
use serde_json::json;

use crate::args::{Common, Repair};
use crate::exit::Stop;
use crate::interrupt::Interrupt;
use crate::output::{Out, counted, note};

pub(crate) fn run(args: &Repair, common: &Common, interrupt: &Interrupt) -> anyhow::Result<()> {
    interrupt.on_ask(|| {
        // Each step of a repair can be interrupted; the next one goes on.
        note(&format!("error: {}", Stop::Interrupted));
        std::process::exit(1);
    });
    let options = RepairOptions {
        apply: args.apply,
        new_lineage: args.new_lineage,
        producer_id_floor: args.producer_id_floor,
    };
    let report = repair(common.data(), &options).map_err(|error| match error {
        RepairError::FloorTooLow { .. } => {
            anyhow::Error::new(Stop::Usage(format!("--producer-id-floor: {error}")))
        }
        error => error.into(),
    })?;
    let mut out = Out::new();
    if common.json {
        let finding = |f: &Finding| json!({ "file": f.file, "what": f.what });
        let findings = |all: &[Finding]| all.iter().map(finding).collect::<Vec<_>>();
        let given_up = report.given_up.iter().map(|g| {
            json!({
                "file": g.file,
                "from": g.from,
                "to": g.to,
                "offsets": g.offsets.map(|(from, to)| [from, to]),
            })
        });
        out.json(&json!({
            "applied": report.applied,
            "kept": report.records,
            "kept_batches": report.batches,
            "kept_bytes": report.bytes,
            "given_up": given_up.collect::<Vec<_>>(),
            "steps": findings(&report.steps),
            "refused": findings(&report.refused),
            "set_aside": report.set_aside,
        }))?;
    } else {
        show(&report, &mut out)?;
    }
    out.flush()?;
    judge(&report)
}

fn show(report: &RepairReport, out: &mut Out) -> anyhow::Result<()> {
    for Finding { file, what } in &report.steps {
        out.line(&format!("{file}: {what}"))?;
    }
    let verb = if report.applied {
        "gave up"
    } else {
        "would give up"
    };
    for given_up in &report.given_up {
        out.line(&format!("{verb} {}", text(given_up)))?;
    }
    for path in &report.set_aside {
        out.line(&format!("kept aside: {path}"))?;
    }
    for Finding { file, what } in &report.refused {
        out.line(&format!("not repaired: {file}: {what}"))?;
    }
    out.line(&format!(
        "{}{}, {}, {}",
        if report.is_whole() {
            "nothing to repair: "
        } else {
            "kept: "
        },
        counted(report.batches, "batch"),
        counted(report.records, "record"),
        counted(report.bytes, "byte")
    ))
}

fn text(given_up: &GivenUp) -> String {
    let GivenUp { file, from, to, .. } = given_up;
    let offsets = match given_up.offsets {
        Some((from, to)) => format!(", offsets {from} to {}", to.saturating_sub(1)),
        None => String::new(),
    };
    format!("{file}, bytes {from} to {to}{offsets}")
}

// Damage that is still there ends with 4, like any other command that meets it.
fn judge(report: &RepairReport) -> anyhow::Result<()> {
    if let Some(Finding { file, what }) = report.refused.first() {
        return Err(Stop::Damaged(format!("{file}: {what}")).into());
    }
    match report.steps.first() {
        Some(step) if !report.applied => {
            let place = match report.given_up.first() {
                Some(lost) => format!("{} is damaged at byte {}", lost.file, lost.from),
                None => format!("{} is damaged", step.file),
            };
            let text = format!("{place}; nothing is changed yet, run `oncelog repair --apply`");
            Err(Stop::Damaged(text).into())
        }
        _ => Ok(()),
    }
}
