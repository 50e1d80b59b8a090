//! A process that is started to be killed. It is a test's own binary, started again for one of its
//! tests, and says on a pipe what it does before it does it; the parent believes that alone.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Says a line to the parent, in one write, which a pipe takes whole.
pub fn say(line: std::fmt::Arguments<'_>) {
    let line = format!("{line}\n");
    // Without anybody who listens there is nothing to say.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

/// A started process and what it says.
pub struct Child {
    process: std::process::Child,
    lines: Receiver<String>,
}

impl Child {
    /// Starts this binary again, for one test, with a few variables set.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(test: &str, variables: &[(&str, &OsStr)]) -> Child {
        let binary = std::env::current_exe().unwrap_or_default();
        let mut command = Command::new(binary);
        command.args(["--exact", test, "--nocapture"]);
        command.envs(variables.iter().copied());
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let (sender, lines) = channel();
        let output = process.stdout.take();
        std::thread::spawn(move || {
            // What was said before the kill stays in the pipe; a last line may be cut.
            let lines = output.map(|output| BufReader::new(output).lines());
            for line in lines.into_iter().flatten().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Child { process, lines }
    }

    /// Waits until it says a line; returns what it said before.
    ///
    /// # Panics
    /// When it does not say it within a minute.
    pub fn wait_for(&mut self, wanted: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) if line == wanted => return before,
                Ok(line) => before.push(line),
                Err(error) => panic!("the process did not say {wanted:?}: {error}"),
            }
        }
    }

    /// Waits until it says one of some lines, or nothing more; returns what it said before, and
    /// that line.
    ///
    /// # Panics
    /// When it stays silent for a minute.
    pub fn wait_for_any(&mut self, wanted: &[&str]) -> (Vec<String>, Option<String>) {
        let mut before = Vec::new();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) if wanted.contains(&line.as_str()) => return (before, Some(line)),
                Ok(line) => before.push(line),
                Err(RecvTimeoutError::Disconnected) => return (before, None),
                Err(RecvTimeoutError::Timeout) => panic!("the process says nothing more"),
            }
        }
    }

    /// Kills it with SIGKILL; returns all that it had said since.
    ///
    /// # Panics
    /// When it had ended by itself.
    pub fn kill(mut self) -> Vec<String> {
        let killed = self.process.kill();
        let status = self.process.wait();
        let by_itself = status.as_ref().is_ok_and(|status| status.code().is_some());
        assert!(
            killed.is_ok() && status.is_ok() && !by_itself,
            "the process ended by itself: {status:?}"
        );
        self.lines.iter().collect()
    }
}
