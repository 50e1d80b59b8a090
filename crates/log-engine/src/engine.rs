//! [`Engine`]: one data directory, opened.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pid_allocator::PidAllocator;

use crate::config::{Ack, Create, EngineConfig, TopicConfig};
use crate::core::Core;
use crate::directory::{self, Directory};
use crate::env::{Env, Time};
use crate::error::{CloseError, OpenError, SessionError, TopicError};
use crate::groups;
use crate::lineage::Random;
use crate::names::Names;
use crate::open_report::OpenReport;
use crate::partition::Source;
use crate::producer::ProducerBuilder;
use crate::reader::ReaderBuilder;
use crate::session::ProducerSession;
use crate::topic::Topic;
use crate::topics::TopicState;
use crate::transport::Transport;
use crate::wording;

/// An open data directory. Cheap to clone, and shared by threads; it is closed cleanly when the
/// last clone and the last handle made from it are dropped, or by [`Engine::close`].
///
/// ```
/// use log_engine::{Engine, Record};
///
/// let engine = Engine::in_memory();
/// engine.create_topic("orders", 3, Default::default())?;
/// let session = engine.session()?;
/// let mut appender = session.appender("orders", 0)?;
/// let at = appender.blocking_append(&[Record::new().key("A-1").value("two shirts")])?;
/// assert_eq!((at.offset, at.duplicate), (0, false));
///
/// let mut reader = engine.reader("orders").partition(0).open()?;
/// let values: Vec<_> = reader.blocking_iter().map(|r| r.unwrap().value().unwrap().to_vec()).collect();
/// assert_eq!(values, [b"two shirts"]);
/// # Ok::<(), log_engine::Error>(())
/// ```
#[derive(Clone)]
pub struct Engine {
    handle: Arc<Handle>,
}

/// What keeps an engine open.
pub(crate) struct Handle {
    pub(crate) core: Arc<Core>,
    opened: OpenReport,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Nobody is left to tell; `Engine::close` returns what may go wrong.
        let _ = self.core.close();
    }
}

/// Opens an engine with other than the default settings.
#[derive(Clone)]
pub struct Builder {
    place: Place,
    pub(crate) config: EngineConfig,
    transport: Option<Arc<dyn Transport>>,
}

#[derive(Clone)]
enum Place {
    Path(PathBuf),
    Env(Env),
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.place {
            Place::Path(path) => path.display().to_string(),
            Place::Env(env) => env.disk.display(""),
        };
        f.debug_struct("Builder")
            .field("place", &place)
            .field("config", &self.config)
            .finish()
    }
}

impl Builder {
    /// Whether a new data directory may be made.
    #[must_use]
    pub fn create(mut self, create: Create) -> Builder {
        self.config.create = create;
        self
    }

    /// The level of topics that [`Engine::ensure_topic`] creates.
    #[must_use]
    pub fn ack(mut self, ack: Ack) -> Builder {
        self.config.ack = ack;
        self
    }

    /// How long an append waits for its answer, or for room, before it is told that the outcome
    /// is not known. 120 s unless set, Kafka's `delivery.timeout.ms`.
    #[must_use]
    pub fn append_timeout(mut self, timeout: Duration) -> Builder {
        self.config.append_timeout = timeout;
        self
    }

    /// How long a close waits for the disk. 30 s unless set.
    #[must_use]
    pub fn close_timeout(mut self, timeout: Duration) -> Builder {
        self.config.close_timeout = timeout;
        self
    }

    /// How this engine's producers reach the logs: over one that loses answers, for tests.
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> Builder {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// Opens, recovering what has to be recovered. It reads the disk: milliseconds after a clean
    /// close; after a crash call it where waiting is allowed (`spawn_blocking`).
    ///
    /// # Errors
    /// [`OpenError`]. A damaged log is none: the others are served, and it says so itself.
    pub fn open(self) -> Result<Engine, OpenError> {
        let env = match self.place {
            Place::Env(env) => env,
            Place::Path(path) if self.config.create == Create::Never && !path.is_dir() => {
                return Err(OpenError::Missing {
                    directory: path.display().to_string(),
                });
            }
            Place::Path(path) => Env::os(&path).map_err(|source| OpenError::Io {
                file: path.display().to_string(),
                source,
            })?,
        };
        Engine::open_writer(env, self.config, self.transport)
    }
}

// Topics of the engine itself are its own to make and remove.
fn check_not_internal(name: &str) -> Result<(), TopicError> {
    if groups::is_internal(name) {
        let name = name.to_owned();
        return Err(TopicError::Internal { name });
    }
    Ok(())
}

impl Engine {
    /// Opens the data directory at `path`, and makes it if it is missing.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Engine, OpenError> {
        Engine::builder(path).open()
    }

