//! All turns: in each round and each cell everybody, and each round begins with another one.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::disk_usage;
use crate::machine::Machine;
use crate::peers::Peer;
use crate::results::{Measured, Plan, Results};
use crate::scratch;
use crate::turn::{Done, Step, Task};
use crate::workload::Cell;

/// After this a process hangs, and is ended.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures everything; `directory` is where the logs go.
pub(crate) fn run(
    directory: &Path,
    plan: Plan,
    peers: &[Peer],
    cells: &[Cell],
) -> anyhow::Result<Results> {
    let machine = Machine::here(directory);
    let (begin, mut measured) = (Instant::now(), Vec::new());
    for round in 0..plan.rounds {
        for cell in cells {
            for turn in 0..peers.len() {
                let peer = peers[(round + turn) % peers.len()];
                if peer.cannot(cell).is_none() {
                    measured.push(measure(directory, plan, round, *cell, peer)?);
                }
            }
            let seconds = begin.elapsed().as_secs();
            let (round, rounds) = (round + 1, plan.rounds);
            eprintln!("{seconds:>5} s  round {round} of {rounds}  {}", cell.name());
        }
    }
    Ok(Results {
        machine,
        plan,
        measured,
    })
}

fn measure(
    parent: &Path,
    plan: Plan,
    round: usize,
    cell: Cell,
    peer: Peer,
) -> anyhow::Result<Measured> {
    let directory = scratch(parent)?;
    let mut measured = Measured {
        round,
        cell,
        peer,
        written: None,
        read: None,
        disk: None,
        error: None,
    };
    let task = |step| Task {
        step,
        peer,
        cell,
        directory: directory.path().to_owned(),
        plan,
    };
    if let Err(error) = steps(&mut measured, task) {
        eprintln!("{}, {}: {error:#}", peer.label(), cell.name());
        measured.error = Some(format!("{error:#}"));
        // A rate of records that are not there says nothing.
        measured.written = None;
    }
    Ok(measured)
}

fn steps(measured: &mut Measured, task: impl Fn(Step) -> Task) -> anyhow::Result<()> {
    let Done::Written(written) = perform(&task(Step::Write))? else {
        bail!("it did something else than writing");
    };
    let calls = written.calls.clone();
    measured.written = Some(written);
    if measured.peer.is_machine() {
        return Ok(());
    }
    measured.disk = Some(disk_usage::of(&task(Step::Write).directory)?);
    let Done::Read(read) = perform(&task(Step::Read)).context("reading")? else {
        bail!("it did something else than reading");
    };
    perform(&task(Step::Check(calls))).context("comparing")?;
    measured.read = Some(read);
    Ok(())
}

/// In a process of its own.
fn perform(task: &Task) -> anyhow::Result<Done> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["turn", &serde_json::to_string(task)?])
        // Walrus takes both from the environment alone.
        .env("WALRUS_DATA_DIR", &task.directory)
        .env("WALRUS_QUIET", "1")
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begin.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            bail!("it did not end within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (mut out, mut error) = (String::new(), String::new());
    if let (Some(mut stdout), Some(mut stderr)) = (child.stdout, child.stderr) {
        stdout.read_to_string(&mut out)?;
        stderr.read_to_string(&mut error)?;
    }
    if !status.success() {
        let said = error.lines().find_map(|line| line.strip_prefix("Error: "));
        let said = said.or(error.lines().next()).unwrap_or_default();
        bail!("it failed: {said}");
    }
    let line = out.lines().last().context("it printed nothing")?;
    serde_json::from_str(line).with_context(|| format!("it printed {line}"))
}
