//! The calls that programs make on the disk itself; those on files are in `handle`.

use std::any::Any;
use std::io;
use std::sync::Arc;

use log_engine::storage::{DirectoryEntry, Disk, DiskFile};

use super::contents::Resize;
use super::name::{check_directory, check_name};
use super::state::State;
use super::trace::Event;
use super::{SimulatedDisk, input_output_error, take_one};

impl Disk for SimulatedDisk {
    fn create_directory(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        self.state()
            .change_names(|tree| tree.create_directory(name))
    }

    fn create(&self, name: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>> {
        check_name(name)?;
        let mut state = self.state();
        let file = state.change_names(|tree| tree.create_file(name))?;
        if let Err(error) = state.reserve(file, capacity) {
            state.change_names(|tree| tree.remove_file(name))?;
            return Err(error);
        }
        drop(state);
        Ok(self.opened(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        check_name(name)?;
        let file = self.state().tree.find_file(name)?;
        Ok(self.opened(file))
    }

    fn extend(&self, name: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>> {
        check_name(name)?;
        let mut state = self.state();
        state.begin();
        let file = state.tree.find_file(name)?;
        state.reserve(file, capacity)?;
        drop(state);
        Ok(self.opened(file))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<DirectoryEntry>> {
        check_directory(directory)?;
        self.state().tree.list(directory)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        self.state().change_names(|tree| tree.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        self.state().change_names(|tree| tree.remove_file(name))
    }

    fn remove_directory(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        self.state()
            .change_names(|tree| tree.remove_directory(name))
    }

    fn sync_names(&self, directory: &str) -> io::Result<()> {
        check_directory(directory)?;
        let mut state = self.state();
        state.begin();
        let number = state.tree.find_directory(directory)?;
        state.counts.name_syncs += 1;
        let State { dice, faults, .. } = &mut *state;
        let falls = dice.name_sync_errors.falls(faults.name_sync_errors);
        if take_one(&mut state.failing.1) || falls {
            state.counts.failed_name_syncs += 1;
            return Err(input_output_error());
        }
        state.tree.sync_names(number);
        state.record(|| Event::NamesSynced(number));
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.state().tree.free_bytes.unwrap_or(u64::MAX))
    }

    fn lock(&self, name: &str, holder: &str) -> io::Result<Box<dyn Any + Send + Sync>> {
        check_name(name)?;
        let mut state = self.state();
        if state.tree.locks.contains(name) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let file = match state.tree.find_file(name) {
            Ok(file) => file,
            Err(_) => state.change_names(|tree| tree.create_file(name))?,
        };
        state.tree.locks.insert(name.to_owned());
        // As on a real disk, the text is worth less than the lock (I13).
        let kept = state.tree.file(file).len.min(holder.len() as u64);
        state.cut(file, kept)?;
        if state
            .grow(file, holder.len() as u64, Resize::Appended)
            .is_ok()
        {
            state.write(file, holder.as_bytes(), 0);
        }
        drop(state);
        Ok(Box::new(Lock {
            disk: self.clone(),
            name: name.to_owned(),
        }))
    }

    fn lock_holder(&self, name: &str) -> io::Result<Option<String>> {
        check_name(name)?;
        if !self.state().tree.locks.contains(name) {
            return Ok(None);
        }
        let text = self.read_file(name)?;
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }

    fn display(&self, name: &str) -> String {
        format!("simulated:{name}")
    }
}

/// A held lock.
struct Lock {
    disk: SimulatedDisk,
    name: String,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.disk.state().tree.locks.remove(&self.name);
    }
}
