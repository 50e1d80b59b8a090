//! A network from which batches may come much later, when whoever sent them is gone.

use std::sync::{Arc, Mutex, PoisonError};

use oncelog::testing::Lossy;
use oncelog::{Answer, Partition, Transport};

use bytes::Bytes;

/// Carries batches over a [`Lossy`], until it is told to keep them.
#[derive(Clone)]
pub struct Late {
    lossy: Lossy,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    is_holding: bool,
    held: Vec<(Partition, Bytes)>,
}

impl Late {
    /// Over that one.
    pub fn over(lossy: Lossy) -> Late {
        let state = Arc::default();
        Late { lossy, state }
    }

    /// From now on batches do not arrive.
    pub fn hold(&self) {
        self.with(|state| state.is_holding = true);
    }

    /// Batches that are on their way.
    pub fn held(&self) -> Vec<(Partition, Bytes)> {
        self.with(|state| std::mem::take(&mut state.held))
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Transport for Late {
    fn append(&self, partition: Partition, batch: Bytes) -> Answer {
        let is_held = self.with(|state| {
            if state.is_holding {
                state.held.push((partition.clone(), batch.clone()));
            }
            state.is_holding
        });
        if is_held {
            return Box::pin(std::future::pending());
        }
        self.lossy.append(partition, batch)
    }
}
