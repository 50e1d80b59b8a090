//! Only the owner may read what is written, whatever the umask.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use log_engine::{Ack, Engine};

use crate::world::{config, plain};

const DIRECTORY: &str = "ONCELOG_TEST_PERMISSIONS";

// Fills a data directory with every kind of file, when started by the test below.
#[test]
fn writes_every_kind_of_file_when_asked() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let engine = Engine::open(&directory).unwrap();
    let mut settings = config(Ack::Synced);
    settings.set("segment.bytes", "4096").unwrap();
    let topic = engine.create_topic("t", 1, settings).unwrap();
    let partition = topic.partition(0).unwrap();
    let log = Path::new(&directory).join("t-0");
    let is_there = |kind: &str| {
        let mut entries = std::fs::read_dir(&log).unwrap();
        entries.any(|entry| entry.unwrap().path().extension() == Some(kind.as_ref()))
    };
    // Nobody who appends waits for these.
    let beside = ["footer", "index", "segment", "snapshot"];
    for _ in 0..10_000 {
        partition.blocking_append(&plain(&"x".repeat(200))).unwrap();
        if beside.into_iter().all(is_there) {
            break;
        }
    }
    // Not closed: prepared segments stay, too.
    std::process::exit(0);
}

fn modes(directory: &Path, kinds: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        let mode = meta.permissions().mode() & 0o7777;
        let path = entry.path();
        if meta.is_dir() {
            assert_eq!(mode, 0o700, "{}", path.display());
            modes(&path, kinds);
        } else {
            assert_eq!(mode, 0o600, "{}", path.display());
            let kind = path.extension().or(path.file_name()).unwrap();
            kinds.push(kind.to_string_lossy().into_owned());
        }
    }
}

#[test]
fn directories_are_0700_and_files_0600_whatever_the_umask() {
    for umask in ["000", "077", "022"] {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        let test = std::env::current_exe().unwrap();
        // Only a process of its own may change its umask while other tests run.
        let status = Command::new("sh")
            .arg("-c")
            .arg(format!("umask {umask}; exec \"$0\" --exact permissions::writes_every_kind_of_file_when_asked"))
            .arg(test)
            .env(DIRECTORY, &data)
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "umask {umask}: {status}");
        let mode = std::fs::metadata(&data).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o700, "umask {umask}");
        let mut kinds = Vec::new();
        modes(&data, &mut kinds);
        kinds.sort();
        kinds.dedup();
        // A snapshot may have been under way.
        kinds.retain(|kind| kind != "tmp");
        let expected = [
            "footer",
            "format",
            "generation",
            "index",
            "lock",
            "log",
            "marks",
            "names",
            "producer-ids",
            "segment",
            "snapshot",
            "topics",
        ];
        assert_eq!(kinds, expected, "umask {umask}");
    }
}
