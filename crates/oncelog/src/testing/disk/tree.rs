//! All files and directories, as programs see them and as they would survive.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use log_engine::storage::DirectoryEntry;

use super::contents::{Contents, Resize};
use super::random::mix;

/// The root directory's number.
pub(super) const ROOT: u64 = 0;

/// ENOSPC, as Linux numbers it.
const NO_SPACE: i32 = 28;

/// By number; a file without a name lives on for its open handles.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    nodes: BTreeMap<u64, Arc<Node>>,
    next: u64,
    /// Changes of names that are not durable, in order.
    pub(super) pending: Vec<(u64, NameChange)>,
    /// Counts changes of names and lengths.
    pub(super) order: u64,
    pub(super) locks: BTreeSet<String>,
    /// What can still be allocated; `None`: no limit.
    pub(super) free_bytes: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    File(Contents),
    Directory(Names),
}

type Listing = BTreeMap<Arc<str>, u64>;

/// What a directory holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pub(super) live: Listing,
    pub(super) durable: Listing,
}

/// A name in a directory.
pub(super) type Place = (u64, Arc<str>);

/// One atomic change of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NameChange {
    Link(Place, u64),
    Unlink(Place, u64),
    Rename(Place, Place, u64),
}

impl NameChange {
    pub(super) fn directories(&self) -> [u64; 2] {
        match self {
            NameChange::Link(at, _) | NameChange::Unlink(at, _) => [at.0, at.0],
            NameChange::Rename(from, to, _) => [from.0, to.0],
        }
    }
}

impl Default for Tree {
    fn default() -> Tree {
        let root = Arc::new(Node::Directory(Names::default()));
        Tree {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            pending: Vec::new(),
            order: 0,
            locks: BTreeSet::new(),
            free_bytes: None,
        }
    }
}

