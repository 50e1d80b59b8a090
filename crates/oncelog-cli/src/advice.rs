//! What people at a shell are told in place of what a program is told: the command to run next.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use oncelog::inspect::{InspectError, RepairError};
use oncelog::{BackupError, GroupError, OpenError, ReadError, SendError, TopicError};

use crate::output::counted;

/// Files that only a data directory has. Without `format` it is a damaged one.
const OWN: [&str; 3] = ["topics", "generation", "producer-ids"];

/// An error as a shell's user reads it.
pub(crate) fn said(error: &(dyn Error + 'static)) -> String {
    let special = if let Some(error) = error.downcast_ref::<OpenError>() {
        of_open(error)
    } else if let Some(error) = error.downcast_ref::<TopicError>() {
        of_topic(error)
    } else if let Some(ReadError::Topic(error)) = error.downcast_ref() {
        of_topic(error)
    } else if let Some(error) = error.downcast_ref::<ReadError>() {
        of_read(error)
    } else if let Some(SendError::Topic(error)) = error.downcast_ref() {
        of_topic(error)
    } else if let Some(GroupError::Topic(error)) = error.downcast_ref() {
        of_topic(error)
    } else if let Some(BackupError::Open(error)) = error.downcast_ref() {
        of_open(error)
    } else if let Some(RepairError::Open(error)) = error.downcast_ref() {
        of_open(error)
    } else if let Some(InspectError::NotADataDirectory { directory }) = error.downcast_ref() {
        Some(missing(directory))
    } else {
        None
    };
    special.unwrap_or_else(|| error.to_string())
}

/// What to do about what the system refused, for the end of a message.
pub(crate) fn about_system(error: &anyhow::Error) -> Option<&'static str> {
    use io::ErrorKind as Kind;
    let kind = |cause: &(dyn Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>();
        let shared = || cause.downcast_ref::<Arc<io::Error>>();
        io.or_else(|| shared().map(|error| &**error))
            .map(io::Error::kind)
    };
    match error.chain().find_map(kind)? {
        Kind::NotFound => Some("see whether the path is right"),
        Kind::NotADirectory | Kind::IsADirectory => Some("name another path"),
        Kind::PermissionDenied => Some("see who may use it (ls -l), and who runs the command"),
        Kind::StorageFull | Kind::QuotaExceeded => Some("make room, then run the command again"),
        Kind::ReadOnlyFilesystem => Some("name a place that can be written"),
        _ => None,
    }
}

/// Whether it was a data directory, whose file `format` got lost.
pub(crate) fn was_a_data_directory(directory: &str) -> bool {
    OWN.iter()
        .any(|file| Path::new(directory).join(file).exists())
}

fn of_open(error: &OpenError) -> Option<String> {
    match error {
        OpenError::Missing { directory } => Some(missing(directory)),
        OpenError::DirectoryInUse { directory, holder } => Some(format!(
            "data directory {directory} is in use by {holder}; stop that one first. Commands that \
             only read (consume, topic list, verify, backup) work beside it"
        )),
        OpenError::NotADataDirectory { directory, .. } if was_a_data_directory(directory) => {
            Some(missing(directory))
        }
        _ => None,
    }
}

fn missing(directory: &str) -> String {
    let shown = directory.trim_end_matches('/');
    if was_a_data_directory(directory) {
        return format!(
            "{shown} is damaged: its file `format` is missing; put a copy of it back, or run \
             `oncelog repair`"
        );
    }
    let is_filled = std::fs::read_dir(directory).is_ok_and(|mut files| files.next().is_some());
    let what = match is_filled {
        true => format!("{shown} is no oncelog data directory (it has no file `format`)"),
        false => format!("there is no data directory {shown}"),
    };
    format!(
        "{what}; name another one with --data, or begin one with `oncelog topic create NAME` or \
         `oncelog produce TOPIC`"
    )
}

fn of_topic(error: &TopicError) -> Option<String> {
    match error {
        TopicError::UnknownTopic { name } => Some(format!(
            "there is no topic {name}; `oncelog topic list` shows what there is, `oncelog topic \
             create {name}` creates it"
        )),
        TopicError::Exists { name, partitions } => Some(format!(
            "topic {name} exists already, with {}; use it, or take another name",
            counted((*partitions).into(), "partition")
        )),
        TopicError::Open(error) => of_open(error),
        _ => None,
    }
}

fn of_read(error: &ReadError) -> Option<String> {
    match error {
        ReadError::OutOfRange {
            topic,
            partition,
            asked,
            end,
        } => Some(format!(
            "offset {asked} of {topic}-{partition} is above its high watermark {end}; begin at \
             {end} or below, or with --offset latest"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_lost_its_gate_is_told_from_one_that_never_was() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().display().to_string();
        let error = OpenError::Missing {
            directory: directory.clone(),
        };
        assert!(said(&error).contains("there is no data directory"));
        std::fs::write(place.path().join("notes"), "").unwrap();
        assert!(said(&error).contains("is no oncelog data directory"));
        std::fs::write(place.path().join("topics"), "").unwrap();
        assert!(said(&error).contains("run `oncelog repair`"));
        assert!(was_a_data_directory(&directory));
    }

    #[test]
    fn nobody_at_a_shell_is_told_to_call_a_function() {
        let name = "t".to_owned();
        let topic = TopicError::UnknownTopic { name };
        let text = said(&topic);
        assert!(text.contains("oncelog topic create t"), "{text}");
        assert!(!text.contains("Engine::"), "{text}");
        assert_eq!(said(&ReadError::Topic(Arc::new(topic))), text);
    }
}