    /// Opens the data directory at `path` with other than the default settings.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        let place = Place::Path(path.as_ref().to_owned());
        Builder {
            place,
            config: EngineConfig::default(),
            transport: None,
        }
    }

    /// Opens a data directory on any disk, with any clock: for tests and simulations.
    pub fn with_env(env: Env) -> Builder {
        Builder {
            place: Place::Env(env),
            config: EngineConfig::default(),
            transport: None,
        }
    }

    /// An engine without files, for tests: the same code on a disk in memory.
    ///
    /// # Panics
    /// When threads cannot be started.
    #[expect(
        clippy::expect_used,
        reason = "a disk in memory has nothing to refuse an open with"
    )]
    pub fn in_memory() -> Engine {
        Engine::with_env(Env::memory())
            .open()
            .expect("a disk in memory opens")
    }

    /// Opens for reading only, also while another process writes: takes no lock, writes nothing,
    /// and shows what is durable, at most a second late. Readers that follow see what is appended.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Engine, OpenError> {
        let path = path.as_ref();
        let missing = || OpenError::Missing {
            directory: path.display().to_string(),
        };
        let env = Env::os_read_only(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => missing(),
            _ => OpenError::Io {
                file: path.display().to_string(),
                source,
            },
        })?;
        Engine::open_reader(env)
    }

    /// As [`Engine::open_read_only`], on any disk.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_reader(env: Env) -> Result<Engine, OpenError> {
        directory::read_format(&env.disk)?;
        let entries = directory::read_topics(&env.disk)?;
        let writer = env
            .disk
            .lock_holder(directory::LOCK)
            .map_err(|source| OpenError::Io {
                file: env.disk.display(directory::LOCK),
                source,
            })?
            .map(|text| wording::holder_now(&text, &*env.clock));
        let mut report = OpenReport {
            writer,
            ..OpenReport::default()
        };
        let time = Time::from(env.clock, 0);
        let mut core = Core::new(env.disk, time, EngineConfig::default(), None, None);
        core.random = Random::new(env.seed).into();
        core.names = Some(Names::open(core.disk.clone())?);
        for entry in entries
            .into_iter()
            .filter(|e| e.stage == directory::Stage::Ready)
        {
            let topic = TopicState::open(&core, entry, None, |_, _| {})?;
            for partition in &topic.partitions {
                if let (Source::Follower(follower), None) = (&partition.source, &report.writer) {
                    let log = partition.name();
                    let above = follower.bytes_above_mark().map_err(|e| OpenError::Log {
                        log,
                        source: e.into(),
                    })?;
                    report.bytes_above_mark += above;
                }
            }
            core.topics
                .write()
                .insert(topic.name.clone(), Arc::new(topic));
        }
        Engine::start(core, report)
    }

    fn open_writer(
        env: Env,
        config: EngineConfig,
        transport: Option<Arc<dyn Transport>>,
    ) -> Result<Engine, OpenError> {
        let (directory, now, _) = Directory::open(&env, config.create)?;
        let producer_ids = PidAllocator::open(env.disk.clone())?;
        let entries = directory::read_topics(&env.disk)?;
        let time = Time::from(env.clock, now.elapsed_ms);
        // Other numbers in each generation, also where all have the same seed.
        let generation = u64::from(directory.generation().unsigned_abs());
        let random = Random::new(env.seed ^ generation.rotate_left(32));
        let mut core = Core::new(env.disk, time, config, Some(directory), Some(producer_ids));
        core.transport = transport;
        core.random = random.into();
        core.names = Some(Names::open(core.disk.clone())?);
        let settled = core.settle_topics(entries).map_err(|error| match error {
            TopicError::Io { file, source } => OpenError::Io { file, source },
            other => OpenError::Io {
                file: core.disk.display(directory::TOPICS),
                source: std::io::Error::other(other),
            },
        })?;
        let mut report = OpenReport::default();
        let context = core
            .directory
            .as_ref()
            .map(|directory| core.open_context(directory));
        for entry in settled {
            let topic = TopicState::open(&core, entry, context, |log, opened| {
                report.logs.push((log, opened));
            })?;
            core.topics
                .write()
                .insert(topic.name.clone(), Arc::new(topic));
        }
        core.keep_names().map_err(|source| OpenError::Io {
            file: core.disk.display(crate::names::FILE),
            source,
        })?;
        Engine::start(core, report)
    }

    fn start(core: Core, opened: OpenReport) -> Result<Engine, OpenError> {
        let core = Arc::new(core);
        let handle = Arc::new(Handle {
            core: core.clone(),
            opened,
        });
        core.open_groups();
        // A failure drops the handle, which closes what was opened.
        core.start()
            .map_err(|source| OpenError::Thread { source })?;
        Ok(Engine { handle })
    }

    /// What the open found and did.
    pub fn opened(&self) -> &OpenReport {
        &self.handle.opened
    }

    /// Whether it was opened for reading only.
    pub fn is_read_only(&self) -> bool {
        self.handle.core.directory.is_none()
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// [`TopicError`]; nothing was created.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        config: TopicConfig,
    ) -> Result<Topic, TopicError> {
        check_not_internal(name)?;
        let state = self.handle.core.create_topic(name, partitions, &config)?;
        Ok(Topic {
            engine: self.handle.clone(),
            state,
        })
    }

    /// The topic of that name, created if it is missing, at the engine's ack level.
    ///
    /// # Errors
    /// [`TopicError::Exists`] when it has another number of partitions.
    pub fn ensure_topic(&self, name: &str, partitions: u32) -> Result<Topic, TopicError> {
        let config = TopicConfig::default().with_ack(self.handle.core.config.ack);
        let found = match self.topic(name) {
            Err(TopicError::UnknownTopic { .. }) => {
                match self.create_topic(name, partitions, config) {
                    // Somebody else was faster.
                    Err(TopicError::Exists { .. }) => self.topic(name)?,
                    created => return created,
                }
            }
            found => found?,
        };
        if found.partitions() == partitions {
            Ok(found)
        } else {
            let (name, partitions) = (name.to_owned(), found.partitions());
            Err(TopicError::Exists { name, partitions })
        }
    }

    /// The topic of that name.
    ///
    /// # Errors
    /// [`TopicError::UnknownTopic`], [`TopicError::Closed`].
    pub fn topic(&self, name: &str) -> Result<Topic, TopicError> {
        if self.handle.core.is_closed() {
            return Err(TopicError::Closed);
        }
        match self.handle.core.topics.read().get(name) {
            Some(state) => Ok(Topic {
                engine: self.handle.clone(),
                state: state.clone(),
            }),
            None => Err(TopicError::UnknownTopic {
                name: name.to_owned(),
            }),
        }
    }

    /// All topics, by name, but those of the engine itself.
    pub fn topics(&self) -> Vec<Topic> {
        let mut topics = self.all_topics();
        topics.retain(|topic| !groups::is_internal(topic.name()));
        topics
    }

    /// All topics, by name, with those of the engine itself: `__groups`, in which what consumer
    /// groups do is written. It can be read and described as any topic; only groups write it.
    pub fn all_topics(&self) -> Vec<Topic> {
        let topics = self.handle.core.topics.read();
        let topic = |state: &Arc<TopicState>| Topic {
            engine: self.handle.clone(),
            state: state.clone(),
        };
        topics.values().map(topic).collect()
    }

    /// Raises a topic's number of partitions. What is in the others stays there, so a key's later
    /// records may go to another partition than its earlier ones; named producers that wrote to
    /// the topic refuse that until they are opened with
    /// [`ProducerBuilder::repartition`](crate::ProducerBuilder::repartition). Handles that were
    /// there before see the old number.
    ///
    /// # Errors
    /// [`TopicError`]; the number can only rise.
    pub fn add_partitions(&self, name: &str, partitions: u32) -> Result<Topic, TopicError> {
        check_not_internal(name)?;
        let state = self.handle.core.add_partitions(name, partitions)?;
        Ok(Topic {
            engine: self.handle.clone(),
            state,
        })
    }

    /// All named producers that were ever opened here, with their producer ids.
    pub fn named_producers(&self) -> Vec<(String, i64)> {
        self.handle
            .core
            .names
            .as_ref()
            .map_or_else(Vec::new, Names::all)
    }

    /// Deletes a topic with all that it holds.
    ///
    /// # Errors
    /// [`TopicError`].
    pub fn delete_topic(&self, name: &str) -> Result<(), TopicError> {
        check_not_internal(name)?;
        self.handle.core.delete_topic(name)
    }

    /// A new producer session, with a producer id that was never handed out before. Waits for the
    /// disk only when ids are taken faster than it can reserve them, 1,000 at a time.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn session(&self) -> Result<ProducerSession, SessionError> {
        ProducerSession::begin(self)
    }

    /// A producer: batches, sends again what was not answered, and stores each record once.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(self)
    }

    /// A reader of a topic.
    pub fn reader(&self, topic: &str) -> ReaderBuilder {
        ReaderBuilder::new(self, topic)
    }

    /// Closes cleanly, whatever handles are left: they get `Closed` from then on. Everything that
    /// was appended is durable when it returns.
    ///
    /// # Errors
    /// [`CloseError`]: what was answered is safe, and the next open recovers.
    pub fn close(&self) -> Result<(), CloseError> {
        self.handle.core.close()
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    pub(crate) fn from_handle(handle: Arc<Handle>) -> Engine {
        Engine { handle }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.handle.core
    }
}