impl Tree {
    fn names(&self, directory: u64) -> io::Result<&Names> {
        match self.nodes.get(&directory).map(|node| &**node) {
            Some(Node::Directory(names)) => Ok(names),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn is_directory(&self, number: u64) -> bool {
        self.names(number).is_ok()
    }

    fn find(&self, name: &str) -> io::Result<u64> {
        name.split('/')
            .filter(|component| !component.is_empty())
            .try_fold(ROOT, |directory, component| {
                let found = self.names(directory)?.live.get(component);
                found.copied().ok_or_else(|| io::ErrorKind::NotFound.into())
            })
    }

    fn place(&self, name: &str) -> io::Result<Place> {
        let (directory, leaf) = name.rsplit_once('/').unwrap_or(("", name));
        let directory = self.find(directory)?;
        self.names(directory)?;
        Ok((directory, leaf.into()))
    }

    pub(super) fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    pub(super) fn change(&mut self, change: NameChange) {
        self.apply(&change, |names| &mut names.live);
        let order = self.next_order();
        self.pending.push((order, change));
    }

    // Changes one of the two views of directories.
    fn apply(&mut self, change: &NameChange, view: impl Fn(&mut Names) -> &mut Listing) {
        let mut with = |directory: u64, work: &dyn Fn(&mut Listing)| {
            let node = self.nodes.get_mut(&directory).map(Arc::make_mut);
            if let Some(Node::Directory(names)) = node {
                work(view(names));
            }
        };
        let unlink = |names: &mut Listing, leaf: &Arc<str>, node: u64| {
            if names.get(leaf) == Some(&node) {
                names.remove(leaf);
            }
        };
        match change {
            NameChange::Link((directory, leaf), node) => with(*directory, &|names| {
                names.insert(leaf.clone(), *node);
            }),
            NameChange::Unlink((directory, leaf), node) => {
                with(*directory, &|names| unlink(names, leaf, *node));
            }
            NameChange::Rename(from, to, node) => {
                with(from.0, &|names| unlink(names, &from.1, *node));
                with(to.0, &|names| {
                    names.insert(to.1.clone(), *node);
                });
            }
        }
    }

    fn add(&mut self, name: &str, node: Node) -> io::Result<u64> {
        let place = self.place(name)?;
        if self.names(place.0)?.live.contains_key(&place.1) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, Arc::new(node));
        self.change(NameChange::Link(place, number));
        Ok(number)
    }

    fn allocate(&mut self, bytes: u64) -> io::Result<()> {
        if let Some(free) = self.free_bytes {
            let left = free.checked_sub(bytes);
            self.free_bytes = Some(left.ok_or_else(no_space)?);
        }
        Ok(())
    }

    fn give_back(&mut self, bytes: u64) {
        self.free_bytes = self.free_bytes.map(|free| free.saturating_add(bytes));
    }

    pub(super) fn create_directory(&mut self, name: &str) -> io::Result<()> {
        match self.find(name) {
            Ok(found) if self.is_directory(found) => Ok(()),
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => {
                self.add(name, Node::Directory(Names::default()))?;
                Ok(())
            }
        }
    }

    pub(super) fn create_file(&mut self, name: &str) -> io::Result<u64> {
        self.add(name, Node::File(Contents::default()))
    }

    /// Makes the file at least `len` bytes long, or changes nothing.
    pub(super) fn grow(&mut self, file: u64, len: u64, how: Resize) -> io::Result<()> {
        let more = len.saturating_sub(self.file(file).len);
        if more > 0 {
            self.allocate(more)?;
            let order = self.next_order();
            self.file_mut(file).grow(len, how, order);
        }
        Ok(())
    }

    pub(super) fn find_file(&self, name: &str) -> io::Result<u64> {
        let number = self.find(name)?;
        if self.is_directory(number) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(number)
    }

    /// An open file.
    ///
    /// # Panics
    /// If `file` is not the number of a file: handles are made from such numbers only.
    pub(super) fn file(&self, file: u64) -> &Contents {
        match self.nodes.get(&file).map(|node| &**node) {
            Some(Node::File(contents)) => contents,
            _ => panic!("node {file} is not a file"),
        }
    }

    /// As [`Tree::file`].
    ///
    /// # Panics
    /// As [`Tree::file`].
    pub(super) fn file_mut(&mut self, file: u64) -> &mut Contents {
        match self.nodes.get_mut(&file).map(Arc::make_mut) {
            Some(Node::File(contents)) => contents,
            _ => panic!("node {file} is not a file"),
        }
    }

    pub(super) fn cut(
        &mut self,
        file: u64,
        len: u64,
        time: u64,
    ) -> io::Result<Option<(usize, u8)>> {
        let Some(less) = self.file(file).len.checked_sub(len) else {
            let kind = io::ErrorKind::InvalidInput;
            return Err(io::Error::new(kind, "a cut does not lengthen a file"));
        };
        let order = self.next_order();
        let changed = self.file_mut(file).cut(len, order, time);
        self.give_back(less);
        Ok(changed)
    }

    pub(super) fn list(&self, directory: &str) -> io::Result<Vec<DirectoryEntry>> {
        let names = self.names(self.find(directory)?)?;
        let entry = |(name, &number): (&Arc<str>, &u64)| {
            let is_directory = self.is_directory(number);
            DirectoryEntry {
                name: name.to_string(),
                len: if is_directory {
                    0
                } else {
                    self.file(number).len
                },
                is_directory,
            }
        };
        Ok(names.live.iter().map(entry).collect())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let (source, place) = (self.place(from)?, self.place(to)?);
        let moved = self.find(from)?;
        match self.find(to) {
            Ok(target) if target == moved => return Ok(()),
            Ok(target) if self.is_directory(target) => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            Ok(target) => self.give_back(self.file(target).len),
            Err(_) => {}
        }
        self.change(NameChange::Rename(source, place, moved));
        Ok(())
    }

    pub(super) fn remove_file(&mut self, name: &str) -> io::Result<()> {
        let (file, place) = (self.find_file(name)?, self.place(name)?);
        self.change(NameChange::Unlink(place, file));
        self.give_back(self.file(file).len);
        Ok(())
    }

    pub(super) fn remove_directory(&mut self, name: &str) -> io::Result<()> {
        let (directory, place) = (self.find(name)?, self.place(name)?);
        let held = self.names(directory)?.live.clone();
        for (leaf, number) in held {
            let name = format!("{name}/{leaf}");
            if self.is_directory(number) {
                self.remove_directory(&name)?;
            } else {
                self.remove_file(&name)?;
            }
        }
        self.change(NameChange::Unlink(place, directory));
        Ok(())
    }

    /// The number of a directory, for [`Tree::sync_names`].
    pub(super) fn find_directory(&self, name: &str) -> io::Result<u64> {
        let directory = self.find(name)?;
        self.names(directory)?;
        Ok(directory)
    }

    /// Makes the changes of names in a directory durable, and with a rename out of it what the
    /// other directory saw before.
    pub(super) fn sync_names(&mut self, directory: u64) {
        let mut directories = BTreeSet::from([directory]);
        for (_, change) in &self.pending {
            let both = change.directories();
            if both.iter().any(|d| directories.contains(d)) {
                directories.extend(both);
            }
        }
        let pending = std::mem::take(&mut self.pending);
        for (order, change) in pending {
            if change.directories().iter().any(|d| directories.contains(d)) {
                self.commit_name(&change);
            } else {
                self.pending.push((order, change));
            }
        }
    }

    pub(super) fn commit_name(&mut self, change: &NameChange) {
        self.apply(change, |names| &mut names.durable);
    }

    /// Numbers of files of which something is not durable.
    pub(super) fn unsynced_files(&self) -> Vec<u64> {
        let unsynced = |(number, node): (&u64, &Arc<Node>)| match &**node {
            Node::File(contents) if !contents.is_durable() => Some(*number),
            _ => None,
        };
        self.nodes.iter().filter_map(unsynced).collect()
    }

    /// Has programs see the durable names, and forgets what has no name then.
    pub(super) fn settle_names(&mut self) {
        self.show_durable_names();
        self.forget_unnamed();
    }

    /// Has programs see the durable names.
    pub(super) fn show_durable_names(&mut self) {
        self.pending.clear();
        for node in self.nodes.values_mut() {
            if matches!(&**node, Node::Directory(names) if names.live != names.durable)
                && let Node::Directory(names) = Arc::make_mut(node)
            {
                names.live = names.durable.clone();
            }
        }
    }

    /// Changes the length of a file, whatever space there is.
    pub(super) fn resize(&mut self, file: u64, to: u64, how: Resize, time: u64) {
        let order = self.next_order();
        let file = self.file_mut(file);
        match how {
            Resize::Cut => {
                file.cut(to, order, time);
            }
            Resize::Reserved | Resize::Appended => file.grow(to, how, order),
        }
    }

    /// Forgets files that no name leads to, in either view, and none can by a change to come.
    pub(super) fn forget_unnamed(&mut self) {
        let mut known = BTreeSet::from([ROOT]);
        let mut next = vec![ROOT];
        for (_, change) in &self.pending {
            let (NameChange::Link(_, node)
            | NameChange::Unlink(_, node)
            | NameChange::Rename(_, _, node)) = change;
            next.extend(known.insert(*node).then_some(*node));
        }
        while let Some(number) = next.pop() {
            if let Some(Node::Directory(names)) = self.nodes.get(&number).map(|node| &**node) {
                let held = names.live.values().chain(names.durable.values());
                next.extend(held.filter(|node| known.insert(**node)));
            }
        }
        self.nodes.retain(|number, _| known.contains(number));
    }

    /// Has programs see of a file what is durable.
    pub(super) fn settle_file(&mut self, file: u64) {
        let contents = self.file_mut(file);
        contents.settle(contents.durable_len);
    }

    /// Makes all that programs see durable.
    pub(super) fn settle_all(&mut self) {
        for number in self.unsynced_files() {
            let file = self.file_mut(number);
            file.durable = file.live.clone();
            file.durable_len = file.len;
            file.settle(file.len);
        }
        for (_, change) in std::mem::take(&mut self.pending) {
            self.commit_name(&change);
        }
        self.forget_unnamed();
    }

    /// Makes a node that has no name yet, for a tree that is made from a trace.
    pub(super) fn add_nameless(&mut self, number: u64, is_directory: bool) {
        let node = match is_directory {
            true => Node::Directory(Names::default()),
            false => Node::File(Contents::default()),
        };
        self.nodes.insert(number, Arc::new(node));
        self.next = self.next.max(number + 1);
    }

    /// Every file and directory but the root that programs see, with its path and number, sorted by
    /// path.
    pub(super) fn paths(&self) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        self.collect(ROOT, "", &mut found);
        found
    }

