//! Files and directories of the disk in memory, each as programs see it and as it would survive.

mod contents;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::file::index;
use crate::disk::DirectoryEntry;
use contents::Contents;

/// The root directory's number.
const ROOT: u64 = 0;

/// ENOSPC, as Linux numbers it.
const NO_SPACE: i32 = 28;

/// All files and directories, by number; a file without a name lives on for its open handles.
#[derive(Debug, Clone)]
pub(super) struct Image {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    locks: BTreeSet<String>,
    free_bytes: Option<u64>,
}

#[derive(Debug, Clone)]
enum Node {
    File(Contents),
    Directory(Names),
}

#[derive(Debug, Clone, Default)]
struct Names {
    live: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
}

impl Default for Image {
    fn default() -> Self {
        let root = Node::Directory(Names::default());
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            locks: BTreeSet::new(),
            free_bytes: None,
        }
    }
}

impl Image {
    /// The same contents and names, what is dirty included.
    pub(super) fn after_kill(&self) -> Image {
        Image {
            locks: BTreeSet::new(),
            free_bytes: None,
            ..self.clone()
        }
    }

    /// What survives, in both images.
    pub(super) fn after_power_cut(&self) -> Image {
        let mut image = self.after_kill();
        for node in image.nodes.values_mut() {
            match node {
                Node::File(contents) => contents.lose_what_is_not_durable(),
                Node::Directory(names) => names.live = names.durable.clone(),
            }
        }
        image
    }

    pub(super) fn set_free_bytes(&mut self, bytes: Option<u64>) {
        self.free_bytes = bytes;
    }

    pub(super) fn free_bytes(&self) -> Option<u64> {
        self.free_bytes
    }

