//! Runs the built binary in a fresh directory.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The binary.
pub(crate) const ONCELOG: &str = env!("CARGO_BIN_EXE_oncelog");

/// A working directory of one test. The data directory is `oncelog-data` in it.
pub(crate) struct Place {
    directory: TempDir,
}

/// What a run of the command gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The log file of the first segment of a partition.
    pub(crate) fn segment(&self, log: &str) -> PathBuf {
        self.path()
            .join("oncelog-data")
            .join(log)
            .join("00000000000000000000.log")
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path().join(name), content).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(ONCELOG);
        command.args(args).current_dir(self.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts a command whose standard input stays open.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdin(Stdio::piped()).spawn().unwrap()
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        ended(self.command(args).spawn().unwrap())
    }

    pub(crate) fn run_with_input(&self, args: &[&str], input: impl AsRef<[u8]>) -> Ran {
        let mut child = self.start(args);
        // A command that refuses its options does not read.
        let _ = child.stdin.take().unwrap().write_all(input.as_ref());
        ended(child)
    }

    /// Runs a line of shell in the directory, with `oncelog` in the path.
    pub(crate) fn shell(&self, line: &str) -> Ran {
        let binaries = Path::new(ONCELOG).parent().unwrap().display();
        let path = format!("{binaries}:{}", std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .env("PATH", path)
            .current_dir(self.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        ended(command.spawn().unwrap())
    }
}

pub(crate) fn ended(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ran {
    /// Checks the exit code; shows everything when it is another.
    #[track_caller]
    pub(crate) fn code(self, expected: i32) -> Ran {
        assert_eq!(self.code, Some(expected), "{self:?}");
        self
    }

    /// Checks what stderr says.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Ran {
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "{part:?} is missing in {self:?}"
            );
        }
        self
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// One JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// A JSON object a line.
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// Checks that an object has all these fields.
#[track_caller]
pub(crate) fn has_fields(object: &Value, fields: &[&str]) {
    for field in fields {
        assert!(
            object.get(field).is_some(),
            "{field} is missing in {object}"
        );
    }
}

/// Sends a signal by its name.
pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Looks again and again until it is so; gives up after a minute, or when the command has ended.
#[track_caller]
pub(crate) fn until(child: &mut Child, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(child.try_wait().unwrap().is_none(), "the command ended");
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it did not come to that"
        );
        std::thread::yield_now();
    }
}
