//! Every batch of a segment or a partition folder, as the files have it.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use record_batch::{Batch, BatchError, BatchHeader, HEADER_BYTES};
use segment_storage::{Disk, DiskFile, OsDisk, names};

use super::{Damage, InspectError};

/// Bytes read at a time; a larger batch is read whole.
const WINDOW_BYTES: u64 = 1 << 20;
/// How often damage is looked at again: a running writer may be writing just there.
const LOOKS: usize = 3;
const HEADER: u64 = HEADER_BYTES as u64;

/// One batch as it lies in a file.
#[derive(Debug, Clone)]
pub struct BatchSummary {
    /// The file, as a person can find it.
    pub file: String,
    /// Where the batch begins, bytes from the file's beginning.
    pub position: u64,
    /// Bytes of the batch.
    pub size: u64,
    /// The fields of its header.
    pub header: BatchHeader,
    /// Whether its CRC is right. After a batch for which this is false, the dump ends with the
    /// error.
    pub crc_ok: bool,
    /// The batch.
    pub bytes: Bytes,
}

/// The batches of a segment file, or of all segments of a partition folder in order: also of one
/// that Kafka wrote. Offsets are not judged, so any file of batches can be looked at. Ends at the
/// end of the last file, or with the first error; the zeros of a reserved tail are an end.
pub struct BatchDump {
    disk: Arc<dyn Disk>,
    files: VecDeque<String>,
    current: Option<Walk>,
    /// What is said after the batch that it is about.
    error: Option<InspectError>,
}

/// Prints batches of `path`: a segment file, or a folder with any `*.log`. Reads at most one batch,
/// or 1 MiB, ahead.
///
/// # Errors
/// [`InspectError::NoSegments`], or what the system says.
pub fn dump_batches(path: &Path) -> Result<BatchDump, InspectError> {
    let shown = || path.display().to_string();
    let fail = |source| InspectError::Io {
        file: shown(),
        source,
    };
    let (root, files) = match OsDisk::read_only(path.to_owned()) {
        Ok(disk) => {
            let files = segments_of(&disk).map_err(fail)?;
            if files.is_empty() {
                return Err(InspectError::NoSegments { path: shown() });
            }
            (path.to_owned(), files)
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| fail(io::ErrorKind::InvalidInput.into()))?;
            let parent = path.parent().filter(|parent| *parent != Path::new(""));
            let parent = parent.map_or_else(|| PathBuf::from("."), Path::to_owned);
            (parent, VecDeque::from([name.to_owned()]))
        }
        Err(error) => return Err(fail(error)),
    };
    Ok(BatchDump {
        disk: Arc::new(OsDisk::read_only(root).map_err(fail)?),
        files,
        current: None,
        error: None,
    })
}

// Segments by base offset, then prepared ones that hold batches already: a segment gets its own
// name when it is first synced.
fn segments_of(disk: &OsDisk) -> io::Result<VecDeque<String>> {
    let mut files = VecDeque::new();
    let mut prepared = Vec::new();
    for entry in disk.list("")? {
        if entry.is_directory {
            continue;
        }
        if entry.name.ends_with(".log") {
            files.push_back(entry.name);
        } else if names::is_prepared(&entry.name)
            && let Ok(file) = disk.open(&entry.name)
        {
            let mut head = [0; HEADER_BYTES];
            if file.read_at(&mut head, 0).is_ok()
                && let Ok(header) = BatchHeader::read(&head)
            {
                prepared.push((header.base_offset, entry.name));
            }
        }
    }
    prepared.sort();
    files.extend(prepared.into_iter().map(|(_, name)| name));
    Ok(files)
}

impl Iterator for BatchDump {
    type Item = Result<BatchSummary, InspectError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.error.take() {
            return Some(Err(self.end(error)));
        }
        loop {
            let mut walk = match self.current.take() {
                Some(walk) => walk,
                None => {
                    let name = self.files.pop_front()?;
                    match Walk::open(&self.disk, name) {
                        Ok(walk) => walk,
                        Err(error) => return Some(Err(self.end(error))),
                    }
                }
            };
            match walk.next() {
                Ok(None) => {}
                Ok(Some((batch, damage))) => {
                    self.error = damage;
                    self.current = Some(walk);
                    return Some(Ok(batch));
                }
                Err(error) => return Some(Err(self.end(error))),
            }
        }
    }
}

impl BatchDump {
    fn end(&mut self, error: InspectError) -> InspectError {
        self.files.clear();
        self.current = None;
        error
    }
}

/// A walk over the batches of one file.
struct Walk {
    disk: Arc<dyn Disk>,
    name: String,
    file: Arc<dyn DiskFile>,
    shown: String,
    end: u64,
    position: u64,
    window: Bytes,
    window_start: u64,
}

