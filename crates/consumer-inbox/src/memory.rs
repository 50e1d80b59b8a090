//! Stores in this process's memory: for tests, and for ids that nobody misses after a restart.

mod entities;
mod inbox;
mod rows;
mod store;
mod tx;

pub use entities::MemoryEntities;
pub use inbox::MemoryInbox;
pub use store::MemoryStore;
pub use tx::MemoryTx;
