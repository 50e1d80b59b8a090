//! The runner: polls a group, asks a store, runs a handler, settles, acknowledges.

mod builder;
mod claimed;
mod dead_letters;
mod drive;
mod error;
mod forgetting;
mod guard;
mod job;
mod lanes;
mod metrics;
mod natural;
mod outbox;
mod outcome;
mod policy;
mod positions;
mod retry;
mod shutdown;
mod transactional;

pub use builder::{Consumer, ConsumerBuilder};
pub use claimed::Claimed;
pub use drive::Runner;
pub use error::{BuildError, RunError};
pub use metrics::{Gauges, Metrics, Summary};
pub use natural::Natural;
pub use policy::{KeyAfterPark, OnUnknown, Order, Policy};
pub use retry::Retry;
pub use transactional::Transactional;
