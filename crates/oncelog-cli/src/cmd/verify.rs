//! `verify`: every file and invariant of a data directory.

use oncelog::inspect::{Depth, Problem, verify_to};
use serde_json::json;

use crate::args::{Common, Verify};
use crate::exit::Stop;
use crate::interrupt::Interrupt;
use crate::output::{Out, counted, note};

/// The invariants, and the rule about footers, that a damaged file breaks. All others are about what whole files say.
const ABOUT_FILES: [&str; 6] = ["I22", "I24", "I25", "I26", "I27", "R12"];

pub(crate) fn run(args: &Verify, common: &Common, interrupt: &Interrupt) -> anyhow::Result<()> {
    interrupt.on_ask(|| {
        // It wrote nothing, so there is nothing to bring to an end.
        note(&format!("error: {}", Stop::Interrupted));
        std::process::exit(1);
    });
    let depth = if args.deep {
        Depth::Records
    } else {
        Depth::Batches
    };
    let report = verify_to(common.data(), depth)?;
    for remark in &report.notes {
        note(remark);
    }
    let mut out = Out::new();
    if common.json {
        let problems = report.problems.iter().map(|problem| {
            json!({
                "file": problem.file,
                "position": problem.position,
                "invariant": problem.invariant,
                "what": problem.what,
            })
        });
        out.json(&json!({
            "ok": report.ok,
            "problems": problems.collect::<Vec<_>>(),
            "batches": report.batches,
            "records": report.records,
            "bytes": report.bytes,
        }))?;
    } else {
        for problem in &report.problems {
            out.line(&text(problem))?;
        }
        out.line(&format!(
            "{}: {}, {}, {}",
            if report.ok {
                "everything holds"
            } else {
                "NOT as it must be"
            },
            counted(report.batches, "batch"),
            counted(report.records, "record"),
            counted(report.bytes, "byte")
        ))?;
    }
    out.flush()?;
    judge(&report.problems)
}

fn text(problem: &Problem) -> String {
    let at = problem
        .position
        .map_or(String::new(), |at| format!(", byte {at}"));
    format!(
        "{}{at}: {} ({})",
        problem.file, problem.what, problem.invariant
    )
}

/// The first problem is on stderr too, with the code that says whether a file is damaged.
fn judge(problems: &[Problem]) -> anyhow::Result<()> {
    let is_damage = |problem: &&Problem| ABOUT_FILES.contains(&problem.invariant);
    let more = problems.len().saturating_sub(1);
    let said = |problem: &Problem| {
        let next = match problem.file.ends_with(".log") {
            true => format!(
                "; `oncelog repair` says what of {} can be kept",
                problem.file
            ),
            false => String::new(),
        };
        match more {
            0 => format!("{}{next}", text(problem)),
            more => format!("{}; and {more} more{next}", text(problem)),
        }
    };
    match (problems.iter().find(is_damage), problems.first()) {
        (Some(problem), _) => Err(Stop::Damaged(said(problem)).into()),
        (None, Some(problem)) => Err(Stop::Failed(said(problem)).into()),
        (None, None) => Ok(()),
    }
}
