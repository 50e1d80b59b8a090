//! The project's own sources, for tests that look at them.

use std::path::{Path, PathBuf};

/// The project's top directory.
pub fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// Every `.rs` file, by its path from the top, with its text.
///
/// # Panics
/// When the sources cannot be read.
pub fn rust_files() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for directory in ["crates", "benches", "tests"] {
        collect(&root().join(directory), &mut found);
    }
    found.sort();
    found
}

fn collect(directory: &Path, found: &mut Vec<(String, String)>) {
    let entries = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if name != "target" {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let relative = path.strip_prefix(root()).unwrap_or(&path);
            found.push((relative.display().to_string(), text));
        }
    }
}
