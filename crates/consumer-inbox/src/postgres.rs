//! Ids, positions and effects in PostgreSQL.
//!
//! READ COMMITTED, whatever the server's default is; a transaction of an inbox takes a connection of the pool for itself. Locks are rows and end with
//! their transaction, and nothing is prepared, so a pooler in transaction mode may stand in between.

mod claims;
#[cfg(feature = "redis")]
mod committed;
mod inbox;
mod options;
mod queue;
mod session;
mod settlements;
mod store;
mod tx;

pub use inbox::PgInbox;
pub use options::PgOptions;
pub use session::Postgres;
pub use store::PgStore;
pub use tx::PgTx;
