//! The directories of a topic's logs: made, and removed.

use segment_storage::{DirectoryEntry, Marks, Place};

use crate::core::Core;
use crate::directory::TopicEntry;
use crate::error::{LogName, TopicError};
use crate::topics::{io_error, place};

/// Which partition of the topic has that directory, be it one that the topic has or not.
pub(crate) fn partition_of(entry: &TopicEntry, directory: &str) -> Option<u32> {
    let number = directory.strip_prefix(&*entry.name)?.strip_prefix('-')?;
    let number = number.parse().ok()?;
    (LogName(&entry.name, number).to_string() == directory).then_some(number)
}

// Whether a directory holds no more than a log whose making was begun.
fn is_begun(listed: &[DirectoryEntry]) -> bool {
    let marks = segment_storage::marks::FILE;
    listed.iter().all(|e| e.name.starts_with(marks))
}

impl Core {
    /// Makes the logs from partition `first` on.
    ///
    /// # Errors
    /// [`TopicError`]; what was made stays, and can be made again.
    pub(crate) fn make_logs(&self, entry: &TopicEntry, first: u32) -> Result<(), TopicError> {
        for index in first..entry.partitions {
            let place = place(self, entry, index);
            let fail = |e| io_error(self, &place.directory, e);
            self.disk.create_directory(&place.directory).map_err(fail)?;
            // A directory of that name that holds a log is somebody's; it is not taken over, unless
            // it is this one's, and was being made when a crash or a failure came. What of that is
            // durable is not known, so it is made again.
            let listed = self.disk.list(&place.directory).map_err(fail)?;
            if !listed.is_empty() {
                if !is_begun(&listed) || !self.is_ours(&place, &listed) {
                    return Err(fail(std::io::ErrorKind::AlreadyExists.into()));
                }
                self.disk.remove_directory(&place.directory).map_err(fail)?;
                self.disk.create_directory(&place.directory).map_err(fail)?;
            }
            Marks::create(&self.disk, &place.directory, place.log_id).map_err(fail)?;
        }
        self.disk.sync_names("").map_err(|e| io_error(self, "", e))
    }

    // Whether a directory belongs to this very log, or holds no log at all.
    fn is_ours(&self, place: &Place, listed: &[DirectoryEntry]) -> bool {
        match Marks::open(&self.disk, &place.directory) {
            Ok(marks) => marks.log_id() == place.log_id,
            Err(_) => listed.iter().all(|e| !e.name.ends_with(".log")),
        }
    }

    /// Removes what belongs to the topic, and nothing that bears its name by accident. That may be
    /// more than the topic has partitions: a crash or a failure leaves directories of those that were
    /// being added.
    ///
    /// # Errors
    /// [`TopicError`]; what is left is removed by the next try.
    pub(crate) fn remove_logs(&self, entry: &TopicEntry) -> Result<(), TopicError> {
        let root = self.disk.list("").map_err(|e| io_error(self, "", e))?;
        let directories = root.iter().filter(|e| e.is_directory);
        for index in directories.filter_map(|e| partition_of(entry, &e.name)) {
            let place = place(self, entry, index);
            let fail = |e| io_error(self, &place.directory, e);
            let listed = self.disk.list(&place.directory).map_err(fail)?;
            let has_it = index < entry.partitions || is_begun(&listed);
            if has_it && self.is_ours(&place, &listed) {
                // The marks say whose the directory is, so they go when nothing else is left: a
                // crash in between leaves what the next try knows again.
                for entry in listed
                    .iter()
                    .filter(|e| e.name != segment_storage::marks::FILE)
                {
                    let name = place.path(&entry.name);
                    match entry.is_directory {
                        true => self.disk.remove_directory(&name).map_err(fail)?,
                        false => self.disk.remove(&name).map_err(fail)?,
                    }
                }
                self.disk.sync_names(&place.directory).map_err(fail)?;
                self.disk.remove_directory(&place.directory).map_err(fail)?;
            }
        }
        self.disk.sync_names("").map_err(|e| io_error(self, "", e))
    }
}
