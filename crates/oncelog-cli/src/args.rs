//! What can be typed: commands, options, and the values that they allow.

mod groups;
mod stores;
mod values;

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use oncelog::{Ack, Compression};

pub(crate) use self::groups::{DeadLetters, DeadLettersCommand, Groups};
use self::stores::store;
pub(crate) use self::stores::{Store, StoreAt};
use self::values::{delimiter, number, offset, partitions, seed, share};

/// An event log that stores every record once, however often it is sent.
#[derive(Debug, Parser)]
#[command(name = "oncelog", version, max_term_width = 100)]
#[command(after_help = "Example:\n  oncelog demo --records 100000")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where they stand in the help: behind what the command itself has.
const COMMON: &str = "Common options";

/// The options that every command has.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The data directory; ./oncelog-data unless given
    #[arg(long, global = true, value_name = "DIR", help_heading = COMMON)]
    pub(crate) data: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long, global = true, help_heading = COMMON)]
    pub(crate) json: bool,
    /// Show no progress
    #[arg(long, global = true, help_heading = COMMON)]
    pub(crate) quiet: bool,
}

impl Common {
    pub(crate) fn data(&self) -> &Path {
        self.data.as_deref().unwrap_or(Path::new("./oncelog-data"))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(Demo),
    Topic(Topic),
    Produce(Produce),
    Consume(Consume),
    Groups(Groups),
    DeadLetters(DeadLetters),
    Producers(Producers),
    Why(Why),
    Dump(Dump),
    Verify(Verify),
    Repair(Repair),
    Backup(Backup),
    Sim(Sim),
}

/// Send over a link that loses acknowledgements, restart, read all back, and judge
///
/// Runs on a fresh temporary directory, which is removed, unless --data names one. Each lost
/// acknowledgement makes its producer send the batch again. A producer that restarts is taken over
/// by a new one of its name, while batches have no answer yet or are still filling, and that one
/// goes on where the log says. Beside it, on the same seed, the naive run: without idempotence and
/// without names, where a producer that restarts sends again what it knows no answer of. Every
/// count is of records, but that of restarts; the same seed gives the same counts.
///
/// With --consumer the second half: orders are published, some again by other producers, and a
/// consumer whose acknowledgements get lost, and which dies between any two steps, works on them with
/// an inbox. Its effects are read back and counted. Beside it, on the same seed, one that does not ask
/// whether it did something before.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  oncelog demo --records 100000 --seed 42")]
pub(crate) struct Demo {
    /// Records to send: 1000000 unless given, 100000 with --consumer
    #[arg(long, value_name = "N")]
    #[arg(value_parser = number::<u64>(1..=1_000_000_000))]
    pub(crate) records: Option<u64>,
    /// Decides which acknowledgements are lost and who restarts when, decimal or 0x…; random
    /// unless given
    #[arg(long, value_name = "S", value_parser = seed)]
    pub(crate) seed: Option<u64>,
    /// Producers, each with a name of its own
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = number::<u32>(1..=10_000))]
    pub(crate) producers: u32,
    /// Share of the acknowledgements that get lost, 0 to 0.9
    #[arg(long, value_name = "P", default_value_t = 0.05, value_parser = share)]
    pub(crate) lost_ack: f64,
    /// Chance of a restart, per record, 0 to 0.9
    #[arg(long, value_name = "P", default_value_t = 0.0005, value_parser = share)]
    pub(crate) restart: f64,
    /// Only the naive run, to see what the check for duplicates and the names are good for
    #[arg(long)]
    pub(crate) no_idempotence: bool,
    /// What consumers do, instead of producers
    #[arg(long, conflicts_with_all = ["producers", "restart", "no_idempotence"])]
    pub(crate) consumer: bool,
    /// Where the consumer keeps what it did: embedded (in the log itself), memory, sqlite (a file beside
    /// the log), postgres or redis with --url; or the URL itself
    #[arg(
        long,
        value_name = "STORE",
        default_value = "embedded",
        requires = "consumer"
    )]
    #[arg(value_parser = store)]
    pub(crate) store: StoreAt,
    /// The server of the store: postgres://… or redis://…
    #[arg(long, value_name = "URL", requires = "consumer")]
    pub(crate) url: Option<String>,
}

/// Create, list, describe and delete topics
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  oncelog topic create payments --partitions 3")]
pub(crate) struct Topic {
    #[command(subcommand)]
    pub(crate) command: TopicCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create a topic
    #[command(
        after_help = "Example:\n  oncelog topic create orders --partitions 3 --config ack=interval"
    )]
    Create {
        /// Letters, digits, '.', '_' and '-', at most 249
        name: String,
        /// How many partitions, 1 to 10000
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = partitions)]
        partitions: u32,
        /// A setting, such as ack=interval or segment.bytes=1048576; may be repeated
        #[arg(long, value_name = "K=V")]
        config: Vec<String>,
    },
    /// List all topics
    #[command(after_help = "Example:\n  echo hello | oncelog produce words && oncelog topic list")]
    List,
    /// Show the partitions and settings of a topic
    #[command(after_help = "Example:\n  echo hello | oncelog produce words \
                      && oncelog topic describe words")]
    Describe {
        /// The topic
        name: String,
    },
    /// Delete a topic and all of its records
    #[command(after_help = "Example:\n  echo hello | oncelog produce scratch \
                      && oncelog topic delete scratch")]
    Delete {
        /// The topic
        name: String,
    },
}

