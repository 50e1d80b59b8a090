//! Waiting at the end for more, in any of several partitions.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Reader;
use crate::ends::State;
use crate::engine::Handle;
use crate::partition::PartitionState;

type Wait = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// Ready when a reader's next step finds something: records, or the end of the partition or the
/// engine. It borrows nothing of the reader, and dropping it loses nothing.
pub(super) struct Waiting {
    partitions: Vec<Wait>,
}

impl Waiting {
    /// Waits for more than `reader` has read so far.
    pub(super) fn for_more(reader: &Reader) -> Waiting {
        let wait = |place: &super::Place| -> Wait {
            let (state, offset) = (place.state.clone(), place.cursor.offset);
            Box::pin(more(reader.topic.engine.clone(), state, offset))
        };
        Waiting {
            partitions: reader.partitions.iter().map(wait).collect(),
        }
    }
}

// A waiter looks at its own partition alone: whatever changes another one wakes that one's.
async fn more(engine: Arc<Handle>, state: Arc<PartitionState>, offset: u64) {
    let more = || {
        // Nothing comes to a fenced log, but its reader may have other partitions.
        let has_ended = matches!(state.ends.state(), State::Closed | State::Deleted);
        let has_more = state.reader.high_watermark() > offset;
        (has_more || has_ended || engine.core.is_closed()).then_some(())
    };
    state.ends.wait(more).await;
}

impl Future for Waiting {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let is_ready = |wait: &mut Wait| wait.as_mut().poll(context).is_ready();
        if self.partitions.iter_mut().any(is_ready) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
