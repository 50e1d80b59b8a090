//! How a command ends: from the error to the exit code and what stderr says.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use oncelog::inspect::{InspectError, RepairError};
use oncelog::{
    AppendError, BackupError, ConfigError, GroupError, OpenError, ReadError, SendError, TopicError,
};

use crate::advice;
use crate::output::note;

/// Ends that are not errors of the engine.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The command was used wrongly: names the option and the allowed values. Exit code 2.
    Usage(String),
    /// The work could not be completed, or a check found a violation. Exit code 1.
    Failed(String),
    /// A file is damaged: names file, position, expected and found. Exit code 4.
    Damaged(String),
    /// SIGINT or SIGTERM came before the work was done. Exit code 1.
    Interrupted,
    /// Whoever read standard output has enough. Exit code 0, quietly.
    StdoutClosed,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Usage(text) | Stop::Failed(text) | Stop::Damaged(text) => f.write_str(text),
            Stop::Interrupted => f.write_str("interrupted before the work was done"),
            Stop::StdoutClosed => f.write_str("standard output is closed"),
        }
    }
}

impl Error for Stop {}

const DONE: u8 = 0;
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const IN_USE: u8 = 3;
const DAMAGED: u8 = 4;

/// Says on stderr what happened and gives the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let code = code(error);
    if code != DONE {
        note(&format!("error: {}", text(error)));
    }
    ExitCode::from(code)
}

/// The error and its causes, each said once: many messages hold their cause already.
fn text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(advice::said) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    // Most messages end with what to do.
    if let Some(next) = advice::about_system(error).filter(|_| !text.contains("; ")) {
        text.push_str("; ");
        text.push_str(next);
    }
    text
}

fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        let code = if let Some(stop) = cause.downcast_ref::<Stop>() {
            match stop {
                Stop::Usage(_) => USAGE,
                Stop::Failed(_) | Stop::Interrupted => FAILED,
                Stop::Damaged(_) => DAMAGED,
                Stop::StdoutClosed => DONE,
            }
        } else if let Some(error) = cause.downcast_ref::<OpenError>() {
            open_code(error)
        } else if let Some(error) = cause.downcast_ref::<TopicError>() {
            topic_code(error)
        } else if let Some(error) = cause.downcast_ref::<ReadError>() {
            read_code(error)
        } else if let Some(error) = cause.downcast_ref::<AppendError>() {
            append_code(error)
        } else if let Some(error) = cause.downcast_ref::<SendError>() {
            send_code(error)
        } else if let Some(error) = cause.downcast_ref::<GroupError>() {
            group_code(error)
        } else if let Some(error) = cause.downcast_ref::<BackupError>() {
            backup_code(error)
        } else if let Some(error) = cause.downcast_ref::<RepairError>() {
            repair_code(error)
        } else if let Some(error) = cause.downcast_ref::<InspectError>() {
            if matches!(error, InspectError::Damaged { .. }) {
                DAMAGED
            } else {
                FAILED
            }
        } else if cause.is::<ConfigError>() {
            USAGE
        } else {
            continue;
        };
        return code;
    }
    FAILED
}

fn open_code(error: &OpenError) -> u8 {
    match error {
        OpenError::DirectoryInUse { .. } => IN_USE,
        OpenError::NewerFormat { .. } => DAMAGED,
        OpenError::Missing { directory } | OpenError::NotADataDirectory { directory, .. }
            if advice::was_a_data_directory(directory) =>
        {
            DAMAGED
        }
        OpenError::StateFile(_)
        | OpenError::SlotFile(_)
        | OpenError::Allocator(_)
        | OpenError::Log { .. } => damaged_unless_refused(error),
        _ => FAILED,
    }
}

fn topic_code(error: &TopicError) -> u8 {
    match error {
        TopicError::IllegalName { .. }
        | TopicError::Internal { .. }
        | TopicError::PartitionCount { .. }
        | TopicError::UnknownPartition { .. }
        | TopicError::Config(_) => USAGE,
        TopicError::Open(error) => open_code(error),
        _ => FAILED,
    }
}

