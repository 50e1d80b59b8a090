//! Oncelog beside another embedded log and beside what the machine allows, in one run.
//!
//! Absolute numbers swing with the machine and with whatever else runs on it, so what counts are
//! ratios of numbers that were taken in turns, in the same run:
//!
//! * `append`: records/s of single 100-byte records at `memory`, against `walrus-rust` without sync,
//! * `table`: bytes for each of a million known producers,
//! * `reopen`: opening a gibibyte after a clean close, against reading all of its records,
//! * `commit`: one caller's append at `synced`, against a bare write and `fdatasync`.
//!
//! `performance` is the whole comparison, and writes `docs/performance.md` with its pictures.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the table is the product")]

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand, ValueEnum};
use tempfile::TempDir;

mod append;
mod appending;
mod commit;
mod disk_usage;
mod document;
mod machine;
mod peers;
mod performance;
mod reopen;
mod results;
mod rounds;
mod summary;
mod svg;
mod table;
mod turn;
mod workload;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    Append,
    Table,
    Reopen,
    Commit,
}

/// Measures oncelog beside other embedded logs.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Whole>,
    /// Only these sections; all unless given.
    #[arg(long, value_enum)]
    section: Vec<Section>,
    /// Records that each side appends in each round of `append`.
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// Rounds, in each of which every side takes its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Fail unless oncelog appends this many times the records/s of walrus.
    #[arg(long)]
    require: Option<f64>,
    /// Where the data goes: a directory on the disk that is meant. The current one unless given.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// One side, once: what the rounds run as processes of their own.
    #[arg(long, value_enum, hide = true)]
    side: Option<append::Side>,
}

/// What is not a section.
#[derive(Debug, Subcommand)]
enum Whole {
    /// Compares everybody in everything, and writes docs/performance.md and its pictures.
    Performance(performance::Args),
    /// One step of one turn: what `performance` runs as processes of their own.
    #[command(hide = true)]
    Turn { task: String },
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.command {
        Some(Whole::Performance(args)) => return performance::run(&args),
        Some(Whole::Turn { task }) => {
            let done = turn::perform(&serde_json::from_str(&task)?)?;
            println!("{}", serde_json::to_string(&done)?);
            return Ok(());
        }
        None => {}
    }
    let directory = args.directory.clone().unwrap_or_else(|| PathBuf::from("."));
    if let Some(side) = args.side {
        println!("{}", append::measure(side, &directory, args.records)?);
        return Ok(());
    }
    let wanted = |section| args.section.is_empty() || args.section.contains(&section);
    if wanted(Section::Append) {
        let ratio = append::compare(&directory, args.records, args.rounds)?;
        if let Some(least) = args.require
            && ratio < least
        {
            bail!("oncelog reached {ratio:.2} times the records/s of walrus, wanted {least:.2}");
        }
    }
    if wanted(Section::Table) {
        table::measure()?;
    }
    if wanted(Section::Reopen) {
        reopen::compare(&directory, args.rounds)?;
    }
    if wanted(Section::Commit) {
        commit::compare(&directory, args.rounds)?;
    }
    Ok(())
}

/// A directory that is removed with everything in it.
fn scratch(parent: &Path) -> anyhow::Result<TempDir> {
    tempfile::Builder::new()
        .prefix("oncelog-compare-")
        .tempdir_in(parent)
        .with_context(|| format!("no directory can be made in {}", parent.display()))
}
