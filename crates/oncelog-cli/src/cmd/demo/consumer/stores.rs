//! The stores of the demo: what an effect is in each, and where it is counted.

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod server;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use oncelog::SystemClock;
use oncelog::inbox::{EmbeddedInbox, Inbox, MemoryInbox, Outgoing, StoreError};

use super::drive::Counts;
use super::{EFFECTS, Effects, Run};
use crate::args::{Demo, Store};
use crate::exit::Stop;

/// An inbox, and its effect.
pub(super) trait Stored: Inbox {
    /// Makes the effect in the transaction: a record that is sent, unless the store has something of its own.
    fn effect(
        &self,
        tx: &mut Self::Tx,
        value: Bytes,
    ) -> impl Future<Output = Result<(), StoreError>> {
        let record = Outgoing {
            topic: EFFECTS.into(),
            value: Some(value),
            ..Outgoing::default()
        };
        self.emit(tx, record)
    }

    /// The effects that are in the store; none if they were sent.
    fn effects(&self) -> impl Future<Output = Result<Option<Vec<Vec<u8>>>, StoreError>> {
        async { Ok(None) }
    }
}

impl Stored for EmbeddedInbox {}

impl Stored for MemoryInbox {}

/// The server that was named, if the store is one.
pub(super) fn url(args: &Demo) -> anyhow::Result<Option<String>> {
    let store = args.store.store;
    if !is_built(store) {
        return Err(without(store).into());
    }
    let schemes = store.schemes();
    let usage = |text: String| Err(Stop::Usage(text).into());
    let url = match (&args.store.url, &args.url) {
        (Some(_), Some(_)) => return usage("--store names a URL already: leave --url out".into()),
        (Some(url), None) | (None, Some(url)) => url,
        (None, None) if schemes.is_empty() => return Ok(None),
        (None, None) => {
            return usage(format!(
                "--store {} needs --url, such as {}host:port",
                store.of(),
                schemes[0]
            ));
        }
    };
    if schemes.is_empty() {
        return usage(format!("--store {} takes no --url", store.of()));
    }
    if !schemes.iter().any(|scheme| url.starts_with(scheme)) {
        return usage(format!(
            "--url of --store {} begins with {}",
            store.of(),
            schemes.join(" or ")
        ));
    }
    Ok(Some(url.clone()))
}

/// Has the consumer work on all records; its counts, and its effects as they are stored.
pub(super) fn consume(
    run: &Run<'_>,
    data: &Path,
    url: Option<String>,
    records: u64,
) -> anyhow::Result<(Counts, Effects)> {
    match run.args.store.store {
        Store::Embedded => run.careful(EmbeddedInbox::open(&run.engine, "demo")?, records),
        Store::Memory => run.careful(MemoryInbox::lossy(Arc::new(SystemClock)), records),
        #[cfg(feature = "sqlite")]
        Store::Sqlite => sqlite::consume(run, data, records),
        #[cfg(feature = "postgres")]
        Store::Postgres => postgres::consume(run, &url.unwrap_or_default(), records),
        #[cfg(feature = "redis")]
        Store::Redis => redis::consume(run, &url.unwrap_or_default(), records),
        #[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "redis")))]
        other => {
            let _ = (data, url);
            Err(without(other).into())
        }
    }
}

/// Whether this build has a store.
fn is_built(store: Store) -> bool {
    match store {
        Store::Embedded | Store::Memory => true,
        Store::Sqlite => cfg!(feature = "sqlite"),
        Store::Postgres => cfg!(feature = "postgres"),
        Store::Redis => cfg!(feature = "redis"),
    }
}

fn without(store: Store) -> Stop {
    let store = store.of();
    Stop::Usage(format!(
        "this oncelog was built without the store {store}: build it with `--features {store}`"
    ))
}
