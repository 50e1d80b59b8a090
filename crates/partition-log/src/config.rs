//! What can be set per partition, and why the defaults are what they are.

use segment_storage::{LogConfig, Visibility};

use crate::producer::ProducerConfig;

/// How a partition behaves. All partitions of a topic have the same.
#[derive(Debug, Clone)]
pub struct PartitionConfig {
    /// Capacity of the largest segment, in bytes (`segment.bytes`).
    pub segment_bytes: u64,
    /// Largest batch a producer may append, in bytes as it lies on disk (`max.message.bytes`).
    pub batch_bytes_max: usize,
    /// Whether the log replaces the producer's timestamps by its own
    /// (`message.timestamp.type=LogAppendTime`).
    pub log_append_time: bool,
    /// Whether appends are visible, and may be answered, before they are durable.
    pub visibility: Visibility,
    /// Window and policies of the idempotence check.
    pub producers: ProducerConfig,
    /// Whether sequences are checked at all. Without it a repeated batch is stored twice.
    pub idempotence: bool,
    /// Elapsed time after its last append at which a producer is forgotten, in milliseconds
    /// (`producer.id.expiration.ms`). Must exceed the longest time for which a producer retries.
    pub producer_expiry_ms: u64,
    /// Producers kept in memory (`producers.max`), 16 at least. Above it those that appended least
    /// recently move to disk, where they are still known (I17, I18).
    pub producers_max: usize,
}

/// 1 MiB of records and the batch's own header and length: Kafka's default.
pub const BATCH_BYTES_MAX_DEFAULT: usize = (1 << 20) + 12;
/// 64 MiB: reserved space is visible to users of an embedded log; Kafka reserves 1 GiB.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// One day, as in Kafka, against a delivery timeout of two minutes.
pub const PRODUCER_EXPIRY_MS_DEFAULT: u64 = 86_400_000;
/// Less than 200 bytes each: 20 MB for each partition that has so many.
pub const PRODUCERS_MAX_DEFAULT: usize = 100_000;

impl Default for PartitionConfig {
    fn default() -> PartitionConfig {
        PartitionConfig {
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            batch_bytes_max: BATCH_BYTES_MAX_DEFAULT,
            log_append_time: false,
            visibility: Visibility::Synced,
            producers: ProducerConfig::default(),
            idempotence: true,
            producer_expiry_ms: PRODUCER_EXPIRY_MS_DEFAULT,
            producers_max: PRODUCERS_MAX_DEFAULT,
        }
    }
}

impl PartitionConfig {
    pub(crate) fn log(&self) -> LogConfig {
        LogConfig {
            segment_bytes: self.segment_bytes,
            visibility: self.visibility,
        }
    }
}

/// The time, as the engine passes it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds that the log has existed, downtime included; never goes back (R24).
    pub elapsed_ms: u64,
    /// Wall clock, milliseconds since 1970: goes into records as data, decides nothing (I31).
    pub wall_ms: i64,
}
