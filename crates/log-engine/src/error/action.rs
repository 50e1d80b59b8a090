//! What to do about an error: one answer for each, in one place.

use std::io;

use pid_allocator::AllocateError;

use super::{
    AppendError, CloseError, Error, OpenError, ReadError, ResolveError, SendError, SessionError,
    TopicError, Unknown,
};

/// The one safe thing to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// The same call may succeed later; nothing was written.
    Retry,
    /// Whether it was written is not known: append the same batch again, with the same sequences, or
    /// ask [`Engine::resolve`](crate::Engine::resolve).
    Resolve,
    /// Close the engine and open it again.
    Reopen,
    /// The call is wrong; another one is needed.
    FixCall,
    /// The data is wrong, or a file is damaged: it has to be looked at.
    FixData,
    /// Make room on the disk; the same call succeeds then.
    FreeSpace,
    /// Nothing helps: another instance, or nobody, goes on.
    Stop,
}

// What the system says passes, unless it is the space that lacks.
fn about_disk(error: &io::Error) -> Action {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Action::FreeSpace,
        _ => Action::Retry,
    }
}

impl OpenError {
    /// The one safe thing to do.
    pub fn action(&self) -> Action {
        match self {
            OpenError::DirectoryInUse { .. } | OpenError::Thread { .. } => Action::Retry,
            OpenError::Missing { .. }
            | OpenError::Exists { .. }
            | OpenError::NotADataDirectory { .. } => Action::FixCall,
            OpenError::Io { source, .. } => about_disk(source),
            _ => Action::FixData,
        }
    }
}

impl TopicError {
    /// The one safe thing to do.
    pub fn action(&self) -> Action {
        match self {
            TopicError::Closed => Action::Reopen,
            TopicError::Open(error) => error.action(),
            TopicError::Io { source, .. } => about_disk(source),
            _ => Action::FixCall,
        }
    }
}

impl SessionError {
    /// The one safe thing to do.
    pub fn action(&self) -> Action {
        match self {
            SessionError::Closed => Action::Reopen,
            SessionError::ReadOnly => Action::FixCall,
            SessionError::Allocate(AllocateError::OutOfIds { .. }) => Action::Stop,
            SessionError::Allocate(_) => Action::Retry,
        }
    }
}

impl SendError {
    /// The one safe thing to do.
    pub fn action(&self) -> Action {
        match self {
            SendError::Full { .. } | SendError::NameInUse { .. } | SendError::Thread { .. } => {
                Action::Retry
            }
            SendError::Session(error) => error.action(),
            SendError::Topic(error) => error.action(),
            SendError::LogFenced { .. } => Action::Reopen,
            SendError::Io { source, .. } => about_disk(source),
            SendError::TooLarge { .. } | SendError::Invalid { .. } => Action::FixData,
            SendError::Fenced { .. } | SendError::Stopped(_) | SendError::Closed => Action::Stop,
            _ => Action::FixCall,
        }
    }
}

impl AppendError {
    /// The one safe thing to do.
    pub fn action(&self) -> Action {
        match self {
            AppendError::Invalid(_) | AppendError::TooLarge { .. } | AppendError::Corrupted(_) => {
                Action::FixData
            }
            AppendError::Rejected { .. }
            | AppendError::LevelTooLow { .. }
            | AppendError::Internal { .. }
            | AppendError::ReadOnly => Action::FixCall,
            AppendError::NotReady { .. } | AppendError::TimedOut { .. } => Action::Retry,
            AppendError::Io { source, .. } | AppendError::Producers { source, .. } => {
                about_disk(source)
            }
            AppendError::NoSpace { .. } => Action::FreeSpace,
            AppendError::LogFenced(_) | AppendError::Closed => Action::Reopen,
            AppendError::TopicDeleted { .. } => Action::Stop,
            AppendError::OutcomeUnknown {
                why: Unknown::TimedOut(_) | Unknown::Refused(_),
                ..
            } => Action::Resolve,
            AppendError::OutcomeUnknown { .. } => Action::Reopen,
        }
    }
}

impl ReadError {
    /// The one safe thing to do.
    pub fn action(&self) -> Action {
        match self {
            ReadError::Closed => Action::Reopen,
            ReadError::TopicDeleted { .. } => Action::Stop,
            ReadError::Topic(error) => error.action(),
            ReadError::Deleted { .. } | ReadError::OutOfRange { .. } => Action::FixCall,
            _ => Action::FixData,
        }
    }
}

impl ResolveError {
    /// The one safe thing to do.
    pub fn action(&self) -> Action {
        match self {
            ResolveError::TimedOut { .. } => Action::Retry,
            ResolveError::ReadOnly => Action::FixCall,
            ResolveError::Read(error) => error.action(),
            ResolveError::NotDurable { .. } | ResolveError::Closed => Action::Reopen,
        }
    }
}

impl CloseError {
    /// The one safe thing to do: the next open recovers what was not closed cleanly.
    pub fn action(&self) -> Action {
        Action::Reopen
    }
}

impl Error {
    /// The one safe thing to do.
    pub fn action(&self) -> Action {
        match self {
            Error::Open(error) => error.action(),
            Error::Topic(error) => error.action(),
            Error::Session(error) => error.action(),
            Error::Append(error) => error.action(),
            Error::Send(error) => error.action(),
            Error::Read(error) => error.action(),
            Error::Resolve(error) => error.action(),
            Error::Group(error) => error.action(),
            Error::Close(error) => error.action(),
            Error::Config(_) => Action::FixCall,
            Error::Batch(_) => Action::FixData,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_owns_an_error_does_not_change_what_to_do() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let failed = || io::Error::other("EIO");
        let file = || "a-0/marks".to_owned();
        let io = |source| TopicError::Io {
            file: file(),
            source,
        };
        assert_eq!(SendError::Topic(io(full())).action(), Action::FreeSpace);
        assert_eq!(Error::from(io(failed())).action(), Action::Retry);
        assert_eq!(
            SendError::Topic(TopicError::Closed).action(),
            Action::Reopen
        );
        let closed = SendError::Session(SessionError::Closed);
        assert_eq!(Error::from(closed).action(), Action::Reopen);
        let read_only = SendError::Session(SessionError::ReadOnly);
        assert_eq!(read_only.action(), Action::FixCall);
        assert_eq!(Error::from(ReadError::Closed).action(), Action::Reopen);
        let missing = OpenError::Missing {
            directory: "x".into(),
        };
        let inside = TopicError::Open(Box::new(missing));
        assert_eq!(inside.action(), Action::FixCall);
    }
}
