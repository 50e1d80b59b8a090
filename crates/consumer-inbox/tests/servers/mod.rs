//! Private servers for tests: PostgreSQL and Redis on loopback ports, each watched over by a shell that ends it with the
//! test process, however that dies. Only `std`, so that any test may take these files in with `#[path]`.
//!
//! A missing server is a skip with a printed reason, and a failure with `ONCELOG_REQUIRE_SERVERS=1`.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "shared by tests that each use a part; a test fails by panicking"
)]

mod guardian;
mod postgres;
mod proxy;
mod redis;

pub use postgres::Postgres;
pub use proxy::{Cut, Proxy};
pub use redis::Redis;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

static POSTGRES: OnceLock<Option<Postgres>> = OnceLock::new();
static REDIS: OnceLock<Option<Redis>> = OnceLock::new();

/// The PostgreSQL of this test binary. Give each test a schema of its own, see [`fresh_name`].
pub fn postgres() -> Option<&'static Postgres> {
    POSTGRES.get_or_init(Postgres::start).as_ref()
}

/// The Redis of this test binary. Give each test a key prefix (a group name) of its own, see [`fresh_name`].
pub fn redis() -> Option<&'static Redis> {
    REDIS.get_or_init(Redis::start).as_ref()
}

/// A name that nothing else in this process has: lower case letters, digits and `_`.
pub fn fresh_name(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{what}_{}_{number}", std::process::id())
}

/// A directory in memory if there is one: servers sync, and nobody cuts the power.
fn fresh_directory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = match memory.is_dir() {
        true => memory.to_owned(),
        false => std::env::temp_dir(),
    };
    let directory = base.join(fresh_name("oncelog_servers"));
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// A port that is free now; somebody else may take it before the server does.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn is_root() -> bool {
    let output = std::process::Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout == b"0\n")
}

/// Says that a server is missing: `None`, or a panic if servers are required.
fn missing<T>(what: &str) -> Option<T> {
    let required = std::env::var("ONCELOG_REQUIRE_SERVERS").is_ok_and(|v| v == "1");
    assert!(!required, "ONCELOG_REQUIRE_SERVERS=1 and {what}");
    println!("skipped: {what}");
    None
}

/// Asks every few ms until it is so, or fails after half a minute.
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is() {
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "waited for: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
