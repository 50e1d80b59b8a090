//! `backup`: a consistent copy of a data directory.

use anyhow::Context;
use serde_json::json;

use super::open_to_read;
use crate::args::{Backup, Common};
use crate::exit::Stop;
use crate::interrupt::Interrupt;
use crate::output::{Out, counted, note};

pub(crate) fn run(args: &Backup, common: &Common, interrupt: &Interrupt) -> anyhow::Result<()> {
    interrupt.on_ask(|| {
        // What is there is no data directory yet; the next backup to the same place removes it.
        note(&format!("error: {}", Stop::Interrupted));
        std::process::exit(1);
    });
    let engine = open_to_read(common.data())?;
    let report = engine
        .snapshot_to(&args.to)
        .context("cannot make the backup")?;
    let mut out = Out::new();
    if common.json {
        out.json(&json!({
            "files": report.files,
            "linked": report.linked,
            "bytes": report.bytes,
            "end_offsets": report.end_offsets,
        }))?;
    } else {
        for (log, end) in &report.end_offsets {
            out.line(&format!("{log}: up to offset {end}"))?;
        }
        out.line(&format!(
            "{}: {} ({} of them links), {}",
            args.to.display(),
            counted(report.files, "file"),
            report.linked,
            counted(report.bytes, "byte")
        ))?;
    }
    out.flush()
}
