//! A test that runs in a process of its own, so that it can die there.

use std::process::{Command, Output};

/// Runs a test of this binary in a child process: with an argument, and a failpoint to die at, or to hang at, if any.
pub fn run(test: &str, argument: &str, failpoint: Option<&str>) -> Output {
    command(test, argument, failpoint).output().unwrap()
}

/// The same, not started yet.
pub fn command(test: &str, argument: &str, failpoint: Option<&str>) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command.env("ONCELOG_CHILD", argument);
    command.env_remove("ONCELOG_FAILPOINT");
    if let Some(failpoint) = failpoint {
        command.env("ONCELOG_FAILPOINT", failpoint);
    }
    command
}

/// In the child: its argument. Elsewhere none, and the test has nothing to do.
pub fn argument() -> Option<String> {
    std::env::var("ONCELOG_CHILD").ok()
}

/// Runs it, and it dies by its own hand.
pub fn abort(test: &str, argument: &str, failpoint: &str) {
    use std::os::unix::process::ExitStatusExt as _;
    let output = run(test, argument, Some(failpoint));
    assert_eq!(output.status.signal(), Some(6), "{output:?}");
}

/// Runs it to its end.
pub fn succeed(test: &str, argument: &str) {
    let output = run(test, argument, None);
    assert!(output.status.success(), "{output:?}");
}
