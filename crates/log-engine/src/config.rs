//! What can be set, per topic and per engine, and what it is unless set.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use partition_log::{PartitionConfig, SequenceReusePolicy, UnknownProducerPolicy};
use segment_storage::{SEGMENT_BYTES_LIMIT, SEGMENT_BYTES_MIN, Visibility};

/// When an append is answered, and so what an answer promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Ack {
    /// Once it is in memory that the system writes back by itself: survives the process, not the
    /// machine.
    Memory,
    /// As `Memory`, and synced soon after (`flush.ms`, `flush.bytes`): a power cut takes at most
    /// that much.
    Interval,
    /// Once it is on the disk: survives a power cut. Callers at the same time share a sync.
    #[default]
    Synced,
}

impl fmt::Display for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ack::Memory => "memory",
            Ack::Interval => "interval",
            Ack::Synced => "synced",
        })
    }
}

impl FromStr for Ack {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Ack, ConfigError> {
        [Ack::Memory, Ack::Interval, Ack::Synced]
            .into_iter()
            .find(|ack| ack.to_string() == text)
            .ok_or_else(|| bad("ack", text, "synced, interval, memory"))
    }
}

/// A setting that does not exist, or a value that it cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No such setting.
    #[error("there is no setting {key}; there are {}", KEYS.join(", "))]
    UnknownKey {
        /// What was given.
        key: String,
    },
    /// Not a value of this setting.
    #[error("{key}={value} is not possible; allowed: {allowed}")]
    BadValue {
        /// The setting.
        key: &'static str,
        /// What was given.
        value: String,
        /// What is possible.
        allowed: &'static str,
    },
}

fn bad(key: &'static str, value: &str, allowed: &'static str) -> ConfigError {
    ConfigError::BadValue {
        key,
        value: value.to_owned(),
        allowed,
    }
}

/// Names of all settings of a topic: Kafka's where Kafka has it.
const KEYS: [&str; 16] = [
    "ack",
    "flush.ms",
    "flush.bytes",
    "segment.bytes",
    "segment.ms",
    "retention.bytes",
    "retention.ms",
    "retention.consumed.by",
    "max.message.bytes",
    "message.timestamp.type",
    "producer.id.expiration.ms",
    "producers.max",
    "producer.window",
    "producer.unknown",
    "sequence.reuse",
    "idempotence",
];

/// The settings of a topic. Fixed when it is created.
///
/// ```
/// use log_engine::{Ack, TopicConfig};
///
/// let mut config = TopicConfig::default().with_ack(Ack::Interval);
/// config.set("flush.ms", "50")?;
/// assert!(config.set("flush.mss", "50").is_err());
/// # Ok::<(), log_engine::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfig {
    ack: Ack,
    flush_ms: u64,
    flush_bytes: u64,
    segment_bytes: u64,
    segment_ms: u64,
    retention_bytes: Option<u64>,
    retention_ms: Option<u64>,
    consumed_by: Vec<String>,
    batch_bytes_max: usize,
    log_append_time: bool,
    producer_expiry_ms: u64,
    producers_max: usize,
    producer_window: u32,
    unknown: UnknownProducerPolicy,
    reuse: SequenceReusePolicy,
    idempotence: bool,
}

impl Default for TopicConfig {
    fn default() -> TopicConfig {
        let partition = PartitionConfig::default();
        TopicConfig {
            ack: Ack::Synced,
            flush_ms: 100,
            flush_bytes: 4 << 20,
            segment_bytes: partition.segment_bytes,
            // A week, as in Kafka.
            segment_ms: 604_800_000,
            // Kafka deletes after a week; that surprises people who embed a log.
            retention_bytes: None,
            retention_ms: None,
            consumed_by: Vec::new(),
            batch_bytes_max: partition.batch_bytes_max,
            log_append_time: partition.log_append_time,
            producer_expiry_ms: partition.producer_expiry_ms,
            producers_max: partition.producers_max,
            producer_window: partition.producers.window,
            unknown: UnknownProducerPolicy::Strict,
            reuse: SequenceReusePolicy::Refuse,
            idempotence: true,
        }
    }
}

