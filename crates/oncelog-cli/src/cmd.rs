//! One module a command.

pub(crate) mod backup;
pub(crate) mod consume;
pub(crate) mod dead_letters;
pub(crate) mod demo;
pub(crate) mod dump;
pub(crate) mod groups;
pub(crate) mod produce;
pub(crate) mod producers;
pub(crate) mod repair;
pub(crate) mod sim;
pub(crate) mod topic;
pub(crate) mod verify;
pub(crate) mod why;

use std::path::Path;

use anyhow::Context;
use oncelog::{Create, Engine, OpenError};

use crate::output::note;

/// Opens a data directory for a command that only reads. A writer may be at work beside it.
fn open_to_read(data: &Path) -> anyhow::Result<Engine> {
    let engine = opened(Engine::open_read_only(data))?;
    let above = engine.opened().bytes_above_mark;
    if above > 0 {
        note(&format!(
            "{above} bytes lie above the stable mark of {}: a writer was killed. They are not \
             shown; opening for writing (topic create, produce) recovers them",
            data.display()
        ));
    }
    Ok(engine)
}

/// Opens a data directory for writing, and says what had to be recovered.
fn open_to_write(data: &Path, create: Create) -> anyhow::Result<Engine> {
    let engine = opened(Engine::builder(data).create(create).open())?;
    for line in engine.opened().summary().lines() {
        note(line);
    }
    Ok(engine)
}

/// What the system refuses names a file alone; all else says what is the matter.
fn opened(outcome: Result<Engine, OpenError>) -> anyhow::Result<Engine> {
    match outcome {
        Err(error @ OpenError::Io { .. }) => Err(error).context("cannot open the data directory"),
        outcome => Ok(outcome?),
    }
}

/// What checks a directory's files says that it is missing as what opens it does.
fn exists(data: &Path) -> anyhow::Result<()> {
    if data.exists() {
        return Ok(());
    }
    let directory = data.display().to_string();
    Err(OpenError::Missing { directory }.into())
}