    fn collect(&self, directory: u64, path: &str, found: &mut Vec<(String, u64)>) {
        let Ok(names) = self.names(directory) else {
            return;
        };
        for (leaf, &number) in &names.live {
            let path = match path {
                "" => leaf.to_string(),
                path => format!("{path}/{leaf}"),
            };
            found.push((path.clone(), number));
            self.collect(number, &path, found);
        }
    }

    /// Every file that programs see, with its path, sorted by path.
    pub(super) fn files(&self) -> Vec<(String, u64)> {
        let mut paths = self.paths();
        paths.retain(|(_, number)| !self.is_directory(*number));
        paths
    }

    /// Bytes of all files that programs see.
    pub(super) fn bytes(&self) -> u64 {
        let files = self.files();
        files.iter().map(|(_, number)| self.file(*number).len).sum()
    }

    /// A hash of all that programs see.
    pub(super) fn fingerprint(&self) -> u64 {
        self.paths().into_iter().fold(0, |hash, (path, number)| {
            let words = path.as_bytes().chunks(8).map(|chunk| {
                chunk
                    .iter()
                    .fold(0, |word, byte| word << 8 | u64::from(*byte))
            });
            let hash = words.fold(mix(hash ^ path.len() as u64), |hash, word| mix(hash ^ word));
            if self.is_directory(number) {
                return hash;
            }
            let file = self.file(number);
            mix(mix(hash ^ file.len) ^ file.live.hash())
        })
    }
}

/// ENOSPC.
pub(super) fn no_space() -> io::Error {
    io::Error::from_raw_os_error(NO_SPACE)
}
