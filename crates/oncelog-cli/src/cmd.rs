//! One module a command.

pub(crate) mod backup;
pub(crate) mod consume;
pub(crate) mod demo;
pub(crate) mod dump;
pub(crate) mod produce;
pub(crate) mod producers;
pub(crate) mod repair;
pub(crate) mod sim;
pub(crate) mod topic;
pub(crate) mod verify;
pub(crate) mod why;

use std::path::Path;

use anyhow::Context;
use oncelog::{Create, Engine};

use crate::output::note;

/// Opens a data directory for a command that only reads. A writer may be at work beside it.
fn open_to_read(data: &Path) -> anyhow::Result<Engine> {
    let engine = Engine::open_read_only(data).context("cannot open the data directory")?;
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
    let engine = Engine::builder(data)
        .create(create)
        .open()
        .context("cannot open the data directory")?;
    for line in engine.opened().summary().lines() {
        note(line);
    }
    Ok(engine)
}
