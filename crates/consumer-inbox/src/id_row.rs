//! What is stored of an id, and how claims change it: pure, for stores that keep rows themselves.

use std::sync::Arc;

use bytes::Bytes;

use crate::admission::{Admission, Held, Prior, Receipt, Settlement, Token};
use crate::clock::millis;
use crate::dedup_store::{ClaimRequest, Horizon};
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::identity::{Fingerprint, Position};

/// What is stored of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdRow {
    /// Who works on it, or how that ended.
    pub state: IdState,
    /// Of the last claim.
    pub token: Token,
    /// Of the last claim.
    pub attempt: u32,
    /// What the id was first seen with.
    pub fingerprint: Fingerprint,
    /// The newest record that carried it.
    pub origin: Origin,
}

/// A state of an id. Times are ms of the store's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdState {
    /// Somebody works on it.
    Busy {
        /// The claim's owner.
        owner: u128,
        /// When its lease ends.
        until_ms: u64,
        /// What the claim was told, to be told again (E2).
        prior: Prior,
    },
    /// Nobody does.
    Free {
        /// Since when.
        at_ms: u64,
    },
    /// It is done.
    Done {
        /// Since when.
        at_ms: u64,
        /// What the handler returned.
        result: Option<Bytes>,
    },
    /// It is in the dead-letter topic.
    Parked {
        /// Since when.
        at_ms: u64,
    },
}

/// A record that carried an id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// When a log first stored it, ms since 1970.
    pub ms: Option<u64>,
    /// Where it is: topic, partition, offset.
    pub position: Option<(Arc<str>, u32, u64)>,
}

impl Origin {
    /// That of a claim or delivery.
    pub fn new(ms: Option<u64>, position: Option<Position<'_>>) -> Origin {
        Origin {
            ms,
            position: position.map(|at| (at.topic.into(), at.partition, at.offset)),
        }
    }

    /// That of a delivery.
    pub fn of(delivery: &Delivery) -> Origin {
        Origin::new(delivery.origin_ms(), Some(delivery.position()))
    }

    /// Whether another record with the same id replaces this one: unless this one is newer.
    pub fn gives_way_to(&self, other: &Origin) -> bool {
        self != other && self.ms <= other.ms
    }
}

impl IdRow {
    /// Answers a claim, by `now_ms` of the store's clock, the scope's floor, and the token to give if it is granted. With it the
    /// row to store, unless nothing changes.
    pub fn claim(
        row: Option<&IdRow>,
        request: &ClaimRequest<'_>,
        now_ms: u64,
        floor_ms: Option<u64>,
        token: Token,
    ) -> (Admission<Held>, Option<IdRow>) {
        let origin = Origin::new(request.origin_ms, request.position);
        let grant = |attempt, prior, origin| {
            let state = IdState::Busy {
                owner: request.owner,
                until_ms: now_ms.saturating_add(millis(request.lease)),
                prior,
            };
            let row = IdRow {
                state,
                token,
                attempt,
                fingerprint: request.fingerprint,
                origin,
            };
            (Admission::Run(row.held(request, prior)), Some(row))
        };
        let Some(row) = row else {
            let expired = matches!((request.origin_ms, floor_ms), (Some(origin), Some(floor)) if origin <= floor);
            return match expired {
                true => (Admission::Expired, None),
                false => grant(1, Prior::New, origin),
            };
        };
        if row.fingerprint != request.fingerprint {
            let stored = row.fingerprint;
            return (Admission::Mismatch { stored }, None);
        }
        let newest = match row.origin.gives_way_to(&origin) {
            true => origin,
            false => row.origin.clone(),
        };
        let next = row.attempt.saturating_add(1);
        match &row.state {
            IdState::Done { result, .. } => {
                let receipt = Receipt {
                    token: row.token,
                    result: result.clone(),
                };
                (Admission::Done(receipt), row.seen_at(newest))
            }
            IdState::Parked { .. } if !request.redrive => (Admission::Parked, row.seen_at(newest)),
            IdState::Parked { .. } => grant(1, Prior::Parked, newest),
            IdState::Busy { owner, prior, .. } if *owner == request.owner => {
                let held = row.held(request, *prior);
                let (_, again) = grant(row.attempt, *prior, newest);
                let again = again.map(|again| IdRow {
                    token: row.token,
                    ..again
                });
                (Admission::Run(held), again)
            }
            IdState::Busy { until_ms, .. } if now_ms < *until_ms => {
                let retry_after = std::time::Duration::from_millis(until_ms - now_ms);
                (Admission::Busy { retry_after }, None)
            }
            IdState::Busy { .. } => grant(next, Prior::Crashed, newest),
            IdState::Free { .. } => grant(next, Prior::Released, newest),
        }
    }