fn read_code(error: &ReadError) -> u8 {
    match error {
        ReadError::Topic(error) => topic_code(error),
        ReadError::Malformed { .. } => DAMAGED,
        ReadError::Storage(_) | ReadError::Open(_) => damaged_unless_refused(error),
        _ => FAILED,
    }
}

fn append_code(error: &AppendError) -> u8 {
    match error {
        AppendError::Corrupted(_) => DAMAGED,
        AppendError::LevelTooLow { .. } => USAGE,
        _ => FAILED,
    }
}

fn send_code(error: &SendError) -> u8 {
    match error {
        SendError::Topic(error) => topic_code(error),
        SendError::IllegalName { .. } => USAGE,
        SendError::Stopped(error) => append_code(error),
        _ => FAILED,
    }
}

fn group_code(error: &GroupError) -> u8 {
    match error {
        GroupError::Topic(error) => topic_code(error),
        GroupError::Read(error) => read_code(error),
        GroupError::Append { source, .. } => append_code(source),
        GroupError::IllegalName { .. } => USAGE,
        GroupError::Unreadable(_) => damaged_unless_refused(error),
        _ => FAILED,
    }
}

fn backup_code(error: &BackupError) -> u8 {
    match error {
        BackupError::Exists { .. } => USAGE,
        BackupError::Open(error) => open_code(error),
        BackupError::Marks { .. } | BackupError::Damaged { .. } => damaged_unless_refused(error),
        _ => FAILED,
    }
}

fn repair_code(error: &RepairError) -> u8 {
    match error {
        RepairError::Open(error) => open_code(error),
        RepairError::Release(_) | RepairError::Slots(_) => damaged_unless_refused(error),
        RepairError::FloorTooLow { .. } => USAGE,
        _ => FAILED,
    }
}

/// What the system refused (no descriptors, no rights) is no damage; a file that is missing is.
fn damaged_unless_refused(error: &(dyn Error + 'static)) -> u8 {
    let mut causes = std::iter::successors(Some(error), |&cause| cause.source());
    let is_refused = causes.any(|cause| {
        let shared = cause.downcast_ref::<Arc<io::Error>>().map(|error| &**error);
        let error = cause.downcast_ref::<io::Error>().or(shared);
        error.is_some_and(|error| error.kind() != io::ErrorKind::NotFound)
    });
    if is_refused { FAILED } else { DAMAGED }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn each_end_has_the_code_of_the_contract() {
        let in_use = OpenError::DirectoryInUse {
            directory: "d".to_owned(),
            holder: "h".to_owned(),
        };
        let nameless = SendError::IllegalName { name: "".into() };
        let foreign = TopicError::IllegalName {
            name: "/".to_owned(),
        };
        for (error, expected) in [
            (Stop::Usage(String::new()).into(), 2),
            (Stop::Failed(String::new()).into(), 1),
            (Stop::Damaged(String::new()).into(), 4),
            (Stop::Interrupted.into(), 1),
            (Stop::StdoutClosed.into(), 0),
            (anyhow::Error::new(in_use), 3),
            (anyhow::Error::new(foreign), 2),
            (anyhow::Error::new(nameless), 2),
            (
                anyhow::Error::new(TopicError::UnknownTopic {
                    name: "t".to_owned(),
                }),
                1,
            ),
            (anyhow::anyhow!("anything else"), 1),
        ] {
            assert_eq!(code(&error), expected, "{error}");
            assert_eq!(code(&error.context("while testing")), expected);
        }
    }

    #[test]
    fn causes_are_said_once() {
        let error = Err::<(), _>(Stop::Failed("no space".to_owned()))
            .context("writing: no space")
            .unwrap_err();
        assert_eq!(text(&error), "writing: no space");
        assert_eq!(
            text(&error.context("produce")),
            "produce: writing: no space"
        );
    }
}
