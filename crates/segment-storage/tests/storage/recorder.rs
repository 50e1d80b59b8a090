//! A disk that takes images of itself before every change, for crashes at every step.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use segment_storage::{DirectoryEntry, Disk, DiskFile, MemoryDisk, Prepare};

/// What had been promised when an image was taken.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    /// Offsets below are in the log, at least in the page cache.
    pub(crate) appended: AtomicU64,
    /// Offsets below are durable.
    pub(crate) synced: AtomicU64,
    /// Offsets below were shown.
    pub(crate) shown: AtomicU64,
    /// Offsets below are deleted, or about to be.
    pub(crate) deleted: AtomicU64,
    /// The generation that runs.
    pub(crate) generation: AtomicU64,
}

/// What a crash leaves, and what must be in it.
pub(crate) struct Image {
    pub(crate) step: String,
    pub(crate) disk: MemoryDisk,
    pub(crate) is_killed: bool,
    pub(crate) appended: u64,
    pub(crate) synced: u64,
    pub(crate) shown: u64,
    pub(crate) deleted: u64,
    pub(crate) generation: i32,
}

type Images = parking_lot::Mutex<Vec<Image>>;
type OnSync = parking_lot::Mutex<Option<Box<dyn FnOnce() + Send>>>;

#[derive(Clone, Default)]
pub(crate) struct Recorder {
    pub(crate) disk: MemoryDisk,
    pub(crate) promises: Arc<Promises>,
    images: Arc<Images>,
    /// What else happens during the next sync of a file.
    pub(crate) on_sync: Arc<OnSync>,
}

impl Recorder {
    pub(crate) fn take_images(&self) -> Vec<Image> {
        std::mem::take(&mut *self.images.lock())
    }

    fn image(&self, step: &str, disk: MemoryDisk, is_killed: bool) {
        let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let promises = &self.promises;
        let mut images = self.images.lock();
        let step = format!("{step} (image {})", images.len());
        images.push(Image {
            step,
            disk,
            is_killed,
            appended: get(&promises.appended),
            synced: get(&promises.synced),
            shown: get(&promises.shown),
            deleted: get(&promises.deleted),
            generation: i32::try_from(get(&promises.generation)).unwrap(),
        });
    }

    fn before(&self, step: &str) {
        self.image(
            &format!("killed before {step}"),
            self.disk.after_kill(),
            true,
        );
        self.image(
            &format!("cut before {step}"),
            self.disk.after_power_cut(),
            false,
        );
    }

    // Half of a write is in the page cache when the process dies.
    fn before_write(&self, name: &str, bytes: &[u8], position: u64) {
        self.before(&format!("write to {name} at {position}"));
        let torn = self.disk.after_kill();
        let mut file = torn.read_file(name).unwrap();
        let at = usize::try_from(position).unwrap();
        let half = bytes.len() / 2;
        file.resize(file.len().max(at + half), 0);
        file[at..at + half].copy_from_slice(&bytes[..half]);
        torn.write_file(name, &file).unwrap();
        self.image(&format!("torn write to {name} at {position}"), torn, true);
    }

    fn wrap(&self, name: &str, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(RecordedFile {
            recorder: self.clone(),
            name: parking_lot::Mutex::new(name.to_owned()),
            file,
        })
    }
}

struct RecordedFile {
    recorder: Recorder,
    name: parking_lot::Mutex<String>,
    file: Arc<dyn DiskFile>,
}

impl RecordedFile {
    // A file that was renamed since goes by another name.
    fn name(&self) -> Option<String> {
        let name = self.name.lock().clone();
        self.recorder.disk.read_file(&name).ok().map(|_| name)
    }
}

impl DiskFile for RecordedFile {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn write_at(&self, head: &[u8], body: &[u8], position: u64) -> io::Result<()> {
        match self.name() {
            Some(name) => {
                let bytes = [head, body].concat();
                self.recorder.before_write(&name, &bytes, position);
            }
            None => self.recorder.before("write to a renamed file"),
        }
        self.file.write_at(head, body, position)
    }

    fn publish(&self, end: u64) {
        self.file.publish(end);
    }

    fn published(&self) -> u64 {
        self.file.published()
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.file.read(range)
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()> {
        self.file.read_at(into, position)
    }

    fn prepare(&self, from: u64, how: Prepare) -> io::Result<()> {
        self.recorder.before("prepare");
        self.file.prepare(from, how)
    }

    fn sync(&self) -> io::Result<()> {
        self.recorder
            .before(&format!("sync of {}", self.name.lock()));
        if let Some(meanwhile) = self.recorder.on_sync.lock().take() {
            meanwhile();
        }
        self.file.sync()
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.recorder
            .before(&format!("cut of {}", self.name.lock()));
        self.file.cut(length)
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.recorder.before("drop_cache");
        self.file.drop_cache()
    }
}

impl Disk for Recorder {
    fn create_directory(&self, name: &str) -> io::Result<()> {
        self.disk.create_directory(name)
    }

    fn create(&self, name: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.before(&format!("create {name}"));
        Ok(self.wrap(name, self.disk.create(name, capacity)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(name, self.disk.open(name)?))
    }

    fn extend(&self, name: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.before(&format!("extend {name}"));
        Ok(self.wrap(name, self.disk.extend(name, capacity)?))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<DirectoryEntry>> {
        self.disk.list(directory)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.before(&format!("rename {from} to {to}"));
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.before(&format!("remove {name}"));
        self.disk.remove(name)
    }

    fn remove_directory(&self, name: &str) -> io::Result<()> {
        self.disk.remove_directory(name)
    }

    fn sync_names(&self, directory: &str) -> io::Result<()> {
        self.before("sync_names");
        self.disk.sync_names(directory)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    fn lock(&self, name: &str, holder: &str) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.disk.lock(name, holder)
    }

    fn lock_holder(&self, name: &str) -> io::Result<Option<String>> {
        self.disk.lock_holder(name)
    }

    fn display(&self, name: &str) -> String {
        self.disk.display(name)
    }
}
