//! `verify`: every file and invariant of a data directory.

use oncelog::inspect::{Depth, Problem, verify_to};
use serde_json::json;

use crate::args::{Common, Verify};
use crate::cmd::exists;
use crate::exit::Stop;
use crate::interrupt::Interrupt;
use crate::output::{Out, counted, note};

/// The invariants, and the rule about footers, that a damaged file breaks. All others are about what whole files say.
const ABOUT_FILES: [&str; 8] = ["I22", "I24", "I25", "I26", "I27", "R12", "R14", "R18"];

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
    exists(common.data())?;
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

/// The problems are on stdout. Stderr names the place of the first and what to run, and the code says
/// whether a file is damaged.
fn judge(problems: &[Problem]) -> anyhow::Result<()> {
    let damaged = problems.iter().find(|problem| is_damage(problem));
    let Some(first) = damaged.or(problems.first()) else {
        return Ok(());
    };
    let at = first
        .position
        .map_or(String::new(), |at| format!(" at byte {at}"));
    let count = counted(u64::try_from(problems.len())?, "problem");
    let more = match problems.len() {
        1 => String::new(),
        _ => format!(" ({count} in all)"),
    };
    let file = &first.file;
    Err(match damaged {
        Some(_) => Stop::Damaged(format!(
            "{file} is damaged{at}{more}; `oncelog repair` says what can be kept"
        )),
        None => Stop::Failed(format!("{file} is not as it must be{at}{more}; see above")),
    }
    .into())
}

fn is_damage(problem: &Problem) -> bool {
    let is_of_names = problem.invariant == "I18" && problem.file.ends_with("/names");
    is_of_names || ABOUT_FILES.contains(&problem.invariant)
}