    /// The row of a claim that goes on for `lease_ms` from now.
    ///
    /// # Errors
    /// [`StoreError::Lost`] unless `token` is that of the running claim.
    pub fn renew(&self, token: Token, now_ms: u64, lease_ms: u64) -> Result<IdRow, StoreError> {
        match &self.state {
            IdState::Busy { owner, prior, .. } if self.token == token => Ok(IdRow {
                state: IdState::Busy {
                    owner: *owner,
                    until_ms: now_ms.saturating_add(lease_ms),
                    prior: *prior,
                },
                ..self.clone()
            }),
            _ => Err(StoreError::Lost(token)),
        }
    }

    /// The row of a claim that ended; none if it ended the same way before.
    ///
    /// # Errors
    /// [`StoreError::Lost`] unless `token` is that of the running claim, or of the one that ended this way.
    pub fn settle(
        &self,
        token: Token,
        how: Settlement,
        now_ms: u64,
    ) -> Result<Option<IdRow>, StoreError> {
        let repeat = matches!(
            (&self.state, &how),
            (IdState::Done { .. }, Settlement::Done(_))
                | (IdState::Free { .. }, Settlement::Released)
                | (IdState::Parked { .. }, Settlement::Parked)
        );
        match self.state {
            _ if self.token != token => Err(StoreError::Lost(token)),
            IdState::Busy { .. } => Ok(Some(IdRow {
                state: IdState::settled(how, now_ms),
                ..self.clone()
            })),
            _ if repeat => Ok(None),
            _ => Err(StoreError::Lost(token)),
        }
    }

    /// How work on it ended, if it ended well.
    pub fn receipt(&self) -> Option<Receipt> {
        match &self.state {
            IdState::Done { result, .. } => Some(Receipt {
                token: self.token,
                result: result.clone(),
            }),
            _ => None,
        }
    }

    /// Whether it may be forgotten (E11).
    pub fn is_below(&self, horizon: &Horizon, now_ms: u64) -> bool {
        let window = millis(horizon.republish_window);
        let waited = |at_ms: u64, ms: u64| at_ms < now_ms.saturating_sub(ms);
        let settled = match &self.state {
            IdState::Busy { .. } => false,
            IdState::Free { at_ms } | IdState::Done { at_ms, .. } => waited(*at_ms, window),
            IdState::Parked { at_ms } => horizon
                .parked_longer_than
                .is_some_and(|age| waited(*at_ms, window.max(millis(age)))),
        };
        let gone = self.origin.position.as_ref().is_none_or(|position| {
            let (topic, partition, offset) = position;
            let start = horizon.log_starts.get(&(topic.clone(), *partition));
            start.is_some_and(|start| offset < start)
        });
        let consumed = self
            .origin
            .ms
            .is_none_or(|ms| ms < horizon.origin_before_ms);
        settled && gone && consumed
    }

    fn held(&self, request: &ClaimRequest<'_>, prior: Prior) -> Held {
        Held {
            key: request.key.clone(),
            token: self.token,
            attempt: self.attempt,
            prior,
        }
    }

    fn seen_at(&self, newest: Origin) -> Option<IdRow> {
        (newest != self.origin).then(|| IdRow {
            origin: newest,
            ..self.clone()
        })
    }
}

impl IdState {
    /// The state behind a settlement.
    pub fn settled(how: Settlement, at_ms: u64) -> IdState {
        match how {
            Settlement::Done(result) => IdState::Done { at_ms, result },
            Settlement::Released => IdState::Free { at_ms },
            Settlement::Parked => IdState::Parked { at_ms },
        }
    }
}
