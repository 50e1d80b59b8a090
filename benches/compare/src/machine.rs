//! Where and of what a run was: no figure means anything without it.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// The machine and the program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) file_system: String,
    /// Of the sources, with `+` when they were changed since.
    pub(crate) commit: String,
    /// Processes that ran or wanted to, over the minute before the run began.
    pub(crate) load_before: String,
}

impl Machine {
    /// This one; `data` is where the logs go.
    pub(crate) fn here(data: &Path) -> Machine {
        let cpu = line("/proc/cpuinfo", "model name");
        let memory = line("/proc/meminfo", "MemTotal");
        let kib = memory.split(' ').next().and_then(|kib| kib.parse().ok());
        let load = text("/proc/loadavg");
        Machine {
            cpu,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kib.map_or(0, |kib: u64| (kib + (1 << 19)) >> 20),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system(data).unwrap_or_default(),
            commit: commit().unwrap_or_else(|| "unknown".to_owned()),
            load_before: load.split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// What is behind the colon of the first line that begins so.
fn line(path: &str, key: &str) -> String {
    let text = text(path);
    let line = text.lines().find(|line| line.starts_with(key));
    let value = line.and_then(|line| line.split_once(':'));
    value.map_or("", |(_, value)| value).trim().to_owned()
}

/// The type of the mount that `data` lies in.
fn file_system(data: &Path) -> Option<String> {
    let data = data.canonicalize().ok()?;
    let mounts = text("/proc/self/mounts");
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let holding = mounts.filter(|(at, _)| data.starts_with(at));
    let inner = holding.max_by_key(|(at, _)| at.len())?;
    Some(inner.1.to_owned())
}

fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-C", env!("CARGO_MANIFEST_DIR")]).args(arguments);
        let output = git.output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let head = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no", ":/crates"])?;
    let mark = if changed.is_empty() { "" } else { "+" };
    Some(format!("{}{mark}", head.trim()))
}
