//! The command: measures, keeps the raw numbers, and writes the document from them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::document;
use crate::peers::Peer;
use crate::results::{Plan, Results};
use crate::rounds;
use crate::workload::Cell;

/// Compares everybody in everything.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A minute instead of a quarter of an hour: to see that it works, not to be published.
    #[arg(long)]
    quick: bool,
    /// Rounds, in each of which everybody takes a turn in each cell.
    #[arg(long)]
    rounds: Option<usize>,
    /// Only these; all that this program was built with unless given.
    #[arg(long, value_enum)]
    peer: Vec<Peer>,
    /// Only the cells in whose name this text is.
    #[arg(long)]
    cell: Option<String>,
    /// Where the logs go: a directory on the disk that is meant. Beside the program unless given.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// The file of raw numbers. Beside the program unless given.
    #[arg(long)]
    results: Option<PathBuf>,
    /// Measure nothing; write the document from the raw numbers that are there.
    #[arg(long)]
    again: bool,
    /// The directory of the document. That of the sources unless given.
    #[arg(long)]
    docs: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let beside = program.parent().context("a program lies in a directory")?;
    let file = args.results.clone();
    let file = file.unwrap_or_else(|| beside.join("compare-results.json"));
    let results = if args.again {
        Results::load(&file)?
    } else {
        let results = measure(args, beside)?;
        results.save(&file)?;
        results
    };
    let sources = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let docs = args.docs.clone().unwrap_or_else(sources);
    document::write(&results, &docs)?;
    eprintln!("raw numbers: {}", file.display());
    eprintln!("document: {}", docs.join("performance.md").display());
    Ok(())
}

fn measure(args: &Args, beside: &Path) -> anyhow::Result<Results> {
    let directory = args.directory.as_deref().unwrap_or(beside);
    let mut plan = Plan {
        rounds: 5,
        seconds: 0.6,
        bytes: 768 << 20,
    };
    if args.quick {
        plan = Plan {
            rounds: 1,
            seconds: 0.1,
            bytes: 128 << 20,
        };
    }
    plan.rounds = args.rounds.unwrap_or(plan.rounds);
    let all = <Peer as clap::ValueEnum>::value_variants();
    let wanted = |peer: &Peer| args.peer.is_empty() || args.peer.contains(peer);
    let (peers, missing): (Vec<_>, Vec<_>) =
        { all.iter().copied().filter(wanted) }.partition(|peer| peer.is_built());
    for peer in missing {
        eprintln!(
            "without {}: build with --features peers,rocksdb",
            peer.label()
        );
    }
    let part = args.cell.as_deref().unwrap_or_default();
    let mut cells = Cell::all();
    cells.retain(|cell| cell.name().contains(part));
    ensure!(!cells.is_empty(), "no cell has {part} in its name");
    rounds::run(directory, plan, &peers, &cells)
}
