//! What an append is called when its outcome is asked for later.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Names one record that was handed to a producer, so that [`crate::Engine::resolve`] can say what
/// became of it: also in another run, after a crash. Keep it as text, or with serde as a string.
///
/// ```
/// use log_engine::AppendId;
///
/// let id: AppendId = "orders/0/17.0.42.3".parse()?;
/// assert_eq!(id.to_string(), "orders/0/17.0.42.3");
/// assert!("orders/0".parse::<AppendId>().is_err());
/// # Ok::<(), log_engine::AppendIdError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AppendId {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    /// Sequence of the record; -1 when it was stored by an earlier run.
    pub(crate) sequence: i32,
    /// Its position in its batch.
    pub(crate) index: u32,
}

/// A text that is no append id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no append id; they look like topic/0/17.0.42.3")]
pub struct AppendIdError {
    text: String,
}

impl AppendId {
    /// Of a record that was not sent, because an earlier run had stored it.
    pub(crate) fn skipped(topic: Arc<str>, partition: u32, identity: (i64, i16)) -> AppendId {
        let (producer_id, producer_epoch) = identity;
        AppendId {
            topic,
            partition,
            producer_id,
            producer_epoch,
            sequence: -1,
            index: 0,
        }
    }
}

impl fmt::Display for AppendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AppendId {
            topic,
            partition,
            producer_id,
            producer_epoch,
            sequence,
            index,
        } = self;
        write!(
            f,
            "{topic}/{partition}/{producer_id}.{producer_epoch}.{sequence}.{index}"
        )
    }
}

impl FromStr for AppendId {
    type Err = AppendIdError;

    fn from_str(text: &str) -> Result<AppendId, AppendIdError> {
        parse(text).ok_or_else(|| AppendIdError {
            text: text.to_owned(),
        })
    }
}

fn parse(text: &str) -> Option<AppendId> {
    let mut parts = text.rsplitn(3, '/');
    let (numbers, partition, topic) = (parts.next()?, parts.next()?, parts.next()?);
    let mut numbers = numbers.split('.');
    let id = AppendId {
        topic: topic.into(),
        partition: partition.parse().ok()?,
        producer_id: numbers.next()?.parse().ok()?,
        producer_epoch: numbers.next()?.parse().ok()?,
        sequence: numbers.next()?.parse().ok()?,
        index: numbers.next()?.parse().ok()?,
    };
    let sound = numbers.next().is_none()
        && crate::topics::check_name(topic).is_ok()
        && id.producer_id >= 0
        && id.producer_epoch >= 0
        && id.sequence >= -1;
    sound.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "a/0/1.2.3",
            "a/0/1.2.3.4.5",
            "a/-1/1.2.3.4",
            "a/0/-1.0.0.0",
            "../0/1.0.0.0",
        ] {
            assert!(text.parse::<AppendId>().is_err(), "{text}");
        }
    }
}
