//! `docs/performance.md` and its pictures, made of the raw numbers.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::peers::Peer;
use crate::results::Results;

mod goals;
mod losses;
mod numbers;
mod pictures;
mod tables;
mod view;

use view::View;

const METHOD: &str = "\
* Everybody does the same work: one call appends K records of the shape, and the next call follows. The values are random bytes, so that compression helps nobody.
* Everybody takes a turn in each cell of each round, and each round begins with another one. A turn is a fresh directory and processes of its own: one appends and
  closes, one opens and reads, one compares all that is there with what was appended, by count and content, and with one caller by order. A turn whose records are not all there
  has no figure.
* A figure is the median over the rounds, with the smallest and the largest behind it. p50, p99 and p99.9 are medians of each round's; `max` is the slowest call of all rounds.
  Ratios are of medians of the same run; absolute numbers swing with the machine.
* In `memory` the calls are timed together, and the latencies afterwards call by call in the same log, a reading of the clock (20 to 30 ns) included. Segment rolls are in both.
  Where calls sync, the first five of a turn, or one of each caller, find new files and are not timed.
* Bytes on disk are those of the whole directory after a clean close, by record: pages of 4 KiB that are not all zeros (`used`), blocks that the file system has given (`allocated`, with
  what is reserved ahead), and lengths of files (`apparent`).
* Reopening and reading are warm: what was written lies in the page cache. Few records make what is reserved ahead look large.
* `+ table`: the log's own key, and a table (producer, sequence) in the same batch or transaction, looked up for each record.
";

/// Writes the document into `docs` and the pictures into `docs/images`.
pub(crate) fn write(results: &Results, docs: &Path) -> anyhow::Result<()> {
    let view = View(results);
    let images = docs.join("images");
    std::fs::create_dir_all(&images)?;
    let pictures = pictures::all(&view);
    for picture in &pictures {
        std::fs::write(images.join(picture.file), &picture.svg)?;
    }
    let picture = |file: &str| {
        let found = pictures.iter().find(|picture| picture.file == file);
        found.map_or(String::new(), |picture| {
            format!("![{}](images/{file})\n\n", picture.title)
        })
    };
    let mut text = String::new();
    introduction(&mut text, results)?;
    goals::section(&mut text, &view)?;
    losses::section(&mut text, &view)?;
    text.push_str("## In memory\n\nPage cache only, one caller, segment rolls included.\n\n");
    text.push_str(&picture(pictures::MEMORY));
    text.push_str(&picture(pictures::LATENCY));
    tables::appends(&mut text, &view, |cell| !cell.synced)?;
    text.push_str("## A sync with each call\n\nOne caller.\n\n");
    text.push_str(&picture(pictures::SYNCED));
    tables::appends(&mut text, &view, |cell| cell.synced && cell.callers == 1)?;
    text.push_str("## Callers that share syncs\n\nA thread each, all on the same log.\n\n");
    text.push_str(&picture(pictures::CALLERS));
    tables::appends(&mut text, &view, |cell| cell.callers > 1)?;
    text.push_str("## Reading, reopening, bytes\n\nOf the logs that the cells in memory left; okaywal's of those with syncs.\n\n");
    tables::reads(&mut text, &view)?;
    text.push_str("## What a call promises\n\n| | repeats found | |\n| --- | --- | --- |\n");
    for peer in view.peers() {
        let found = if peer.deduplicates() { "yes" } else { "" };
        writeln!(text, "| {} | {found} | {} |", peer.label(), peer.remark())?;
    }
    let file = docs.join("performance.md");
    std::fs::write(&file, text).with_context(|| file.display().to_string())
}

fn introduction(text: &mut String, results: &Results) -> anyhow::Result<()> {
    let (machine, plan) = (&results.machine, &results.plan);
    writeln!(
        text,
        "# Performance\n\n\
         Oncelog beside other embedded logs and beside the machine alone, in one run. This page is written by the command that measures, and not by hand:\n\n\
         ```console\n\
         $ export ROCKSDB_LIB_DIR=/usr/lib/x86_64-linux-gnu   # apt-get install librocksdb-dev libclang-dev\n\
         $ cargo run --release --manifest-path benches/compare/Cargo.toml --features peers,rocksdb -- performance\n\
         ```\n\n\
         | | |\n| --- | --- |\n\
         | processor | {} cores, {} |\n| memory | {} GiB |\n| kernel | Linux {} |\n| file system | {} |\n| commit | {} |\n\
         | rounds | {} of up to {} s or {} MiB of values a turn; load before: {} |",
        machine.cores,
        machine.cpu,
        machine.memory_gib,
        machine.kernel,
        machine.file_system,
        machine.commit,
        plan.rounds,
        plan.seconds,
        plan.bytes >> 20,
        machine.load_before,
    )?;
    if plan.rounds < 5 {
        text.push_str("\n**Fewer than five rounds: a trial, not a measurement.**\n");
    }
    let missing: Vec<&str> = { <Peer as clap::ValueEnum>::value_variants().iter() }
        .filter(|peer| results.measured.iter().all(|m| m.peer != **peer))
        .map(|peer| peer.label())
        .collect();
    if !missing.is_empty() {
        writeln!(text, "\nNot measured: {}.", missing.join(", "))?;
    }
    writeln!(text, "\n## Method\n\n{METHOD}")?;
    Ok(())
}
