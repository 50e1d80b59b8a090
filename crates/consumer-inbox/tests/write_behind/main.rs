//! The suites and the special cases, over Redis with PostgreSQL written behind.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod fixture;
mod inbox;
#[path = "../postgres/fixture.rs"]
#[allow(dead_code, reason = "another test of the package uses the rest")]
mod pg;
#[path = "../servers/mod.rs"]
mod servers;

/// A connection of a test.
async fn redis_at(url: &str) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}
