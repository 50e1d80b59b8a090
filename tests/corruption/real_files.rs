//! Real files that something else takes the place of: a directory, a symbolic link, a pipe, a file
//! that cannot be read.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use oncelog::storage::OsDisk;
use tempfile::TempDir;

use crate::canonical::{CLOSED, Canonical, KILLED};
use crate::examine::{Case, Outcome, examine};
use crate::sweep::kind;
use crate::watchdog::watched;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Instead {
    Directory,
    /// To a file of the same contents elsewhere.
    Link,
    LinkToNothing,
    Pipe,
    Unreadable,
}

fn lay_out(canonical: &Canonical) -> TempDir {
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o700)).unwrap();
    for (name, bytes) in &canonical.files {
        let path = root.join(name);
        let parent = path.parent().unwrap();
        if !parent.is_dir() {
            fs::DirBuilder::new().mode(0o700).create(parent).unwrap();
        }
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    directory
}

// Whether it could be done here: root reads everything.
fn replace(path: &Path, elsewhere: &Path, instead: Instead) -> bool {
    let before = fs::read(path).unwrap();
    if instead == Instead::Unreadable {
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
        return fs::read(path).is_err();
    }
    fs::remove_file(path).unwrap();
    match instead {
        Instead::Directory => fs::create_dir(path).unwrap(),
        Instead::Link => {
            fs::write(elsewhere, before).unwrap();
            symlink(elsewhere, path).unwrap();
        }
        Instead::LinkToNothing => symlink(elsewhere.join("nothing"), path).unwrap(),
        Instead::Pipe => {
            let made = Command::new("mkfifo").arg(path).status().unwrap();
            assert!(made.success());
            assert!(fs::metadata(path).unwrap().file_type().is_fifo());
        }
        Instead::Unreadable => {}
    }
    true
}

#[test]
fn something_else_in_place_of_a_file() {
    let mut counts: BTreeMap<(Instead, Outcome), u64> = BTreeMap::new();
    let mut violations = 0;
    for canonical in [&*CLOSED, &*KILLED] {
        for name in canonical.files.keys() {
            let mut alike = canonical.files.keys().filter(|n| kind(n) == kind(name));
            let is_chosen = alike.next() == Some(name) || alike.next_back() == Some(name);
            if !is_chosen {
                continue;
            }
            for instead in [
                Instead::Directory,
                Instead::Link,
                Instead::LinkToNothing,
                Instead::Pipe,
                Instead::Unreadable,
            ] {
                let (directory, elsewhere) = (lay_out(canonical), TempDir::new().unwrap());
                let elsewhere = elsewhere.path().join("contents");
                if !replace(&directory.path().join(name), &elsewhere, instead) {
                    continue;
                }
                let disk = OsDisk::open(directory.path().to_owned());
                let case = Case {
                    holds_others: false,
                    heals: false,
                    disk: Arc::new(disk.unwrap()),
                    facts: &canonical.facts,
                    changed: vec![name.clone()],
                };
                let text = format!("{} {instead:?} for {name}", canonical.name);
                let run = || catch_unwind(AssertUnwindSafe(|| examine(&case)));
                let done = watched(text.clone(), run).unwrap_or_else(|_| Err("panic".to_owned()));
                match done {
                    Ok((outcome, _)) => *counts.entry((instead, outcome)).or_default() += 1,
                    Err(violation) => {
                        violations += 1;
                        println!("FAIL {text}: {violation}");
                    }
                }
            }
        }
    }
    println!("{counts:?}, {violations} violations");
    assert!(counts.len() > 3, "{counts:?}");
    assert_eq!(violations, 0);
}
