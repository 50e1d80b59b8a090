//! What the machine allows: the same bytes with nothing around them. Nothing is kept for a reader.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use anyhow::bail;
use oncelog::storage::{Disk as _, DiskFile, OsDisk, Prepare};

use super::{Each, Log, Setup, Writer};
use crate::workload::Pool;

/// Bytes of the file; at its end the next call begins anew.
const CAPACITY: u64 = 256 << 20;

struct Bare {
    pool: &'static Pool,
    target: Target,
}

enum Target {
    Map(Arc<dyn DiskFile>),
    File(File),
}

struct Caller<'a> {
    bare: &'a Bare,
    position: u64,
}

pub(super) fn copy(setup: &Setup) -> anyhow::Result<Box<dyn Log>> {
    let disk = OsDisk::open(setup.directory.clone())?;
    let file = disk.create("copy", CAPACITY)?;
    file.prepare(0, Prepare::Touch)?;
    Ok(Box::new(Bare {
        pool: setup.pool,
        target: Target::Map(file),
    }))
}

pub(super) fn sync(setup: &Setup) -> anyhow::Result<Box<dyn Log>> {
    let file = File::create_new(setup.directory.join("sync"))?;
    let piece = vec![0; 1 << 20];
    for position in (0..CAPACITY).step_by(piece.len()) {
        file.write_all_at(&piece, position)?;
    }
    file.sync_all()?;
    Ok(Box::new(Bare {
        pool: setup.pool,
        target: Target::File(file),
    }))
}

impl Log for Bare {
    fn writer(&self, _caller: u32) -> anyhow::Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Caller {
            bare: self,
            position: 0,
        }))
    }

    fn read(&mut self, _each: Each<'_>) -> anyhow::Result<()> {
        bail!("a bare file is not a log");
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        Ok(())
    }
}

impl Writer for Caller<'_> {
    fn append(&mut self, values: Range<usize>) -> anyhow::Result<()> {
        let bytes = self.bare.pool.joined(&values);
        let end = self.position + bytes.len() as u64;
        let position = if end > CAPACITY { 0 } else { self.position };
        match &self.bare.target {
            Target::Map(file) => file.write_at(bytes, &[], position)?,
            Target::File(file) => {
                file.write_all_at(bytes, position)?;
                file.sync_data()?;
            }
        }
        self.position = position + bytes.len() as u64;
        Ok(())
    }
}
