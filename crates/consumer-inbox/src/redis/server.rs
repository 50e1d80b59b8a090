//! A connection to one server, made anew when it was lost, and what its errors mean.

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError, ScriptInvocation,
    ServerErrorKind,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Mutex;

use super::options::RedisOptions;
use crate::admission::Token;
use crate::error::StoreError;

const EVICTS: &str =
    "Redis evicts ids when its memory is full: set `maxmemory-policy noeviction`, or say `lossy`";
const NO_FILE: &str = "Redis keeps ids in memory alone: set `appendonly yes`, or say `lossy`";
const LATE_SYNC: &str =
    "Redis acknowledges ids before they are on disk: set `appendfsync always`, or say `lossy`";
const OLD: &str =
    "Redis 7 or later is needed: older ones do not let scripts ask for the time before they write";

/// Numbers in scripts are doubles.
pub(super) const NUMBER_MAX: u64 = (1 << 53) - 1;

pub(super) struct Server {
    client: Client,
    config: AsyncConnectionConfig,
    lossy: bool,
    /// Whether the server may lose what it acknowledged, and was taken nevertheless.
    loses: AtomicBool,
    current: Mutex<Current>,
    /// Attempts to connect that failed.
    failures: AtomicU64,
}

#[derive(Default)]
struct Current {
    connection: Option<MultiplexedConnection>,
    number: u64,
}

impl Server {
    pub(super) async fn connect(url: &str, options: &RedisOptions) -> Result<Server, StoreError> {
        let server = Server::new(url, options)?;
        server.connection().await?;
        Ok(server)
    }

    /// One that is connected to when it is needed.
    pub(super) fn new(url: &str, options: &RedisOptions) -> Result<Server, StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.timeout))
            .set_response_timeout(Some(options.timeout));
        Ok(Server {
            client: Client::open(url).map_err(StoreError::backend)?,
            config,
            lossy: options.lossy,
            loses: AtomicBool::new(false),
            current: Mutex::default(),
            failures: AtomicU64::new(0),
        })
    }

    pub(super) fn may_lose(&self) -> bool {
        self.loses.load(Ordering::Relaxed)
    }

    /// Runs a script.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        let (mut connection, number) = self.connection().await?;
        // One that the server does not know was not run: it is loaded, and sent again; and once more if the server has forgotten it in between.
        let mut answer = script.invoke_async(&mut connection).await;
        for _ in 0..2 {
            let is_unknown =
                |error: &RedisError| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript);
            if !answer.as_ref().is_err_and(is_unknown) {
                break;
            }
            answer = script.invoke_async(&mut connection).await;
        }
        self.heard(answer, number).await
    }

    /// Runs a command.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let (mut connection, number) = self.connection().await?;
        let answer = command.query_async(&mut connection).await;
        self.heard(answer, number).await
    }

    /// Runs commands, in one message and not in one step.
    #[cfg(feature = "postgres")]
    pub(super) async fn all(&self, commands: &redis::Pipeline) -> Result<(), StoreError> {
        let (mut connection, number) = self.connection().await?;
        let answer = commands.query_async::<redis::Value>(&mut connection).await;
        self.heard(answer, number).await.map(drop)
    }

    async fn heard<T>(&self, answer: Result<T, RedisError>, number: u64) -> Result<T, StoreError> {
        match answer {
            Ok(answer) => Ok(answer),
            Err(error) => {
                let (error, usable) = failed(error);
                let mut current = self.current.lock().await;
                if !usable && current.number == number {
                    current.connection = None;
                }
                Err(error)
            }
        }
    }

    /// The connection that all calls share. Without one nothing was sent.
    async fn connection(&self) -> Result<(MultiplexedConnection, u64), StoreError> {
        let failures = self.failures.load(Ordering::Acquire);
        let mut current = self.current.lock().await;
        if let Some(connection) = &current.connection {
            return Ok((connection.clone(), current.number));
        }
        // Who waited for an attempt of another one that failed does not make the next one wait as long again.
        if self.failures.load(Ordering::Acquire) != failures {
            return Err(StoreError::Unavailable);
        }
        match self.open().await {
            Ok(connection) => {
                current.number += 1;
                current.connection = Some(connection.clone());
                Ok((connection, current.number))
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Release);
                Err(error)
            }
        }
    }

    /// Connects and looks whether the server is fit: another one may have taken its place.
    async fn open(&self) -> Result<MultiplexedConnection, StoreError> {
        let unsent = |error: RedisError| match failed(error).0 {
            StoreError::Unknown => StoreError::Unavailable,
            other => other,
        };
        let client = &self.client;
        let connection = client
            .get_multiplexed_async_connection_with_config(&self.config)
            .await;
        let mut connection = connection.map_err(unsent)?;
        let info = redis::cmd("INFO").query_async(&mut connection).await;
        let info: String = info.map_err(unsent)?;
        let is = |name: &str| {
            let mut lines = info.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(found, _)| *found == name).map(|(_, is)| is)
        };
        if is("role") == Some("slave") || is("loading") == Some("1") {
            return Err(StoreError::Unavailable);
        }
        let version = is("redis_version").and_then(|version| version.split('.').next());
        if version
            .and_then(|major| major.parse().ok())
            .is_some_and(|major: u32| major < 7)
        {
            return Err(StoreError::Unsafe(OLD));
        }
        // Some services hide this setting; INFO does not have it.
        let sync = redis::cmd("CONFIG")
            .arg("GET")
            .arg("appendfsync")
            .to_owned();
        let sync = sync.query_async::<Vec<String>>(&mut connection).await;
        let risk = if is("maxmemory_policy") != Some("noeviction") {
            Some(EVICTS)
        } else if is("aof_enabled") != Some("1") {
            Some(NO_FILE)
        } else if sync.is_ok_and(|sync| sync.get(1).is_some_and(|sync| sync != "always")) {
            Some(LATE_SYNC)
        } else {
            None
        };
        self.loses.store(risk.is_some(), Ordering::Relaxed);
        match risk {
            Some(risk) if !self.lossy => Err(StoreError::Unsafe(risk)),
            _ => Ok(connection),
        }
    }
}