impl TopicConfig {
    /// Sets the ack level of the topic's partitions.
    #[must_use]
    pub fn with_ack(mut self, ack: Ack) -> TopicConfig {
        self.ack = ack;
        self
    }

    /// Switches the sequence check off or on. Without it a repeated batch is stored twice; for
    /// measuring what the check costs, and for showing what it is good for.
    #[must_use]
    pub fn with_idempotence(mut self, idempotence: bool) -> TopicConfig {
        self.idempotence = idempotence;
        self
    }

    /// Sets one setting by its name.
    ///
    /// # Errors
    /// [`ConfigError`] naming what is allowed.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        match key {
            "ack" => self.ack = value.parse()?,
            "flush.ms" => self.flush_ms = number("flush.ms", value, 1, 86_400_000)?,
            "flush.bytes" => self.flush_bytes = number("flush.bytes", value, 1, 1 << 40)?,
            "segment.bytes" => {
                let (low, high) = (4_096, SEGMENT_BYTES_LIMIT);
                self.segment_bytes = number("segment.bytes", value, low, high)?;
            }
            "segment.ms" => self.segment_ms = number("segment.ms", value, 1, 1 << 50)?,
            "retention.bytes" => self.retention_bytes = limit("retention.bytes", value)?,
            "retention.ms" => self.retention_ms = limit("retention.ms", value)?,
            "retention.consumed.by" => {
                let allowed = "names of groups (1 to 249 of a-z A-Z 0-9 . _ -) with commas between, or nothing";
                let names = crate::groups::names(value);
                self.consumed_by =
                    names.ok_or_else(|| bad("retention.consumed.by", value, allowed))?;
            }
            "max.message.bytes" => {
                let bytes = number("max.message.bytes", value, 61, 1 << 30)?;
                self.batch_bytes_max = usize::try_from(bytes).unwrap_or(usize::MAX);
            }
            "message.timestamp.type" => {
                self.log_append_time = match value {
                    "CreateTime" => false,
                    "LogAppendTime" => true,
                    _ => {
                        let allowed = "CreateTime, LogAppendTime";
                        return Err(bad("message.timestamp.type", value, allowed));
                    }
                }
            }
            "producer.id.expiration.ms" => {
                let ms = number("producer.id.expiration.ms", value, 1, 1 << 50)?;
                self.producer_expiry_ms = ms;
            }
            "producers.max" => {
                let producers = number("producers.max", value, 16, 10_000_000)?;
                self.producers_max = usize::try_from(producers).unwrap_or(usize::MAX);
            }
            "producer.window" => {
                let window = number("producer.window", value, 5, 65_536)?;
                self.producer_window = u32::try_from(window).unwrap_or(5);
            }
            "producer.unknown" => {
                self.unknown = match value {
                    "strict" => UnknownProducerPolicy::Strict,
                    "kafka" => UnknownProducerPolicy::Kafka,
                    _ => return Err(bad("producer.unknown", value, "strict, kafka")),
                }
            }
            "sequence.reuse" => {
                self.reuse = match value {
                    "refuse" => SequenceReusePolicy::Refuse,
                    "duplicate" => SequenceReusePolicy::Duplicate,
                    _ => return Err(bad("sequence.reuse", value, "refuse, duplicate")),
                }
            }
            "idempotence" => {
                self.idempotence = value
                    .parse()
                    .map_err(|_| bad("idempotence", value, "true, false"))?;
            }
            _ => {
                return Err(ConfigError::UnknownKey {
                    key: key.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// All settings, as [`TopicConfig::set`] takes them.
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        let timestamps = if self.log_append_time {
            "LogAppendTime"
        } else {
            "CreateTime"
        };
        let unknown = match self.unknown {
            UnknownProducerPolicy::Strict => "strict",
            UnknownProducerPolicy::Kafka => "kafka",
        };
        let reuse = match self.reuse {
            SequenceReusePolicy::Refuse => "refuse",
            SequenceReusePolicy::Duplicate => "duplicate",
        };
        let values = [
            self.ack.to_string(),
            self.flush_ms.to_string(),
            self.flush_bytes.to_string(),
            self.segment_bytes.to_string(),
            self.segment_ms.to_string(),
            unlimited(self.retention_bytes),
            unlimited(self.retention_ms),
            self.consumed_by.join(","),
            self.batch_bytes_max.to_string(),
            timestamps.to_owned(),
            self.producer_expiry_ms.to_string(),
            self.producers_max.to_string(),
            self.producer_window.to_string(),
            unknown.to_owned(),
            reuse.to_owned(),
            self.idempotence.to_string(),
        ];
        KEYS.into_iter().zip(values).collect()
    }

    /// The ack level.
    pub fn ack(&self) -> Ack {
        self.ack
    }

    /// Longest time that an append at `interval` stays unsynced, in milliseconds.
    pub fn flush_ms(&self) -> u64 {
        self.flush_ms
    }

    /// Bytes after which a log at `interval` is synced at once.
    pub fn flush_bytes(&self) -> u64 {
        self.flush_bytes
    }

    /// Age at which a segment is closed and another begun, in milliseconds.
    pub fn segment_ms(&self) -> u64 {
        self.segment_ms
    }

    /// Bytes of a partition above which its oldest segments are deleted; `None`: never.
    pub fn retention_bytes(&self) -> Option<u64> {
        self.retention_bytes
    }

    /// Elapsed milliseconds since a segment's last append after which it is deleted; `None`:
    /// never.
    pub fn retention_ms(&self) -> Option<u64> {
        self.retention_ms
    }

    /// The consumer groups after all of which have consumed a record it is deleted; none: records
    /// are not deleted for being consumed.
    pub fn consumed_by(&self) -> &[String] {
        &self.consumed_by
    }

    /// Whether anything is ever deleted by size or age.
    pub(crate) fn limits_retention(&self) -> bool {
        self.retention_bytes.is_some() || self.retention_ms.is_some()
    }

    /// Largest batch, in bytes.
    pub fn batch_bytes_max(&self) -> usize {
        self.batch_bytes_max
    }

    /// Capacity of a segment, in bytes.
    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Elapsed milliseconds since its last append after which a producer is forgotten.
    pub fn producer_expiry_ms(&self) -> u64 {
        self.producer_expiry_ms
    }

    /// Batches of a producer that are recognised when they come again.
    pub fn producer_window(&self) -> u32 {
        self.producer_window
    }

    /// Whether a producer that was forgotten may begin anywhere, so that what it sends again then is
    /// stored twice.
    pub(crate) fn takes_unknown_producers(&self) -> bool {
        self.idempotence && self.unknown == UnknownProducerPolicy::Kafka
    }

    /// Whether the log's own time replaces the producers'.
    pub fn log_append_time(&self) -> bool {
        self.log_append_time
    }

    pub(crate) fn partition(&self) -> PartitionConfig {
        let visibility = if self.ack == Ack::Synced {
            Visibility::Synced
        } else {
            Visibility::Written
        };
        PartitionConfig {
            segment_bytes: self.segment_bytes,
            batch_bytes_max: self.batch_bytes_max,
            log_append_time: self.log_append_time,
            visibility,
            producers: partition_log::ProducerConfig {
                window: self.producer_window,
                unknown: self.unknown,
                reuse: self.reuse,
            },
            idempotence: self.idempotence,
            producer_expiry_ms: self.producer_expiry_ms,
            producers_max: self.producers_max,
        }
    }
}

fn number(key: &'static str, value: &str, low: u64, high: u64) -> Result<u64, ConfigError> {
    match value.parse() {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        _ => Err(bad(key, value, range(key))),
    }
}

// -1 is "no limit", as in Kafka.
fn limit(key: &'static str, value: &str) -> Result<Option<u64>, ConfigError> {
    match value {
        "-1" => Ok(None),
        value => number(key, value, 0, 1 << 50).map(Some),
    }
}

fn unlimited(limit: Option<u64>) -> String {
    limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string())
}

fn range(key: &str) -> &'static str {
    match key {
        "flush.ms" => "1 to 86400000 (milliseconds)",
        "segment.bytes" => "4096 to 2147483648 (bytes)",
        "max.message.bytes" => "61 to 1073741824 (bytes)",
        "retention.bytes" => "-1 (no limit), or 0 to 1125899906842624 (bytes)",
        "retention.ms" => "-1 (no limit), or 0 to 1125899906842624 (milliseconds)",
        "producers.max" => "16 to 10000000 (producers)",
        "producer.window" => "5 to 65536 (batches)",
        "flush.bytes" => "1 to 1099511627776 (bytes)",
        _ => "1 to 1125899906842624 (milliseconds)",
    }
}

