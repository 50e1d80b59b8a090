//! What a consumer and the world share: how far it may go, and what it has to say.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::Poll;

use crate::violation::Violation;
use crate::world::Counts;

/// Where a consumer stands: nothing received, or one of the points C0 to C5.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Point {
    #[default]
    Idle,
    C0,
    C1,
    C2,
    C3,
    C4,
    C5,
}

/// What a consumer has to say.
pub(super) enum Note {
    Event(String),
    /// Only where the disk fails.
    Trouble(String),
    Broken(Violation),
}

/// The consumer goes on only as far as it was allowed to.
#[derive(Default)]
pub(super) struct Desk {
    steps: Cell<u64>,
    point: Cell<Point>,
    is_calm: Cell<bool>,
    notes: RefCell<Vec<Note>>,
    counts: RefCell<Counts>,
}

impl Desk {
    pub(super) fn allow(&self, steps: u64) {
        self.steps.set(steps);
    }

    /// From now on nothing goes wrong by itself.
    pub(super) fn calm(&self, is_calm: bool) {
        self.is_calm.set(is_calm);
    }

    pub(super) fn is_calm(&self) -> bool {
        self.is_calm.get()
    }

    pub(super) fn point(&self) -> Point {
        self.point.get()
    }

    /// Waits for the next allowed step. Whoever dies at a point dies here.
    pub(super) async fn at(&self, point: Point) {
        self.point.set(point);
        poll_fn(|_| match self.steps.get() {
            0 => Poll::Pending,
            steps => {
                self.steps.set(steps - 1);
                Poll::Ready(())
            }
        })
        .await;
    }

    pub(super) fn note(&self, note: Note) {
        self.notes.borrow_mut().push(note);
    }

    pub(super) fn take_notes(&self) -> Vec<Note> {
        self.notes.take()
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.counts.borrow_mut());
    }

    pub(super) fn take_counts(&self) -> Counts {
        self.counts.take()
    }
}
