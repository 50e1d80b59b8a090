//! An engine without threads: whoever opened it takes its turns, one at a time and in any order.
//! For simulations, in which everything that happens comes from one seed.

use std::sync::Arc;

use crate::core::Core;
use crate::engine::{Builder, Engine};

impl Builder {
    /// Starts no threads. Nothing becomes durable, is answered or is sent again but by
    /// [`Engine::step`], and nothing is due but by [`Engine::look_at_clock`]; so poll the `async`
    /// calls yourself, for a `blocking_` one that has to wait would wait for ever. Closing hands
    /// over what producers hold without waiting for later tries.
    #[must_use]
    pub fn driven(mut self) -> Builder {
        self.config.is_driven = true;
        self
    }
}

impl Engine {
    /// Takes one of the turns that wait, of a driven engine ([`Builder::driven`]): a commit, the
    /// preparation of a segment, a producer's tries. `choice` decides which, any number will do.
    /// Returns whether there was one.
    pub fn step(&self, choice: u64) -> bool {
        self.core().step(choice)
    }

    /// Asks for the turns whose time has come, of a driven engine ([`Builder::driven`]).
    pub fn look_at_clock(&self) {
        self.core().look_at_clock();
    }
}

impl Core {
    pub(crate) fn step(self: &Arc<Core>, choice: u64) -> bool {
        let commits = self.committer.waiting();
        let feeds = self.feeder.waiting();
        let sends = self.senders.waiting(&self.time);
        let turns = commits + feeds + sends;
        if turns == 0 {
            return false;
        }
        // Below the number of turns, which is a usize.
        let place = usize::try_from(choice % turns as u64).unwrap_or(0);
        if place < commits {
            self.committer.step(place, &self.time);
        } else if place < commits + feeds {
            self.feeder
                .step(|| self.reserve_producer_ids(), || self.save_time());
        } else {
            self.senders.step(&self.time);
        }
        true
    }
}
