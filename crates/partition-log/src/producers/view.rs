//! What a producer table tells about a producer, and takes back from a snapshot.

/// One producer of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerView {
    /// The id, 0 or higher.
    pub producer_id: i64,
    /// Highest epoch accepted; -1 only where a foreign log or snapshot said so.
    pub epoch: i16,
    /// The batches that are recognised when they come again, oldest first, contiguous in sequence
    /// (I3). Empty when only a marker has set the epoch.
    pub window: Vec<WindowEntry>,
    /// When it last appended: the engine's elapsed time in milliseconds (I31).
    pub last_append_ms: u64,
    /// Epoch of the transaction coordinator which wrote the last marker; -1 before any.
    pub coordinator_epoch: i32,
    /// First offset of the transaction that is open here.
    pub open_transaction_offset: Option<u64>,
}

/// One batch of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowEntry {
    /// Sequence of the first record, 0 to 2^31 - 1.
    pub first_sequence: i32,
    /// Sequence of the last record; below the first where the batch straddles the wrap.
    pub last_sequence: i32,
    /// Offset of the first record.
    pub base_offset: u64,
    /// Records in it, counted by offsets.
    pub count: u32,
    /// The content check value it was appended with.
    pub fingerprint: u32,
}
