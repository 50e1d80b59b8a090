//! Ids in the log itself: records of an internal topic, `__ids-<name>`, of the same engine. No server, and no
//! second kind of file (`docs/decisions/0017`).

mod cleaning;
mod error;
mod event;
mod forward;
mod inbox;
mod index;
mod ledger;
mod opening;
mod snapshot;
mod state;
mod store;
mod sweep;
mod tx;
mod wire;

pub use error::{EmbeddedError, ForwardError};
pub use inbox::EmbeddedInbox;
pub use ledger::{EmbeddedCounts, EmbeddedSettings};
pub use store::EmbeddedStore;
pub use tx::EmbeddedTx;
pub use wire::WireError;
