//! A private Redis.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use super::guardian::{Guardian, make_directory};
use super::{free_port, fresh_directory, missing, until};

const USER: &str = "redis";

pub struct Redis {
    /// None of a server that was there before.
    guardian: Option<Mutex<Guardian>>,
    directory: PathBuf,
    address: String,
}

impl Redis {
    /// A server of its own that syncs each command and evicts nothing, stopped when dropped. `ONCELOG_TEST_REDIS=host:port`
    /// names one that runs already.
    pub fn start() -> Option<Redis> {
        Redis::start_with(&[])
    }

    /// The same with more arguments, such as `--maxmemory-policy allkeys-lru`; the last one of a name counts.
    pub fn start_with(arguments: &[&str]) -> Option<Redis> {
        if let Ok(address) = std::env::var("ONCELOG_TEST_REDIS") {
            return Some(Redis {
                guardian: None,
                directory: PathBuf::new(),
                address,
            });
        }
        if Command::new("redis-server")
            .arg("--version")
            .output()
            .is_err()
        {
            return missing("no redis-server on the path");
        }
        let directory = fresh_directory();
        let home = directory.join("redis");
        make_directory(&home, USER);
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o711)).unwrap();
        let home = home.display().to_string();
        let mut command = vec!["redis-server", "--bind", "127.0.0.1", "--dir", &home];
        command.extend([
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--save",
            "",
        ]);
        command.extend(["--maxmemory-policy", "noeviction"]);
        command.extend(["--enable-debug-command", "yes"]);
        command.extend(arguments);
        command.push("--port");
        let guardian = Guardian::new(&directory, USER, &command);
        let mut server = Redis {
            guardian: Some(Mutex::new(guardian)),
            directory,
            address: String::new(),
        };
        server.restart();
        Some(server)
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn port(&self) -> u16 {
        self.address.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// What the `redis` crate opens.
    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// Ends it with a signal and waits: TERM is a clean stop, KILL a crash.
    pub fn kill(&self, signal: &str) {
        self.guardian().lock().unwrap().kill(signal);
    }

    /// Starts it again behind a kill, at another port, with what it had stored.
    pub fn restart(&mut self) {
        for _ in 0..5 {
            let port = free_port();
            self.address = format!("127.0.0.1:{port}");
            let mut guardian = self.guardian().lock().unwrap();
            let pid = guardian.start(&port.to_string());
            let mut ready = false;
            until("Redis answers or ends", || {
                ready = is_ready(&self.address, pid).unwrap_or(false);
                ready || !guardian.is_alive()
            });
            if ready {
                return;
            }
            guardian.kill("KILL");
        }
        let log = std::fs::read_to_string(self.directory.join("log"));
        panic!("Redis does not start: {}", log.unwrap_or_default());
    }

    fn guardian(&self) -> &Mutex<Guardian> {
        self.guardian.as_ref().expect("a server of its own")
    }
}

// It answers, and it is ours.
fn is_ready(address: &str, pid: u32) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"INFO server\r\nINFO persistence\r\nQUIT\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.contains(&format!("process_id:{pid}\r\n")) && answer.contains("\r\nloading:0\r\n"))
}
