//! Why a database is not fit for ids.

use super::schema::VERSION;
use crate::error::StoreError;

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The tables are of another version; 0 if there are none.
    #[error(
        "the tables are of schema version {found}, this program reads version {VERSION}: {}",
        match found { 0 => "make them, see `sql::schema::MIGRATIONS`", _ if *found > VERSION => "use a newer program", _ => "migrate them" }
    )]
    Schema {
        /// The version that is there.
        found: i64,
    },
    /// The database takes no writes: a file that is read-only, a directory that is, or a standby server.
    #[error("the database is read-only: ids and positions must be written")]
    ReadOnly,
    /// A setting of it breaks what is promised (E13).
    #[error("refused: {0}")]
    Unsafe(&'static str),
    /// The server or the file was not reached.
    #[error("the database was not reached: {0}")]
    Unreachable(String),
    /// What the store said otherwise.
    #[error(transparent)]
    Store(#[from] StoreError),
}
