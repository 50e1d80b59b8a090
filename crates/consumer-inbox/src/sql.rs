//! Ids in tables, inside a transaction that is yours: the door for teams that have a database driver and a pool already.
//!
//! A second pool cannot join your transaction, and two SQLite libraries cannot share one build. So this needs no driver: implement the
//! two methods of [`SqlTx`] for your transaction, ask [`claim`] at its beginning, and commit it yourself. Id and effect are there
//! together, or neither is.
//!
//! ```
//! # use consumer_inbox::{Admission, Delivery, StoreError, sql::{self, SqlTx}};
//! async fn invoice<T: SqlTx>(mut tx: T, order: &Delivery) -> Result<(), StoreError> {
//!     if let Admission::Run(()) = sql::claim(&mut tx, order).await? {
//!         // Your own statements, by your own driver. On an error: roll back.
//!     }
//!     // Commit, and acknowledge behind that. `Busy` is the one answer never to acknowledge.
//! #   Ok(())
//! }
//! ```
//!
//! The tables are those of [`schema`], the statements those of [`Statements`]; make the tables with your own migrations from
//! [`schema::MIGRATIONS`], and check [`schema::VERSION`] with [`schema::found`]. A driver without async calls asks through [`ready`].

pub(crate) mod ids;
mod insert_once;
mod open_error;
pub mod schema;
mod statements;
mod tx;
mod value;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) mod claims;
#[cfg(all(feature = "redis", feature = "postgres"))]
pub(crate) mod committed;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) mod entities;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) mod inbox;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) mod outbox;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) mod session;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) mod sweep;

pub use ids::{claim, settle};
#[cfg(all(feature = "redis", feature = "postgres"))]
pub(crate) use ids::{signed, stored_scope};
pub use insert_once::{Inserted, insert_once};
pub use open_error::OpenError;
pub use statements::Statements;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use tx::LOCKED;
pub use tx::{Dialect, SqlTx, failed, ready};
pub use value::{Answer, Value};