/// What an error means, and whether the connection can be used on.
fn failed(error: RedisError) -> (StoreError, bool) {
    use ServerErrorKind as Server;
    match error.kind() {
        // Scripts write last, and the server looks whether it may write before the first write.
        ErrorKind::Server(
            Server::NoScript
            | Server::ReadOnly
            | Server::MasterDown
            | Server::BusyLoading
            | Server::ClusterDown
            | Server::TryAgain
            | Server::Moved
            | Server::Ask,
        ) => (StoreError::Unavailable, false),
        ErrorKind::Io | ErrorKind::Parse => (StoreError::Unknown, false),
        _ => match error.code() {
            Some("OOM" | "NOREPLICAS" | "MISCONF" | "BUSY") => (StoreError::Unavailable, true),
            _ => (StoreError::backend(error), true),
        },
    }
}

/// A number that a script compares.
pub(super) fn exact(number: u64) -> Result<String, StoreError> {
    match number <= NUMBER_MAX {
        true => Ok(number.to_string()),
        false => Err(StoreError::Misuse(
            "offsets and times are below 2^53 in Redis",
        )),
    }
}

pub(super) fn text(part: Option<Bytes>) -> Result<String, StoreError> {
    let part = part.ok_or_else(unexpected)?;
    String::from_utf8(part.to_vec()).map_err(|_| unexpected())
}

pub(super) fn number(part: Option<Bytes>) -> Result<u64, StoreError> {
    text(part)?.parse().map_err(|_| unexpected())
}

pub(super) fn token(part: Option<Bytes>) -> Result<Token, StoreError> {
    Token::new(number(part)?).ok_or_else(unexpected)
}

/// An answer that no script of ours gives.
pub(super) fn unexpected() -> StoreError {
    StoreError::backend("a key `oncelog:…` of Redis is not as this program writes it")
}
