//! Ids, positions and effects in one SQLite file.
//!
//! One connection on a thread of its own does everything, each transaction begins IMMEDIATE, and claims of many callers share one sync. Other
//! processes may write to the file, too: they wait for each other up to [`SqliteOptions::busy_timeout`]. No network file systems.

mod effect;
mod inbox;
mod options;
mod session;
mod store;
mod thread;
mod tx;

pub use effect::{EffectError, EffectResult, SqliteEffect, sqlite_effect};
pub use inbox::SqliteInbox;
pub use options::SqliteOptions;
pub use session::Rusqlite;
pub use store::SqliteStore;
pub use tx::SqliteTx;