    fn names(&self, directory: u64) -> io::Result<&Names> {
        match self.nodes.get(&directory) {
            Some(Node::Directory(names)) => Ok(names),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn names_mut(&mut self, directory: u64) -> io::Result<&mut Names> {
        match self.nodes.get_mut(&directory) {
            Some(Node::Directory(names)) => Ok(names),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn find(&self, name: &str) -> io::Result<u64> {
        name.split('/')
            .filter(|component| !component.is_empty())
            .try_fold(ROOT, |directory, component| {
                let found = self.names(directory)?.live.get(component);
                found.copied().ok_or_else(|| io::ErrorKind::NotFound.into())
            })
    }

    /// Whether an open file has a name in a directory.
    pub(super) fn is_in(&self, file: u64, directory: &str) -> bool {
        let names = self.find(directory).and_then(|found| self.names(found));
        names.is_ok_and(|names| names.live.values().any(|&number| number == file))
    }

    /// The directory that holds `name`, and the last component.
    fn place<'a>(&self, name: &'a str) -> io::Result<(u64, &'a str)> {
        let (directory, leaf) = name.rsplit_once('/').unwrap_or(("", name));
        let directory = self.find(directory)?;
        self.names(directory)?;
        Ok((directory, leaf))
    }

    fn add(&mut self, name: &str, node: Node) -> io::Result<u64> {
        let (directory, leaf) = self.place(name)?;
        let number = self.next;
        let names = self.names_mut(directory)?;
        if names.live.contains_key(leaf) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.live.insert(leaf.to_owned(), number);
        self.nodes.insert(number, node);
        self.next += 1;
        Ok(number)
    }

    fn take_name(&mut self, name: &str) -> io::Result<u64> {
        let (directory, leaf) = self.place(name)?;
        let taken = self.names_mut(directory)?.live.remove(leaf);
        taken.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn allocate(&mut self, bytes: u64) -> io::Result<()> {
        if let Some(free) = self.free_bytes {
            let left = free.checked_sub(bytes);
            let left = left.ok_or_else(|| io::Error::from_raw_os_error(NO_SPACE))?;
            self.free_bytes = Some(left);
        }
        Ok(())
    }

    fn give_back(&mut self, bytes: u64) {
        self.free_bytes = self.free_bytes.map(|free| free.saturating_add(bytes));
    }

    pub(super) fn create_directory(&mut self, name: &str) -> io::Result<()> {
        match self.find(name).map(|number| self.names(number)) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => self
                .add(name, Node::Directory(Names::default()))
                .map(|_| ()),
        }
    }

    pub(super) fn create_file(&mut self, name: &str, capacity: u64) -> io::Result<u64> {
        let number = self.add(name, Node::File(Contents::default()))?;
        match self.grow(number, capacity) {
            Ok(()) => Ok(number),
            Err(error) => {
                self.remove_file(name)?;
                Err(error)
            }
        }
    }

    /// Makes the file at least `len` bytes long, or changes nothing.
    pub(super) fn grow(&mut self, file: u64, len: u64) -> io::Result<()> {
        let more = len.saturating_sub(self.len(file));
        let len = index(len)?;
        if more > 0 {
            self.allocate(more)?;
            self.file_mut(file).grow(len);
        }
        Ok(())
    }

    pub(super) fn cut(&mut self, file: u64, len: u64) -> io::Result<()> {
        let old = self.len(file);
        let Some(less) = old.checked_sub(len) else {
            let kind = io::ErrorKind::InvalidInput;
            return Err(io::Error::new(kind, "a cut does not lengthen a file"));
        };
        self.file_mut(file).cut(index(len)?);
        self.give_back(less);
        Ok(())
    }

    pub(super) fn find_file(&self, name: &str) -> io::Result<u64> {
        let number = self.find(name)?;
        match self.nodes.get(&number) {
            Some(Node::File(_)) => Ok(number),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// The contents of an open file.
    ///
    /// # Panics
    /// If `file` is not the number of a file: handles are made from such numbers only, and no node
    /// is ever removed.
    pub(super) fn file_mut(&mut self, file: u64) -> &mut Contents {
        match self.nodes.get_mut(&file) {
            Some(Node::File(contents)) => contents,
            _ => panic!("node {file} is not a file"),
        }
    }

    pub(super) fn file_named_mut(&mut self, name: &str) -> io::Result<&mut Contents> {
        let file = self.find_file(name)?;
        Ok(self.file_mut(file))
    }

    pub(super) fn len(&self, file: u64) -> u64 {
        match self.nodes.get(&file) {
            Some(Node::File(contents)) => contents.live().len() as u64,
            _ => 0,
        }
    }

    pub(super) fn put_durable_file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if self.find(name).is_ok() {
            self.remove_file(name)?;
        }
        let file = self.create_file(name, bytes.len() as u64)?;
        let contents = self.file_mut(file);
        contents.write(bytes, 0);
        let begun = contents.begin_sync();
        contents.finish_sync(begun);
        let (directory, leaf) = self.place(name)?;
        self.names_mut(directory)?
            .durable
            .insert(leaf.to_owned(), file);
        Ok(())
    }

    pub(super) fn list(&self, directory: &str) -> io::Result<Vec<DirectoryEntry>> {
        let names = self.names(self.find(directory)?)?;
        let entry = |(name, number): (&String, &u64)| DirectoryEntry {
            name: name.clone(),
            len: self.len(*number),
            is_directory: self.names(*number).is_ok(),
        };
        Ok(names.live.iter().map(entry).collect())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let (directory, leaf) = self.place(to)?;
        let moved = self.find(from)?;
        match self.find(to) {
            Ok(target) if target == moved => return Ok(()),
            Ok(target) if self.names(target).is_ok() => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            Ok(target) => self.give_back(self.len(target)),
            Err(_) => {}
        }
        self.take_name(from)?;
        self.names_mut(directory)?
            .live
            .insert(leaf.to_owned(), moved);
        Ok(())
    }

    pub(super) fn remove_file(&mut self, name: &str) -> io::Result<()> {
        let file = self.find_file(name)?;
        self.take_name(name)?;
        self.give_back(self.len(file));
        Ok(())
    }

    pub(super) fn remove_directory(&mut self, name: &str) -> io::Result<()> {
        let directory = self.find(name)?;
        let held = self.names(directory)?.live.clone();
        for (leaf, number) in held {
            let name = format!("{name}/{leaf}");
            if self.names(number).is_ok() {
                self.remove_directory(&name)?;
            } else {
                self.remove_file(&name)?;
            }
        }
        self.take_name(name)?;
        Ok(())
    }

    pub(super) fn sync_names(&mut self, directory: &str) -> io::Result<()> {
        let directory = self.find(directory)?;
        let names = self.names_mut(directory)?;
        names.durable = names.live.clone();
        Ok(())
    }

    pub(super) fn lock(&mut self, name: &str, holder: &str) -> io::Result<()> {
        if self.locks.contains(name) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let file = match self.find_file(name) {
            Ok(file) => file,
            Err(_) => self.create_file(name, 0)?,
        };
        self.locks.insert(name.to_owned());
        // As on a real disk, the text is worth less than the lock (I13).
        let len = self.len(file).min(holder.len() as u64);
        self.cut(file, len)?;
        if self.grow(file, holder.len() as u64).is_ok() {
            self.file_mut(file).write(holder.as_bytes(), 0);
        }
        Ok(())
    }

    pub(super) fn unlock(&mut self, name: &str) {
        self.locks.remove(name);
    }

    pub(super) fn lock_holder(&mut self, name: &str) -> Option<String> {
        let held = self.locks.contains(name);
        let contents = self.file_named_mut(name).ok().filter(|_| held)?;
        Some(String::from_utf8_lossy(contents.live()).into_owned())
    }
}
