//! Redis holds the business data, and a database follows it (M9).

mod commit;
mod entry;
mod inbox;
mod keys;
mod recovery;
mod tables;
mod tx;
mod writer;

pub use inbox::RedisInbox;
pub use tx::RedisTx;
pub use writer::WriteBehind;
