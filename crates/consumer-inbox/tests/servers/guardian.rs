//! A shell that owns a server process: it ends it, and removes its directory, when this process is gone.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::is_root;

/// Reads commands until its input ends, which is when the test process does.
const SCRIPT: &str = r#"
directory=$1; shift
while read -r command argument; do
    case $command in
    start) "$@" "$argument" >>"$directory/log" 2>&1 </dev/null & server=$!; echo $server ;;
    kill) { kill -$argument $server; wait $server; } 2>/dev/null; server=; echo gone ;;
    esac
done
if [ -n "$server" ]; then { kill -QUIT $server; kill -TERM $server; wait $server; } 2>/dev/null; fi
rm -rf "$directory"
"#;

pub struct Guardian {
    shell: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pid: u32,
}

impl Guardian {
    /// Of a server that is started by this command with one more argument, as that user if this process is root's.
    pub fn new(directory: &Path, user: &str, command: &[&str]) -> Guardian {
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT, "guardian"]).arg(directory);
        shell.args(as_user(user)).args(command);
        // A signal to the group of this process, from a terminal say, is not for it: it has to clean up.
        let mut shell = shell
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Guardian {
            commands: shell.stdin.take(),
            answers: BufReader::new(shell.stdout.take().unwrap()),
            shell,
            pid: 0,
        }
    }

    /// Starts the server with this last argument: its process id.
    pub fn start(&mut self, argument: &str) -> u32 {
        self.pid = self.ask(&format!("start {argument}")).parse().unwrap();
        self.pid
    }

    /// Sends the server a signal and waits until it is gone.
    pub fn kill(&mut self, signal: &str) {
        assert_eq!(self.ask(&format!("kill {signal}")), "gone");
    }

    /// Whether the server still runs.
    pub fn is_alive(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid));
        stat.is_ok_and(|stat| {
            let state = stat.rsplit(") ").next().unwrap_or_default();
            !state.starts_with('Z')
        })
    }

    fn ask(&mut self, command: &str) -> String {
        writeln!(self.commands.as_mut().unwrap(), "{command}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.commands.take());
        // The end of its input is its sign to clean up.
        let _ = self.shell.wait();
    }
}

/// What to put before a command so that it runs as that user: nothing unless this process is root's.
pub fn as_user(user: &str) -> Vec<String> {
    match is_root() {
        true => vec![
            "setpriv".to_owned(),
            format!("--reuid={user}"),
            format!("--regid={user}"),
            "--init-groups".to_owned(),
            "--reset-env".to_owned(),
            "--".to_owned(),
        ],
        false => Vec::new(),
    }
}

/// Makes a directory that belongs to that user.
pub fn make_directory(at: &Path, user: &str) {
    let mut command = Command::new("install");
    command.args(["-d", "-m", "700"]);
    if is_root() {
        command.args(["-o", user, "-g", user]);
    }
    assert!(command.arg(at).status().unwrap().success());
}
