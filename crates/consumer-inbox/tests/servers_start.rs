//! The servers that other tests use start, restart with what they stored, and are theirs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod servers;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use servers::{Cut, Postgres, Proxy, Redis};

fn ask(port: u16, commands: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let _ = stream.write_all(commands.as_bytes());
    let mut answer = Vec::new();
    // A connection that is cut may also end in an error.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn redis_keeps_what_it_answered_over_a_kill() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    assert_eq!(ask(redis.port(), "SET a 1\r\nQUIT\r\n"), "+OK\r\n+OK\r\n");
    redis.kill("KILL");
    redis.restart();
    assert_eq!(ask(redis.port(), "GET a\r\nQUIT\r\n"), "$1\r\n1\r\n+OK\r\n");
}

#[test]
fn a_proxy_loses_the_request_or_the_reply() {
    let Some(redis) = servers::redis() else {
        return;
    };
    let proxy = Proxy::to(redis.port());
    let key = servers::fresh_name("proxy");
    let (increment, get) = (
        format!("INCR {key}\r\nQUIT\r\n"),
        format!("GET {key}\r\nQUIT\r\n"),
    );
    assert_eq!(ask(proxy.port(), &increment), ":1\r\n+OK\r\n");
    proxy.cut(Cut::Request, b"INCR");
    assert_eq!(ask(proxy.port(), &increment), "");
    assert_eq!(
        ask(redis.port(), &get),
        "$1\r\n1\r\n+OK\r\n",
        "it never arrived"
    );
    proxy.cut(Cut::Reply, b"INCR");
    assert_eq!(ask(proxy.port(), &increment), "");
    assert_eq!(ask(redis.port(), &get), "$1\r\n2\r\n+OK\r\n", "it was done");
    assert_eq!(
        ask(proxy.port(), &increment),
        ":3\r\n+OK\r\n",
        "each cut is for once"
    );
    assert_eq!(proxy.cuts(), 2);
}

#[test]
fn postgres_starts_and_starts_again_behind_a_kill() {
    let Some(mut postgres) = Postgres::start() else {
        return;
    };
    assert!(TcpStream::connect(("127.0.0.1", postgres.port())).is_ok());
    postgres.kill("QUIT");
    assert!(TcpStream::connect(("127.0.0.1", postgres.port())).is_err());
    postgres.restart();
    postgres.kill("KILL");
    postgres.restart();
    assert!(TcpStream::connect(("127.0.0.1", postgres.port())).is_ok());
}
