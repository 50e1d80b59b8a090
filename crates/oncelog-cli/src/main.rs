//! The `oncelog` command: the log engine on a data directory, from a shell.

#![forbid(unsafe_code)]

mod advice;
mod args;
mod batches;
mod cmd;
mod columns;
mod dice;
mod exit;
mod interrupt;
mod lines;
mod link;
mod output;
mod progress;
mod wait;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::interrupt::Interrupt;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let interrupt = Interrupt::install()?;
    let common = &cli.common;
    match &cli.command {
        Command::Demo(args) => cmd::demo::run(args, common, &interrupt),
        Command::Topic(args) => cmd::topic::run(args, common),
        Command::Produce(args) => cmd::produce::run(args, common, &interrupt),
        Command::Consume(args) => cmd::consume::run(args, common, &interrupt),
        Command::Groups(args) => cmd::groups::run(args, common),
        Command::DeadLetters(args) => cmd::dead_letters::run(args, common, &interrupt),
        Command::Producers(args) => cmd::producers::run(args, common, &interrupt),
        Command::Why(args) => cmd::why::run(args, common),
        Command::Dump(args) => cmd::dump::run(args, common, &interrupt),
        Command::Verify(args) => cmd::verify::run(args, common, &interrupt),
        Command::Repair(args) => cmd::repair::run(args, common, &interrupt),
        Command::Backup(args) => cmd::backup::run(args, common, &interrupt),
        Command::Sim(args) => cmd::sim::run_all(args, common, &interrupt),
    }
}