/// Append a record for each line of a file or of standard input
///
/// A record's value is the line without its line feed; all other bytes are kept, a carriage return
/// too, so that `consume` prints what went in. The topic is created if it is missing. Records with
/// a key go to the partition that Kafka's default partitioner chooses, others to the partitions in
/// turn, a batch each.
///
/// With --name, running the same command on the same input again, after any crash, sends only what
/// is missing: each line's number is stored with it. Records without a key then go to the partition
/// that their line number gives.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  printf 'a,1\\nb,2\\n' | oncelog produce letters --key-column 1"
)]
pub(crate) struct Produce {
    /// The topic
    pub(crate) topic: String,
    /// The file to read; - is standard input
    #[arg(long, value_name = "F", default_value = "-")]
    pub(crate) file: PathBuf,
    /// Partitions of the topic, 1 to 10000; 1 unless given or the topic is there
    #[arg(long, value_name = "N", value_parser = partitions)]
    pub(crate) partitions: Option<u32>,
    /// Column that holds the key: its name with --header-line, else its number from 1
    #[arg(long, value_name = "C")]
    pub(crate) key_column: Option<String>,
    /// Columns, separated by commas, that go into the record's header biz-id, joined by -: names
    /// or numbers, as for --key-column
    #[arg(long, value_name = "C[,C...]")]
    pub(crate) biz_id_column: Option<String>,
    /// What stands between columns; \t is a tab
    #[arg(long, value_name = "D", default_value = ",", value_parser = delimiter)]
    pub(crate) delimiter: String,
    /// The first line is no record but names the columns
    #[arg(long)]
    pub(crate) header_line: bool,
    /// A name for the producer that survives restarts, 1 to 255 bytes: one for each input
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// When an append is acknowledged: level of a new topic (synced unless given); of one that
    /// exists it can be raised, not lowered
    #[arg(long, value_name = "LEVEL")]
    pub(crate) ack: Option<AckLevel>,
    /// Most records in a batch, 1 to 100000
    #[arg(long, value_name = "N", default_value_t = 500)]
    #[arg(value_parser = number::<u32>(1..=100_000))]
    pub(crate) batch_records: u32,
    /// Send a batch that is not full after so long, in milliseconds; 1000 for standard input and
    /// 10000 for a file unless given
    #[arg(long, value_name = "N")]
    #[arg(value_parser = number::<u64>(0..=86_400_000))]
    pub(crate) linger_ms: Option<u64>,
    /// Codec of the batches
    #[arg(long, value_name = "CODEC", default_value = "none")]
    pub(crate) compression: Codec,
    /// Batches of a partition on their way at the same time; at most the topic's producer.window
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = number::<u32>(1..=65_536))]
    pub(crate) max_in_flight: u32,
    /// Share of the acknowledgements to lose on purpose, 0 to 0.9; each makes its batch be sent
    /// again
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = share)]
    pub(crate) lost_ack: f64,
    /// Decides which acknowledgements are lost, decimal or 0x…; random unless given
    #[arg(long, value_name = "S", value_parser = seed)]
    pub(crate) seed: Option<u64>,
}

/// Print the records of a topic, in offset order per partition
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  echo hello | oncelog produce words && oncelog consume words")]
pub(crate) struct Consume {
    /// The topic
    pub(crate) topic: String,
    /// Only this partition
    #[arg(long, value_name = "P", value_parser = number::<u32>(0..=9_999))]
    pub(crate) partition: Option<u32>,
    /// Where to begin: earliest, latest, or an offset (of one partition)
    #[arg(long, value_name = "OFFSET", default_value = "earliest", value_parser = offset)]
    pub(crate) offset: Offset,
    /// Stop after so many records
    #[arg(long, value_name = "N", value_parser = number::<u64>(0..=u64::MAX))]
    pub(crate) max: Option<u64>,
    /// Wait for more at the end
    #[arg(long)]
    pub(crate) follow: bool,
    /// Which records of transactions to print
    #[arg(long, value_name = "LEVEL", default_value = "read_uncommitted")]
    pub(crate) isolation: Isolation,
    /// How to print a record; value unless given, json with --json
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
}

/// Show what each partition knows of each producer
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  echo hello | oncelog produce words && oncelog producers words")]
pub(crate) struct Producers {
    /// Only this topic
    pub(crate) topic: Option<String>,
}

/// Say what an append would be answered, and by which rule, without appending
///
/// A batch that the window holds with the same first sequence and number of records is taken to be
/// that one again.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  echo hello | oncelog produce w \
                      && oncelog why w 0 --producer-id 1000 --epoch 0 --sequence 0")]
