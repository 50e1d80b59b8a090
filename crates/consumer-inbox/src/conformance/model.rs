//! What a store of claims should do, in as few words as possible; shares no code with any.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::admission::{Prior, Settlement};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Busy { owner: u64, until: u64 },
    Free,
    Done,
    Parked,
}

#[derive(Debug, Clone)]
pub(super) struct Id {
    state: State,
    since: u64,
    payload: u8,
    token: u64,
    attempt: u32,
    prior: Prior,
    result: Option<Bytes>,
    origin: Option<u64>,
    offset: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) key: usize,
    pub(super) owner: u64,
    pub(super) payload: u8,
    pub(super) redrive: bool,
    pub(super) lease: u64,
    pub(super) origin: Option<u64>,
    pub(super) offset: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A token that was given before; none for a new one.
    Run(Option<u64>, u32, Prior),
    Done(u64, Option<Bytes>),
    /// What is left of the lease.
    Busy(u64),
    Parked,
    Mismatch(u8),
    Expired,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Below {
    pub(super) log_start: u64,
    pub(super) window: u64,
    pub(super) origin: u64,
    pub(super) parked: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) now: u64,
    ids: BTreeMap<usize, Id>,
    floor: Option<u64>,
}

impl Model {
    pub(super) fn claim(&mut self, c: Claim) -> Answer {
        let Some(id) = self.ids.get_mut(&c.key) else {
            if c.origin.is_some() && c.origin <= self.floor {
                return Answer::Expired;
            }
            self.grant(c, 1, Prior::New, (c.origin, c.offset));
            return Answer::Run(None, 1, Prior::New);
        };
        if id.payload != c.payload {
            return Answer::Mismatch(id.payload);
        }
        let waits = matches!(id.state, State::Busy { owner, until } if owner != c.owner && self.now < until);
        if let (State::Busy { until, .. }, true) = (id.state, waits) {
            return Answer::Busy(until - self.now);
        }
        if c.origin >= id.origin {
            (id.origin, id.offset) = (c.origin, c.offset);
        }
        let newest = (id.origin, id.offset);
        let (attempt, prior) = match id.state {
            State::Done => return Answer::Done(id.token, id.result.clone()),
            State::Parked if !c.redrive => return Answer::Parked,
            State::Parked => (1, Prior::Parked),
            State::Free => (id.attempt + 1, Prior::Released),
            State::Busy { owner, .. } if owner == c.owner => {
                id.state = State::Busy {
                    owner,
                    until: self.now + c.lease,
                };
                return Answer::Run(Some(id.token), id.attempt, id.prior);
            }
            State::Busy { .. } => (id.attempt + 1, Prior::Crashed),
        };
        self.grant(c, attempt, prior, newest);
        Answer::Run(None, attempt, prior)
    }

    fn grant(
        &mut self,
        c: Claim,
        attempt: u32,
        prior: Prior,
        (origin, offset): (Option<u64>, u64),
    ) {
        let (owner, until) = (c.owner, self.now + c.lease);
        let id = Id {
            state: State::Busy { owner, until },
            since: self.now,
            payload: c.payload,
            token: 0,
            attempt,
            prior,
            result: None,
            origin,
            offset,
        };
        self.ids.insert(c.key, id);
    }

    /// The token that the store gave for the last grant.
    pub(super) fn granted(&mut self, key: usize, token: u64) {
        if let Some(id) = self.ids.get_mut(&key) {
            id.token = token;
        }
    }

    pub(super) fn renew(&mut self, key: usize, token: u64, lease: u64) -> bool {
        match self.ids.get_mut(&key) {
            Some(Id {
                state: State::Busy { until, .. },
                token: current,
                ..
            }) if *current == token => {
                *until = self.now + lease;
                true
            }
            _ => false,
        }
    }

    pub(super) fn settle(&mut self, key: usize, token: u64, how: &Settlement) -> bool {
        let Some(id) = self.ids.get_mut(&key).filter(|id| id.token == token) else {
            return false;
        };
        let state = match how {
            Settlement::Done(_) => State::Done,
            Settlement::Released => State::Free,
            Settlement::Parked => State::Parked,
        };
        if let (State::Busy { .. }, Settlement::Done(result)) = (id.state, how) {
            id.result.clone_from(result);
        }
        if matches!(id.state, State::Busy { .. }) {
            (id.state, id.since) = (state, self.now);
        }
        id.state == state
    }

    pub(super) fn result(&self, key: usize) -> Option<(u64, Option<Bytes>)> {
        let id = self.ids.get(&key).filter(|id| id.state == State::Done);
        id.map(|id| (id.token, id.result.clone()))
    }

    pub(super) fn end_leases(&mut self) {
        for id in self.ids.values_mut() {
            if let State::Busy { until, .. } = &mut id.state {
                *until = self.now;
            }
        }
    }

    /// The ids that may go, oldest first, with their origin times.
    pub(super) fn below(&self, b: Below) -> Vec<(Option<u64>, usize)> {
        let old = |id: &Id, window: u64| id.since + window < self.now;
        let goes = |id: &Id| {
            let settled = match id.state {
                State::Busy { .. } => false,
                State::Parked => b.parked.is_some_and(|age| old(id, age.max(b.window))),
                State::Free | State::Done => old(id, b.window),
            };
            settled && id.offset < b.log_start && id.origin.is_none_or(|ms| ms < b.origin)
        };
        let ids = self.ids.iter().filter(|(_, id)| goes(id));
        let mut ids: Vec<_> = ids.map(|(key, id)| (id.origin, *key)).collect();
        ids.sort();
        ids
    }

    pub(super) fn forget(&mut self, keys: &[(Option<u64>, usize)]) {
        for (origin, key) in keys {
            self.ids.remove(key);
            self.floor = self.floor.max(*origin);
        }
    }
}
