//! The names of record headers that mean something to this engine, in one place. The log carries
//! headers and never interprets them; consumer groups do.

/// The business id, unique inside one scenario.
pub(crate) const BIZ_ID: &str = "biz-id";
/// The business meaning of a record; without it, the name of its topic.
pub(crate) const SCENARIO: &str = "scenario";
/// When the record was first in a log, milliseconds since 1970 as decimal text; without it, the
/// record's own timestamp.
pub(crate) const ORIGIN_TIME: &str = "origin-time";
/// Marks a record that was sent again from a dead-letter topic: `topic/partition/offset` there.
pub(crate) const REDRIVE: &str = "redrive";

/// The group that gave a record up.
pub(crate) const DEAD_GROUP: &str = "dead-letter-group";
/// The topic it came from.
pub(crate) const DEAD_TOPIC: &str = "dead-letter-topic";
/// That topic's identity, as 32 hexadecimal digits: another topic may have the name later.
pub(crate) const DEAD_TOPIC_ID: &str = "dead-letter-topic-id";
/// The partition it came from, decimal.
pub(crate) const DEAD_PARTITION: &str = "dead-letter-partition";
/// Its offset there, decimal.
pub(crate) const DEAD_OFFSET: &str = "dead-letter-offset";
/// The partition's epoch in the group when it was given up, decimal.
pub(crate) const DEAD_EPOCH: &str = "dead-letter-epoch";
/// How often it had been delivered, decimal.
pub(crate) const DEAD_ATTEMPTS: &str = "dead-letter-attempts";
/// Why it was given up.
pub(crate) const DEAD_REASON: &str = "dead-letter-reason";
/// The last error, for people.
pub(crate) const DEAD_ERROR: &str = "dead-letter-error";
/// Marks a record of a dead-letter topic that is no dead letter, but says that one was sent again:
/// `partition/offset` of that one.
pub(crate) const DEAD_SENT_AGAIN: &str = "dead-letter-sent-again";

/// What begins the names that belong to one stay in a dead-letter topic, and not to the record.
pub(crate) const DEAD_PREFIX: &str = "dead-letter-";
