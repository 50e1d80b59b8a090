//! How a producer is opened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use record_batch::Compression;

use super::shared::ProducerCore;
use super::{Producer, named};
use crate::config::Ack;
use crate::core::Core;
use crate::engine::Engine;
use crate::error::{SendError, SessionError};
use crate::transport::{Direct, Transport};

/// Opens a producer.
#[derive(Clone)]
pub struct ProducerBuilder {
    engine: Engine,
    settings: Settings,
    transport: Arc<dyn Transport>,
    name: Option<String>,
    take_over: bool,
    repartition: bool,
}

/// How a producer behaves.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) compression: Compression,
    pub(super) linger: Duration,
    pub(super) batch_bytes: usize,
    pub(super) batch_records: usize,
    pub(super) buffer_bytes: usize,
    pub(super) max_record_bytes: usize,
    pub(super) max_in_flight: usize,
    pub(super) delivery_timeout: Duration,
    pub(super) retry_backoff_max: Duration,
    pub(super) max_block: Duration,
    pub(super) ack: Option<Ack>,
    pub(super) create_partitions: Option<u32>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            compression: Compression::None,
            linger: Duration::ZERO,
            batch_bytes: 64 << 10,
            batch_records: usize::MAX,
            buffer_bytes: 32 << 20,
            max_record_bytes: 1 << 20,
            max_in_flight: 5,
            delivery_timeout: Duration::from_secs(120),
            retry_backoff_max: Duration::from_secs(1),
            max_block: Duration::from_secs(60),
            ack: None,
            create_partitions: None,
        }
    }
}

