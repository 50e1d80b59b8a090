//! What a link saw of the log's answers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use oncelog::{AppendError, Appended, Rejection, Unknown};

/// What a producer learned to be stored. All but `batches` and `bytes` are records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) records: u64,
    /// Batches of them.
    pub(crate) batches: u64,
    /// Bytes of those batches.
    pub(crate) bytes: u64,
}

#[derive(Default)]
pub(super) struct Seen {
    acknowledged: Mutex<Acknowledged>,
    duplicates: AtomicU64,
    trouble: Mutex<Option<AppendError>>,
    is_troubled: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn records(appended: &Appended) -> u64 {
    appended.last_offset - appended.offset + 1
}

impl Seen {
    pub(super) fn acknowledged(&self) -> Acknowledged {
        *lock(&self.acknowledged)
    }

    pub(super) fn duplicates_answered(&self) -> u64 {
        self.duplicates.load(Ordering::Relaxed)
    }

    pub(super) fn trouble(&self) -> Option<AppendError> {
        let is_troubled = self.is_troubled.load(Ordering::Acquire);
        is_troubled.then(|| lock(&self.trouble).clone()).flatten()
    }

    /// The log's answer, whether it arrives or not.
    pub(super) fn note_answer(&self, appended: &Appended) {
        if appended.duplicate {
            self.duplicates
                .fetch_add(records(appended), Ordering::Relaxed);
        }
    }

    /// An answer that arrives.
    pub(super) fn note_arrival(&self, appended: &Appended, bytes: usize) {
        let mut acknowledged = lock(&self.acknowledged);
        acknowledged.records += records(appended);
        acknowledged.batches += 1;
        acknowledged.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    pub(super) fn note_refusal(&self, error: &AppendError) {
        if !passes(error) {
            lock(&self.trouble).get_or_insert_with(|| error.clone());
            self.is_troubled.store(true, Ordering::Release);
        }
    }
}

/// What passes by itself, or what its producer knows better.
fn passes(error: &AppendError) -> bool {
    match error {
        AppendError::NotReady { .. } => true,
        AppendError::OutcomeUnknown { why, .. } => matches!(why, Unknown::TimedOut(_)),
        AppendError::Rejected { rejection, .. } => matches!(
            rejection,
            Rejection::OutOfOrder { .. } | Rejection::UnknownProducer { .. }
        ),
        _ => false,
    }
}
