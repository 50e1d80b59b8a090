//! The published end of one file, and the one write that may be in progress above it.

use std::io;

use sync::atomic::{AtomicU64, Ordering};

/// No write is in progress.
const IDLE: u64 = u64::MAX;
/// The file was cut and takes no writes any more.
const CUT: u64 = u64::MAX - 1;

/// Where the final bytes of a file end (I9), and where a write is in progress.
///
/// Two rules keep final bytes final: a write never begins below the end, and the end is never
/// raised past the beginning of a write in progress. The second is an assertion and not a lock:
/// whoever publishes bytes must know that they were written before.
#[derive(Debug)]
pub(crate) struct Published {
    end: AtomicU64,
    /// Where the write in progress begins; else [`IDLE`] or [`CUT`].
    writing: AtomicU64,
}

impl Published {
    /// Nothing is published and nothing is being written.
    pub(crate) fn new() -> Self {
        Self {
            end: AtomicU64::new(0),
            writing: AtomicU64::new(IDLE),
        }
    }

    /// The published end; what was written before it was raised is visible afterwards (R4).
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Raises the end; a lower value changes nothing.
    ///
    /// # Panics
    /// If `end` lies beyond the file's length `len`, or inside of a write in progress.
    pub(crate) fn raise(&self, end: u64, len: u64) {
        assert!(
            end <= len,
            "published end {end} is beyond the length {len} of the file"
        );
        let writing = self.writing.load(Ordering::Acquire);
        assert!(
            end <= writing,
            "published end {end} is beyond a write in progress at {writing}"
        );
        self.end.fetch_max(end, Ordering::Release);
    }

    /// Begins the one write that may be in progress.
    ///
    /// # Errors
    /// `InvalidInput` below the published end or after a cut; `ResourceBusy` during another write.
    pub(crate) fn begin_write(&self, position: u64) -> io::Result<Writing<'_>> {
        let found =
            self.writing
                .compare_exchange(IDLE, position, Ordering::AcqRel, Ordering::Acquire);
        match found {
            Ok(_) => {}
            Err(CUT) => return Err(refused("the file was cut and takes no writes")),
            Err(_) => {
                let kind = io::ErrorKind::ResourceBusy;
                return Err(io::Error::new(
                    kind,
                    "another write to the file is in progress",
                ));
            }
        }
        // From here on the guard gives the place free again.
        let writing = Writing { published: self };
        if position < self.end() {
            return Err(refused("the write begins below the published end"));
        }
        Ok(writing)
    }

    /// Whether `range` may be read: in order, and published.
    ///
    /// # Errors
    /// `InvalidInput` for a range that ends before it begins, `UnexpectedEof` above the end.
    pub(crate) fn check_read(&self, range: &std::ops::Range<u64>) -> io::Result<()> {
        if range.start > range.end {
            return Err(refused("the range ends before it begins"));
        }
        if range.end > self.end() {
            let kind = io::ErrorKind::UnexpectedEof;
            return Err(io::Error::new(
                kind,
                "the range ends above the published end",
            ));
        }
        Ok(())
    }
}

fn refused(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

/// A write in progress; it ends when this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Writing<'a> {
    published: &'a Published,
}

impl Writing<'_> {
    /// Ends this write and refuses all later ones: the file was cut.
    pub(crate) fn refuse_later_writes(self) {
        self.published.writing.store(CUT, Ordering::Release);
        std::mem::forget(self);
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.published.writing.store(IDLE, Ordering::Release);
    }
}

/// Where a write of `head` and `body` at `position` ends.
///
/// # Errors
/// `InvalidInput` when that is beyond what a file can hold (R28).
pub(crate) fn end_of_write(head: &[u8], body: &[u8], position: u64) -> io::Result<u64> {
    let end = head
        .len()
        .checked_add(body.len())
        .and_then(|bytes| u64::try_from(bytes).ok())
        .and_then(|bytes| position.checked_add(bytes))
        .filter(|end| i64::try_from(*end).is_ok());
    end.ok_or_else(|| refused("the write ends beyond 2^63 - 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_only_rises() {
        let published = Published::new();
        published.raise(10, 100);
        published.raise(4, 100);
        assert_eq!(published.end(), 10);
    }

    #[test]
    fn one_write_at_a_time_and_none_below_the_end() {
        let published = Published::new();
        published.raise(10, 100);
        let below = published.begin_write(9).unwrap_err();
        assert_eq!(below.kind(), io::ErrorKind::InvalidInput);

        let writing = published.begin_write(10).unwrap();
        let second = published.begin_write(50).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::ResourceBusy);
        drop(writing);
        drop(published.begin_write(50).unwrap());
    }

    #[test]
    #[should_panic(expected = "beyond a write in progress at 10")]
    fn end_is_never_raised_past_a_write_in_progress() {
        let published = Published::new();
        let writing = published.begin_write(10).unwrap();
        published.raise(10, 100);
        published.raise(11, 100);
        drop(writing);
    }

    #[test]
    fn cut_file_takes_no_writes_but_publishes() {
        let published = Published::new();
        published.begin_write(10).unwrap().refuse_later_writes();
        let refused = published.begin_write(10).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        published.raise(10, 10);
        assert_eq!(published.end(), 10);
    }

    #[test]
    fn write_that_no_file_can_hold_is_refused() {
        let largest = u64::try_from(i64::MAX).unwrap();
        assert_eq!(end_of_write(b"ab", b"c", largest - 3).unwrap(), largest);
        assert!(end_of_write(b"ab", b"c", largest - 2).is_err());
        assert!(end_of_write(b"ab", b"c", u64::MAX).is_err());
    }
}