/// Why a step failed.
enum Failure {
    Damage(Damage),
    /// A whole batch, but its CRC is wrong.
    Crc(Box<BatchHeader>, Bytes, BatchError),
    Io(io::Error),
}

impl From<BatchError> for Failure {
    fn from(error: BatchError) -> Failure {
        Failure::Damage(error.into())
    }
}

type Step = Result<Option<(BatchHeader, Bytes)>, Failure>;

impl Walk {
    fn open(disk: &Arc<dyn Disk>, name: String) -> Result<Walk, InspectError> {
        let shown = disk.display(&name);
        match disk.open(&name) {
            Ok(file) => Ok(Walk {
                end: file.len(),
                disk: disk.clone(),
                name,
                file,
                shown,
                position: 0,
                window: Bytes::new(),
                window_start: 0,
            }),
            Err(source) => Err(InspectError::Io {
                file: shown,
                source,
            }),
        }
    }

    fn next(&mut self) -> Result<Option<(BatchSummary, Option<InspectError>)>, InspectError> {
        let mut step = self.step();
        for _ in 1..LOOKS {
            if step.is_ok() {
                break;
            }
            self.look_again();
            step = self.step();
        }
        let position = self.position;
        let file = self.shown.clone();
        let damaged = |damage| InspectError::Damaged {
            file: file.clone(),
            position,
            damage,
        };
        match step {
            Ok(None) => Ok(None),
            Ok(Some((header, bytes))) => Ok(Some((self.summary(header, bytes, true), None))),
            Err(Failure::Crc(header, bytes, error)) => {
                let error = damaged(error.into());
                Ok(Some((self.summary(*header, bytes, false), Some(error))))
            }
            Err(Failure::Damage(damage)) => Err(damaged(damage)),
            Err(Failure::Io(source)) => Err(InspectError::Io { file, source }),
        }
    }

    // A running writer writes batches, and cuts the reserved tail off when it seals a file.
    fn look_again(&mut self) {
        self.window = Bytes::new();
        if let Ok(file) = self.disk.open(&self.name)
            && file.len() >= self.position
        {
            self.end = file.len();
            self.file = file;
        }
    }

    fn summary(&mut self, header: BatchHeader, bytes: Bytes, crc_ok: bool) -> BatchSummary {
        let (position, size) = (self.position, length(&bytes));
        self.position += size;
        BatchSummary {
            file: self.shown.clone(),
            position,
            size,
            header,
            crc_ok,
            bytes,
        }
    }

    fn step(&mut self) -> Step {
        let left = self.end - self.position;
        let head = self.bytes(left.min(HEADER))?;
        if head.iter().all(|&byte| byte == 0) {
            return self.check_reserved().map(|()| None);
        }
        let header = BatchHeader::read(&head)?;
        let size = u64::try_from(header.size()).unwrap_or(u64::MAX);
        if size > left {
            return Err(Failure::Damage(Damage::BeyondEnd { bytes: size, left }));
        }
        let bytes = self.bytes(size)?;
        match Batch::parse(&bytes).map(|_| ()) {
            Ok(()) => Ok(Some((header, bytes))),
            Err(error @ BatchError::Crc { .. }) => {
                Err(Failure::Crc(Box::new(header), bytes, error))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// That many bytes of the file from the position on.
    fn bytes(&mut self, count: u64) -> Result<Bytes, Failure> {
        let from = self.position;
        let have = self.window_start + length(&self.window);
        if from < self.window_start || from + count > have {
            let want = count.max(WINDOW_BYTES.min(self.end - from));
            self.window = self.read(from, want)?;
            self.window_start = from;
        }
        let at = usize::try_from(from - self.window_start).unwrap_or(usize::MAX);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        Ok(self.window.slice(at..at + count))
    }

    fn read(&self, from: u64, count: u64) -> Result<Bytes, Failure> {
        let mut buffer = vec![0; usize::try_from(count).unwrap_or(usize::MAX)];
        self.file.read_at(&mut buffer, from).map_err(Failure::Io)?;
        Ok(buffer.into())
    }

    // A zeroed page in the middle of a segment must not pass for its end.
    fn check_reserved(&self) -> Result<(), Failure> {
        let mut from = self.position;
        while from < self.end {
            let bytes = self.read(from, WINDOW_BYTES.min(self.end - from))?;
            if let Some(at) = bytes.iter().position(|&byte| byte != 0) {
                let found = bytes[at];
                let at = from + u64::try_from(at).unwrap_or(0);
                return Err(Failure::Damage(Damage::Hole { at, found }));
            }
            from += length(&bytes);
        }
        Ok(())
    }
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