impl fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerBuilder")
            .field("name", &self.name)
            .field("take_over", &self.take_over)
            .field("repartition", &self.repartition)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl ProducerBuilder {
    pub(crate) fn new(engine: &Engine) -> ProducerBuilder {
        let transport = engine
            .core()
            .transport
            .clone()
            .unwrap_or_else(|| Arc::new(Direct));
        ProducerBuilder {
            engine: engine.clone(),
            settings: Settings::default(),
            transport,
            name: None,
            take_over: false,
            repartition: false,
        }
    }

    /// Gives the producer a name that survives restarts. One handle has it at a time; after a
    /// crash it is free at once. Every record needs a [position](crate::Record::position); what an earlier run
    /// stored is not stored again, and [`Producer::resume_from`] says where to go on.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> ProducerBuilder {
        self.name = Some(name.into());
        self
    }

    /// Takes the name from a handle that has it: that one is fenced, everywhere, before this one
    /// reads where to go on.
    #[must_use]
    pub fn take_over(mut self) -> ProducerBuilder {
        self.take_over = true;
        self
    }

    /// Accepts topics that have another number of partitions than when the name first wrote there.
    /// Keys then go to other partitions than before, so the order of what is sent from now on
    /// against what is stored is given up; what is stored is still recognised, and skipped.
    #[must_use]
    pub fn repartition(mut self) -> ProducerBuilder {
        self.repartition = true;
        self
    }

    /// Compresses batches. Default: not.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> ProducerBuilder {
        self.settings.compression = compression;
        self
    }

    /// How long a batch waits for more records although it could leave. Default 0: batches form
    /// while others are in flight.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> ProducerBuilder {
        self.settings.linger = linger;
        self
    }

    /// Bytes at which a batch is full, before compression. Default 64 KiB. A record that is larger
    /// gets a batch of its own.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> ProducerBuilder {
        self.settings.batch_bytes = bytes;
        self
    }

    /// Records at which a batch is full, at least 1. Default: only its bytes count.
    #[must_use]
    pub fn batch_records(mut self, records: usize) -> ProducerBuilder {
        self.settings.batch_records = records.max(1);
        self
    }

    /// Bytes of records without an answer at which sending waits for room. Default 32 MiB.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> ProducerBuilder {
        self.settings.buffer_bytes = bytes;
        self
    }

    /// Largest record, as an encoded batch of one. Default 1 MiB.
    #[must_use]
    pub fn max_record_bytes(mut self, bytes: usize) -> ProducerBuilder {
        self.settings.max_record_bytes = bytes;
        self
    }

    /// Batches of a partition that may be unanswered at a time, 1 up to the topic's
    /// `producer.window`, which bounds it. Default 5.
    #[must_use]
    pub fn max_in_flight(mut self, batches: usize) -> ProducerBuilder {
        self.settings.max_in_flight = batches;
        self
    }

    /// How long a record is tried before its ticket says that it failed, or that its outcome is
    /// not known. Default 120 s. A topic with `producer.unknown=kafka` is refused when this is more
    /// than half of its `producer.id.expiration.ms`: [`SendError::Expiry`]. A name is never forgotten,
    /// and has no such limit.
    #[must_use]
    pub fn delivery_timeout(mut self, timeout: Duration) -> ProducerBuilder {
        self.settings.delivery_timeout = timeout;
        self
    }

    /// Longest pause before a batch is sent again; pauses begin at 2 ms and double. Default 1 s.
    #[must_use]
    pub fn retry_backoff_max(mut self, pause: Duration) -> ProducerBuilder {
        self.settings.retry_backoff_max = pause;
        self
    }

    /// How long `send` and `blocking_send` wait for room. Default 60 s.
    #[must_use]
    pub fn max_block(mut self, wait: Duration) -> ProducerBuilder {
        self.settings.max_block = wait;
        self
    }

    /// Answers at a higher level than topics ask for. A lower one is refused when sending.
    #[must_use]
    pub fn ack(mut self, ack: Ack) -> ProducerBuilder {
        self.settings.ack = Some(ack);
        self
    }

    /// Creates topics that are missing, with that many partitions, instead of refusing the record.
    #[must_use]
    pub fn create_topics(mut self, partitions: u32) -> ProducerBuilder {
        self.settings.create_partitions = Some(partitions);
        self
    }

    /// Carries batches over another way than a call: one that loses answers, for tests.
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> ProducerBuilder {
        self.transport = Arc::new(transport);
        self
    }

    /// Opens the producer: a new session, with a producer id that was never used, or the name's own id
    /// in its next epoch.
    ///
    /// # Errors
    /// [`SendError`]: settings that cannot be, no thread, or no producer id.
    pub fn open(self) -> Result<Producer, SendError> {
        let settings = self.settings;
        if settings.max_in_flight == 0 {
            return Err(SendError::Setting {
                setting: "max_in_flight",
                allowed: "at least 1",
            });
        }
        if settings.batch_bytes == 0 {
            return Err(SendError::Setting {
                setting: "batch_bytes",
                allowed: "at least 1",
            });
        }
        if settings.buffer_bytes < settings.max_record_bytes {
            return Err(SendError::Setting {
                setting: "buffer_bytes",
                allowed: "at least max_record_bytes",
            });
        }
        let engine_core = self.engine.core();
        if engine_core.is_closed() {
            return Err(SendError::Closed);
        }
        if self.engine.is_read_only() {
            return Err(SendError::Session(SessionError::ReadOnly));
        }
        engine_core
            .start_sender()
            .map_err(|source| SendError::Thread { source })?;
        let _one_at_a_time = self.name.is_some().then(|| engine_core.name_changes.lock());
        // It may have been closed while another name was opened.
        if engine_core.is_closed() {
            return Err(SendError::Closed);
        }
        let source = match &self.name {
            Some(name) => {
                free_name(engine_core, name, self.take_over)?;
                Some(named::take(engine_core, name, self.repartition)?)
            }
            None => None,
        };
        let identity = match &source {
            Some(source) => (source.identity.producer_id, source.identity.producer_epoch),
            None => (engine_core.allocate_producer_id()?, 0),
        };
        let engine = self.engine.handle().clone();
        let way = (self.transport, settings);
        let core = Arc::new(ProducerCore::new(engine, way, self.name, source, identity));
        core.register();
        Ok(Producer::new(core))
    }
}

// A name that another handle has is refused, or taken from it.
fn free_name(core: &Core, name: &str, take_over: bool) -> Result<(), SendError> {
    let Some(names) = &core.names else {
        return Err(SendError::Closed);
    };
    let Some(holder) = names.holder(name) else {
        return Ok(());
    };
    if !take_over {
        let holder = format!("a handle of process {}", std::process::id());
        return Err(SendError::NameInUse {
            name: name.into(),
            holder: holder.into(),
        });
    }
    holder.fence();
    names.release(name, &holder);
    Ok(())
}