#[command(allow_negative_numbers = true)]
pub(crate) struct Why {
    /// The topic
    pub(crate) topic: String,
    /// The partition
    #[arg(value_parser = number::<u32>(0..=9_999))]
    pub(crate) partition: u32,
    /// Id of the producer, as `oncelog producers` shows it
    #[arg(long, value_name = "P", value_parser = number(i64::MIN..=i64::MAX))]
    pub(crate) producer_id: i64,
    /// Epoch of the producer
    #[arg(long, value_name = "E", value_parser = number(i16::MIN..=i16::MAX))]
    pub(crate) epoch: i16,
    /// Sequence of the batch's first record
    #[arg(long, value_name = "S", value_parser = number(i32::MIN..=i32::MAX))]
    pub(crate) sequence: i32,
    /// Records in the batch; those of the batch in the window that begins there, else 1, unless
    /// given
    #[arg(long, value_name = "N")]
    #[arg(value_parser = number::<u32>(1..=2_147_483_647))]
    pub(crate) count: Option<u32>,
}

/// Print every batch of a segment or partition folder
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  echo hello | oncelog produce words \
                  && oncelog dump oncelog-data/words-0")]
pub(crate) struct Dump {
    /// A .log file, or the folder of a partition
    pub(crate) path: PathBuf,
    /// Print the records too
    #[arg(long)]
    pub(crate) records: bool,
}

/// Check every file and invariant of a data directory, writing nothing
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  echo hello | oncelog produce words && oncelog verify")]
pub(crate) struct Verify {
    /// Also decompress and check every record in every batch
    #[arg(long)]
    pub(crate) deep: bool,
}

/// Say what a repair of a data directory would give up; with --apply, do it
///
/// Byte by byte. Everything that is whole is kept, also behind damage. What is replaced is kept
/// aside, under names with .damaged. in them. Without --apply nothing is written, and damage ends
/// with code 4.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  echo hello | oncelog produce words && oncelog repair")]
pub(crate) struct Repair {
    /// Do it. Nobody else may have the directory open
    #[arg(long)]
    pub(crate) apply: bool,
    /// Begin a new lineage: needed after files of an older time were put back, so that no producer
    /// id is handed out twice
    #[arg(long, requires = "apply")]
    pub(crate) new_lineage: bool,
    /// The next producer id, where both slots of the allocator's file are lost: above every id that
    /// was ever handed out
    #[arg(long, value_name = "N", requires = "apply")]
    #[arg(value_parser = number::<i64>(1..=i64::MAX - 1000))]
    pub(crate) producer_id_floor: Option<i64>,
}

/// Copy the data directory, also while a writer runs
///
/// Sealed segments are hard links where that is possible, the rest is copied. The copy is whole or
/// not there. It is another lineage, which hands out other producer ids than the original: open it,
/// and it is restored. Beside a running writer it holds what is durable by the stable marks.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  echo hello | oncelog produce words && oncelog backup copy")]
pub(crate) struct Backup {
    /// A directory that is missing or empty
    pub(crate) to: PathBuf,
}

/// Simulate worlds full of faults, each from a seed
///
/// Every answer is judged by a model. A world is the engine on a simulated disk, producers that
/// retry, restart and are replaced, readers, a network that loses and repeats, crashes, power cuts,
/// failed syncs, a full disk. The same seed does the same, byte for byte; --seed alone runs that one
/// and prints what happened. A run that breaks a promise is made smaller and saved.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  oncelog sim --seeds 500 --seed 1 --plan power=1000,fail_sync=0,fail_names=0"
)]
pub(crate) struct Sim {
    /// Run so many seeds, from --seed on [default: 1000, or 1 with --seed alone]
    #[arg(long, value_name = "N", value_parser = number::<u64>(1..=u64::MAX))]
    pub(crate) seeds: Option<u64>,
    /// The first seed, decimal or 0x… [default: a random one, which is printed]
    #[arg(long, value_name = "S", value_parser = seed)]
    pub(crate) seed: Option<u64>,
    /// Do only the first operations of each run
    #[arg(long, value_name = "N", value_parser = number::<u64>(0..=u64::MAX))]
    pub(crate) steps: Option<u64>,
    /// Set options of each run's plan, as in crash=0,power=1000
    #[arg(
        long,
        value_name = "LIST",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) plan: String,
}

/// Ack levels, as people type them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AckLevel {
    /// On the disk: survives a power cut
    Synced,
    /// In memory, synced soon after
    Interval,
    /// In memory that the system writes back: survives the process
    Memory,
}

impl From<AckLevel> for Ack {
    fn from(level: AckLevel) -> Ack {
        match level {
            AckLevel::Synced => Ack::Synced,
            AckLevel::Interval => Ack::Interval,
            AckLevel::Memory => Ack::Memory,
        }
    }
}

/// Codecs, as people type them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Compression {
        match codec {
            Codec::None => Compression::None,
            Codec::Gzip => Compression::Gzip,
            Codec::Snappy => Compression::Snappy,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd,
        }
    }
}

/// Where `consume` begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offset {
    Earliest,
    Latest,
    At(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The value and a line feed
    Value,
    /// Key, tab, value and a line feed
    KeyValue,
    /// An object a line
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }
}
