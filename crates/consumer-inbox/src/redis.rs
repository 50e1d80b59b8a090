//! Claims in Redis: one hash for each id, one script for each call, leases by the server's clock.

#[cfg(feature = "postgres")]
mod behind;
mod effects;
mod front;
mod options;
mod scripts;
mod server;
mod store;
mod sweep;
mod tiered;
mod tiered_store;
mod tiered_tx;

#[cfg(feature = "postgres")]
pub use behind::{RedisInbox, RedisTx, WriteBehind};
pub use effects::{Guard, Guarded, RedisEffects, Written};
pub use options::RedisOptions;
pub use store::RedisStore;
pub use tiered::{Reconciled, Tiered};
pub use tiered_tx::TieredTx;
