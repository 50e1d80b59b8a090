//! Who is compared, behind one trait.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::workload::Cell;

mod bare;
#[cfg(feature = "peers")]
mod commitlog;
#[cfg(feature = "peers")]
mod fjall;
#[cfg(feature = "peers")]
mod okaywal;
mod oncelog;
#[cfg(feature = "peers")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[cfg(feature = "peers")]
mod sqlite;
mod traits;
mod walrus;

pub(crate) use traits::{Each, Log, Raw, Setup, Writer};

/// Everybody, in the order of the tables.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Peer {
    Oncelog,
    OncelogUnchecked,
    Walrus,
    Commitlog,
    Okaywal,
    Fjall,
    FjallDedup,
    Rocksdb,
    RocksdbDedup,
    Redb,
    RedbDedup,
    Sqlite,
    BareCopy,
    BareSync,
}

impl Peer {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Peer::Oncelog => "oncelog",
            Peer::OncelogUnchecked => "oncelog, check off",
            Peer::Walrus => "walrus-rust",
            Peer::Commitlog => "commitlog",
            Peer::Okaywal => "okaywal",
            Peer::Fjall => "fjall",
            Peer::FjallDedup => "fjall + table",
            Peer::Rocksdb => "RocksDB",
            Peer::RocksdbDedup => "RocksDB + table",
            Peer::Redb => "redb",
            Peer::RedbDedup => "redb + table",
            Peer::Sqlite => "SQLite, UNIQUE",
            Peer::BareCopy => "bare copy",
            Peer::BareSync => "bare write + fdatasync",
        }
    }

    /// Whether it is another project's log, and not ours or the machine alone.
    pub(crate) fn is_other(self) -> bool {
        use Peer::{BareCopy, BareSync, Oncelog, OncelogUnchecked};
        !matches!(self, Oncelog | OncelogUnchecked | BareCopy | BareSync)
    }

    /// Whether it is the machine alone.
    pub(crate) fn is_machine(self) -> bool {
        matches!(self, Peer::BareCopy | Peer::BareSync)
    }

    /// Whether a record that is sent again is found and not stored again.
    pub(crate) fn deduplicates(self) -> bool {
        use Peer::{FjallDedup, Oncelog, RedbDedup, RocksdbDedup, Sqlite};
        matches!(
            self,
            Oncelog | FjallDedup | RocksdbDedup | RedbDedup | Sqlite
        )
    }

    /// Whether it is in this program; the other ones need the features `peers` and `rocksdb`.
    pub(crate) fn is_built(self) -> bool {
        use Peer::{BareCopy, BareSync, Oncelog, OncelogUnchecked, Rocksdb, RocksdbDedup, Walrus};
        match self {
            Oncelog | OncelogUnchecked | Walrus | BareCopy | BareSync => true,
            Rocksdb | RocksdbDedup => cfg!(feature = "rocksdb"),
            _ => cfg!(feature = "peers"),
        }
    }

    /// Why it has no figure in this cell, if it can have none.
    pub(crate) fn cannot(self, cell: &Cell) -> Option<&'static str> {
        use Peer::{BareCopy, BareSync, Commitlog, Okaywal, Redb, RedbDedup, Sqlite, Walrus};
        match self {
            Commitlog if cell.synced => Some("never syncs"),
            Okaywal if !cell.synced => Some("always syncs"),
            BareCopy if cell.synced => Some("does not sync"),
            BareSync if !cell.synced => Some("syncs"),
            Walrus if cell.callers > 1 && cell.records > 1 => {
                Some("refuses a batch while another one is written")
            }
            BareSync | Redb | RedbDedup | Sqlite if cell.callers > 1 => {
                Some("one writer at a time: as with one caller")
            }
            _ => None,
        }
    }

    /// What a call of it promises, and what not.
    pub(crate) fn remark(self) -> &'static str {
        match self {
            Peer::Oncelog => {
                "Kafka's batch with a CRC-32C, sequence checked (window of five), duplicates answered with their offset. \
                 `memory` survives the process, `synced` a power cut. Reading checks each CRC."
            }
            Peer::OncelogUnchecked => {
                "The same with `idempotence=false`: sequences are not checked."
            }
            Peer::Walrus => {
                "Mmap backend, one topic, FNV checksum of each entry. No check for repeats. In memory `NoFsync`, else `SyncEach`. \
                 `batch_append_for_topic` for a call of several records, one at a time."
            }
            Peer::Commitlog => {
                "Offsets and a CRC-32C of each message, which `read` does not check. No check for repeats. Its `flush` is a `File::flush`: \
                 nothing is ever synced, so it has no cell there. One `&mut` writer. Segments as large as oncelog's."
            }
            Peer::Okaywal => {
                "A write-ahead log to be emptied by checkpoints, kept whole here: one file, 64 MiB reserved ahead. One entry a call, a chunk with a CRC \
                 for each record. Every commit syncs, so it has no cell in memory. Reads only while it opens: both figures are of the same pass. No check for repeats."
            }
            Peer::Fjall => {
                "LSM tree under a `u64` key, journal with a checksum, no compression. In memory `PersistMode::Buffer`, else `SyncData`, \
                 under the lock of the journal. No check for repeats."
            }
            Peer::FjallDedup => {
                "The same and a second keyspace (producer, sequence), looked up first and written in the same batch."
            }
            Peer::Rocksdb => {
                "LSM tree under a `u64` key, WAL with a CRC, no compression, the distribution's library. `sync` off or on; concurrent writers share a sync. \
                 No check for repeats."
            }
            Peer::RocksdbDedup => {
                "The same and a second column family (producer, sequence), looked up first and written in the same batch."
            }
            Peer::Redb => {
                "Copy-on-write B-tree under a `u64` key, one writer at a time. In memory `Durability::None`: a commit that even the death of the process \
                 undoes; else `Immediate`. No check for repeats."
            }
            Peer::RedbDedup => {
                "The same and a second table (producer, sequence) in the same transaction."
            }
            Peer::Sqlite => {
                "A table with `UNIQUE(pid, seq)`, `INSERT OR IGNORE`, one transaction a call, WAL, prepared statements. In memory `synchronous=OFF`, else `FULL`. \
                 No checksum of what is in the database."
            }
            Peer::BareCopy => {
                "The machine: the bytes of the call copied into a mapped file of which every page was touched."
            }
            Peer::BareSync => {
                "The machine: the bytes of the call written into blocks that were written before, and `fdatasync`."
            }
        }
    }

    /// Opens its log in `directory`, which exists.
    pub(crate) fn open(self, setup: &Setup) -> anyhow::Result<Box<dyn Log>> {
        match self {
            Peer::Oncelog => oncelog::open(setup, true),
            Peer::OncelogUnchecked => oncelog::open(setup, false),
            Peer::Walrus => walrus::open(setup),
            #[cfg(feature = "peers")]
            Peer::Commitlog => commitlog::open(setup),
            #[cfg(feature = "peers")]
            Peer::Okaywal => okaywal::open(setup),
            #[cfg(feature = "peers")]
            Peer::Fjall => fjall::open(setup, false),
            #[cfg(feature = "peers")]
            Peer::FjallDedup => fjall::open(setup, true),
            #[cfg(feature = "rocksdb")]
            Peer::Rocksdb => rocksdb::open(setup, false),
            #[cfg(feature = "rocksdb")]
            Peer::RocksdbDedup => rocksdb::open(setup, true),
            #[cfg(feature = "peers")]
            Peer::Redb => redb::open(setup, false),
            #[cfg(feature = "peers")]
            Peer::RedbDedup => redb::open(setup, true),
            #[cfg(feature = "peers")]
            Peer::Sqlite => sqlite::open(setup),
            Peer::BareCopy => bare::copy(setup),
            Peer::BareSync => bare::sync(setup),
            #[cfg(not(all(feature = "peers", feature = "rocksdb")))]
            _ => anyhow::bail!("{} needs the features peers, rocksdb", self.label()),
        }
    }
}
