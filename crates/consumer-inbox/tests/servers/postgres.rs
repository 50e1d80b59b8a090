//! A private PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use super::guardian::{Guardian, as_user, make_directory};
use super::{free_port, fresh_directory, missing, until};

const USER: &str = "postgres";

pub struct Postgres {
    /// None of a server that was there before.
    guardian: Option<Mutex<Guardian>>,
    directory: PathBuf,
    host: String,
    port: u16,
}

impl Postgres {
    /// A server of its own, stopped when dropped. `ONCELOG_TEST_PG=host:port` names one that runs already, which trusts the
    /// user `postgres`.
    pub fn start() -> Option<Postgres> {
        Postgres::start_with(&[])
    }

    /// The same with settings, such as `fsync=off`.
    pub fn start_with(settings: &[&str]) -> Option<Postgres> {
        if let Ok(address) = std::env::var("ONCELOG_TEST_PG") {
            let (host, port) = address.rsplit_once(':').unwrap();
            return Some(Postgres {
                guardian: None,
                directory: PathBuf::new(),
                host: host.to_owned(),
                port: port.parse().unwrap(),
            });
        }
        let Some(binaries) = binaries() else {
            return missing("no PostgreSQL server in /usr/lib/postgresql/*/bin");
        };
        let directory = fresh_directory();
        let home = directory.join("postgres");
        make_directory(&home, USER);
        open_to_all(&directory);
        let data = home.join("data").display().to_string();
        let program = binaries.join("postgres").display().to_string();
        let sockets = home.display().to_string();
        let mut command = vec![&*program, "-D", &data, "-k", &sockets];
        command.extend([
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "max_connections=200",
        ]);
        for setting in settings {
            command.extend(["-c", setting]);
        }
        command.push("-p");
        let guardian = Guardian::new(&directory, USER, &command);
        // Behind the guardian, so that nothing is left if this process ends here.
        let mut initdb = as_user(USER);
        initdb.extend([
            binaries.join("initdb").display().to_string(),
            "-D".to_owned(),
        ]);
        initdb.push(data.clone());
        initdb.extend(
            "-U postgres -A trust -E UTF8 --no-locale --no-sync"
                .split(' ')
                .map(str::to_owned),
        );
        let output = Command::new(&initdb[0])
            .args(&initdb[1..])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut server = Postgres {
            guardian: Some(Mutex::new(guardian)),
            directory,
            host: "127.0.0.1".to_owned(),
            port: 0,
        };
        server.restart();
        Some(server)
    }

    /// What `tokio_postgres` connects by.
    pub fn config(&self) -> String {
        self.config_at(self.port)
    }

    /// The same through another port: that of a proxy.
    pub fn config_at(&self, port: u16) -> String {
        format!("host={} port={port} user={USER} dbname=postgres", self.host)
    }

    /// What URLs are made of.
    pub fn url(&self) -> String {
        format!("postgres://{USER}@{}:{}/postgres", self.host, self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it with a signal and waits: INT is a clean stop, QUIT and KILL are crashes.
    pub fn kill(&self, signal: &str) {
        self.guardian().lock().unwrap().kill(signal);
    }

    /// Starts it again behind a kill, at another port.
    pub fn restart(&mut self) {
        for _ in 0..5 {
            self.port = free_port();
            let mut guardian = self.guardian().lock().unwrap();
            let pid = guardian.start(&self.port.to_string());
            let marks = self.directory.join("postgres/data/postmaster.pid");
            let mut ready = false;
            until("PostgreSQL answers or ends", || {
                ready = is_ready(&marks, pid);
                ready || !guardian.is_alive()
            });
            if ready {
                return;
            }
            // The port was taken, or backends of a killed server still hold its memory.
            guardian.kill("KILL");
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        let log = std::fs::read_to_string(self.directory.join("log"));
        panic!("PostgreSQL does not start: {}", log.unwrap_or_default());
    }

    fn guardian(&self) -> &Mutex<Guardian> {
        self.guardian.as_ref().expect("a server of its own")
    }
}

// Its file says whose it is, and in the last line whether it takes connections.
fn is_ready(marks: &Path, pid: u32) -> bool {
    let marks = std::fs::read_to_string(marks).unwrap_or_default();
    let lines: Vec<&str> = marks.lines().map(str::trim).collect();
    lines.first() == Some(&&*pid.to_string()) && lines.get(7) == Some(&"ready")
}

fn binaries() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let binaries = versions.filter_map(|entry| {
        let entry = entry.ok()?;
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let binaries = entry.path().join("bin");
        binaries
            .join("postgres")
            .exists()
            .then_some((version, binaries))
    });
    binaries.max().map(|(_, binaries)| binaries)
}

fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o711)).unwrap();
}
