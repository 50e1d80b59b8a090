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

use std::sync::Arc;

pub use builder::{Consumer, ConsumerBuilder};
pub use claimed::Claimed;
pub use drive::Runner;
pub use error::{BuildError, RunError};
pub use metrics::{Gauges, Metrics, Summary};
pub use natural::Natural;
pub use policy::{KeyAfterPark, OnUnknown, Order, Policy};
pub use retry::Retry;
pub use transactional::Transactional;

use crate::delivery::Delivery;
use crate::identity::{BizId, IdError, Position};

/// A delivery whose id cannot be used, under its position.
fn nameless(group: &Arc<str>, delivery: &log_engine::Delivery) -> Result<Delivery, IdError> {
    let record = delivery.record();
    let at = Position {
        topic: record.topic(),
        partition: record.partition(),
        offset: record.offset(),
    };
    let payload = record.value().map(|value| &value[..]);
    let id = BizId::of_position(at);
    let id = blake3::hash(id.as_bytes());
    let named = Delivery::foreign(group.clone(), at, id.as_bytes(), payload)?;
    Ok(named.at_epoch(delivery.receipt().epoch))
}
