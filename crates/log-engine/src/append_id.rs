//! What an append is called when its outcome is asked for later.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Names one record that was handed to a producer, so that [`Engine::resolve`](crate::Engine::resolve) can say what
/// became of it: also in another run, after a crash. Keep it as text; with feature `serde` it is
/// a string to serde.
///
/// The text is topic, partition, then producer id, epoch, sequence and index, then the identity of
/// the topic, so that one made later under the same name is not taken for it.
///
/// ```
/// use log_engine::AppendId;
///
/// let text = "orders/0/17.0.42.3/4d2ab70c5e9f4a61b03a8c5d17e6f902";
/// let id: AppendId = text.parse()?;
/// assert_eq!(id.to_string(), text);
/// assert!("orders/0".parse::<AppendId>().is_err());
/// # Ok::<(), log_engine::AppendIdError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AppendId {
    pub(crate) topic: Arc<str>,
    /// Identity of the topic.
    pub(crate) topic_id: u128,
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
#[error(
    "{text:?} is no append id; they look like topic/0/17.0.42.3/4d2ab70c5e9f4a61b03a8c5d17e6f902"
)]
pub struct AppendIdError {
    text: String,
}

impl AppendId {
    /// Of a record that was not sent, because an earlier run had stored it.
    pub(crate) fn skipped(
        (topic, topic_id): (Arc<str>, u128),
        partition: u32,
        (producer_id, producer_epoch): (i64, i16),
    ) -> AppendId {
        AppendId {
            topic,
            topic_id,
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
            topic_id,
            partition,
            producer_id,
            producer_epoch,
            sequence,
            index,
        } = self;
        write!(
            f,
            "{topic}/{partition}/{producer_id}.{producer_epoch}.{sequence}.{index}/{topic_id:032x}"
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
    let mut parts = text.rsplitn(4, '/');
    let (topic_id, numbers) = (parts.next()?, parts.next()?);
    let (partition, topic) = (parts.next()?, parts.next()?);
    if topic_id.len() != 32 || !topic_id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut numbers = numbers.split('.');
    let id = AppendId {
        topic: topic.into(),
        topic_id: u128::from_str_radix(topic_id, 16).ok()?,
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
        let topic_id = "4d2ab70c5e9f4a61b03a8c5d17e6f902";
        for text in [
            "",
            "a/0/1.2.3",
            "a/0/1.2.3.4.5",
            "a/-1/1.2.3.4",
            "a/0/-1.0.0.0",
            "../0/1.0.0.0",
        ] {
            let text = format!("{text}/{topic_id}");
            assert!(text.parse::<AppendId>().is_err(), "{text}");
        }
        for topic_id in [
            "",
            "4d2a",
            "+d2ab70c5e9f4a61b03a8c5d17e6f902",
            "xd2ab70c5e9f4a61b03a8c5d17e6f902",
            "4d2ab70c5e9f4a61b03a8c5d17e6f9020",
        ] {
            let text = format!("a/0/1.2.3.4/{topic_id}");
            assert!(text.parse::<AppendId>().is_err(), "{text}");
        }
        assert!("a/0/1.2.3.4".parse::<AppendId>().is_err());
    }
}
