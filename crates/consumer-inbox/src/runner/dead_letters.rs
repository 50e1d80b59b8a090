//! Dead letters of transactional consumers: they commit with the position (E8), and look like those that the log writes itself.

use std::sync::Arc;

use bytes::Bytes;

use super::job::Job;
use super::outcome::Cause;
use crate::error::StoreError;
use crate::inbox::Outgoing;

/// What the log names the headers of its dead letters with.
const PREFIX: &str = "dead-letter-";

impl Job {
    /// The dead letter; none if what is given up is dropped.
    pub(crate) fn dead_letter(&self, cause: &Cause) -> Result<Option<Outgoing>, StoreError> {
        let Some(to) = &self.settings().dead_letter else {
            return Ok(None);
        };
        let (receipt, delivery) = (&self.receipt, &self.delivery);
        let topic = self.shared.engine.topic(&receipt.topic);
        let topic = topic.map_err(StoreError::backend)?;
        let kept = delivery
            .headers()
            .filter(|(name, _)| !name.starts_with(PREFIX))
            .map(|(name, value)| (Arc::from(name), value.cloned()));
        let mut headers: Vec<(Arc<str>, Option<Bytes>)> = kept.collect();
        let own = [
            ("group", delivery.part().group.to_string()),
            ("topic", receipt.topic.to_string()),
            ("topic-id", format!("{:032x}", topic.id())),
            ("partition", receipt.partition.to_string()),
            ("offset", receipt.offset.to_string()),
            ("epoch", receipt.epoch.to_string()),
            ("attempts", receipt.delivery.to_string()),
            ("reason", cause.reason.to_owned()),
            ("error", cause.details.clone()),
        ];
        let origin = delivery.origin_ms().map(|ms| ms.to_string());
        let inherited = [
            ("scenario", Some(delivery.scenario().to_owned())),
            ("origin-time", origin),
        ];
        for (name, value) in own {
            headers.push((format!("{PREFIX}{name}").into(), Some(value.into())));
        }
        for (name, value) in inherited {
            if let Some(value) = value
                && delivery.header(name).is_none()
            {
                headers.push((name.into(), Some(value.into())));
            }
        }
        Ok(Some(Outgoing {
            topic: to.clone(),
            key: delivery.ordering_key().cloned(),
            value: delivery.value().cloned(),
            headers,
        }))
    }
}