// What a first segment reserves must be something that a segment may be.
const _: () = assert!(SEGMENT_BYTES_MIN < SEGMENT_BYTES_LIMIT);

/// Whether `open` may make a new data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Create {
    /// If there is none.
    #[default]
    Missing,
    /// No: it is an error when there is none.
    Never,
    /// It must: it is an error when there is one.
    New,
}

/// What holds for the whole engine.
#[derive(Debug, Clone)]
pub(crate) struct EngineConfig {
    pub(crate) create: Create,
    pub(crate) ack: Ack,
    pub(crate) append_timeout: Duration,
    pub(crate) close_timeout: Duration,
    /// No threads: whoever opened the engine takes its turns.
    pub(crate) is_driven: bool,
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig {
            create: Create::Missing,
            ack: Ack::Synced,
            // Kafka's delivery.timeout.ms.
            append_timeout: Duration::from_secs(120),
            close_timeout: Duration::from_secs(30),
            is_driven: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_comes_back_as_it_was_set() {
        let mut config = TopicConfig::default()
            .with_ack(Ack::Memory)
            .with_idempotence(false);
        for (key, value) in [
            ("flush.ms", "7"),
            ("flush.bytes", "8"),
            ("segment.bytes", "65536"),
            ("segment.ms", "9"),
            ("retention.bytes", "0"),
            ("retention.ms", "11"),
            ("retention.consumed.by", "billing,shipping"),
            ("max.message.bytes", "1000"),
            ("message.timestamp.type", "LogAppendTime"),
            ("producer.id.expiration.ms", "10"),
            ("producers.max", "10000000"),
            ("producer.window", "65536"),
            ("producer.unknown", "kafka"),
            ("sequence.reuse", "duplicate"),
        ] {
            config.set(key, value).unwrap();
            assert!(config.entries().contains(&(key, value.to_owned())), "{key}");
        }
        let mut copy = TopicConfig::default();
        for (key, value) in config.entries() {
            copy.set(key, &value).unwrap();
        }
        assert_eq!(copy, config);
    }

    #[test]
    fn a_wrong_setting_says_what_is_allowed() {
        let mut config = TopicConfig::default();
        let unknown = config.set("retention.mss", "1").unwrap_err().to_string();
        assert!(unknown.contains("retention.mss") && unknown.contains("segment.bytes"));
        for key in KEYS {
            let error = config.set(key, "no such value").unwrap_err().to_string();
            assert!(
                error.contains(key) && error.contains("allowed: "),
                "{error}"
            );
        }
        assert_eq!(config, TopicConfig::default());
        assert!(config.set("producer.window", "4").is_err());
    }
}
