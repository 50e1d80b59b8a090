//! State machines that tell a late event from an early one (M6): pure values, evaluated in whichever transaction holds the state.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;

/// What an event means in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<S> {
    /// Go there.
    Advance(S),
    /// It is there: acknowledge.
    Already,
    /// It is further: acknowledge.
    Stale,
    /// Something must come before: release with a backoff, never drop.
    Early,
    /// It can never happen from here: park.
    Illegal,
}

/// A table of transitions.
///
/// ```
/// use consumer_inbox::{Machine, Step};
/// #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
/// enum Order { New, Paid, Shipped }
///
/// let machine = Machine::builder()
///     .edge(Order::New, "pay", Order::Paid)
///     .edge(Order::Paid, "ship", Order::Shipped)
///     .build()?;
/// assert_eq!(machine.judge(Order::New, &"pay"), Step::Advance(Order::Paid));
/// assert_eq!(machine.judge(Order::New, &"ship"), Step::Early);
/// assert_eq!(machine.judge(Order::Shipped, &"pay"), Step::Stale);
/// # Ok::<_, consumer_inbox::MachineError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Machine<S, E> {
    edges: HashMap<S, HashMap<E, S>>,
    /// For each event its edges: from, to.
    events: HashMap<E, Vec<(S, S)>>,
    /// What each state leads to, by one transition or more.
    reachable: HashMap<S, HashSet<S>>,
}

/// A table that is no machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    /// One event leads from one state to two.
    #[error(
        "event {event} leads from {from} to two states: give each transition an event of its own"
    )]
    Ambiguous {
        /// The state.
        from: String,
        /// The event.
        event: String,
    },
    /// A state leads back to itself, so that late and early mean nothing.
    #[error(
        "state {state} leads back to itself, so a late event cannot be told from an early one: build it with `build_numbered`, and judge by sequence numbers"
    )]
    Cyclic {
        /// The state.
        state: String,
    },
}

/// Collects transitions.
#[derive(Debug, Clone)]
pub struct MachineBuilder<S, E> {
    edges: Vec<(S, E, S)>,
}

impl<S: Copy + Eq + Hash + Debug, E: Clone + Eq + Hash + Debug> MachineBuilder<S, E> {
    /// Adds a transition.
    #[must_use]
    pub fn edge(mut self, from: S, event: E, to: S) -> MachineBuilder<S, E> {
        self.edges.push((from, event, to));
        self
    }

    /// The machine.
    ///
    /// # Errors
    /// [`MachineError::Ambiguous`], and [`MachineError::Cyclic`]: see [`build_numbered`](MachineBuilder::build_numbered).
    pub fn build(self) -> Result<Machine<S, E>, MachineError> {
        let machine = self.table()?;
        let mut states = machine.reachable.iter();
        match states.find(|(state, onward)| onward.contains(*state)) {
            Some((state, _)) => Err(MachineError::Cyclic {
                state: format!("{state:?}"),
            }),
            None => Ok(machine),
        }
    }

    /// The machine of a table that may have cycles, whose events carry sequence numbers.
    ///
    /// # Errors
    /// [`MachineError::Ambiguous`].
    pub fn build_numbered(self) -> Result<NumberedMachine<S, E>, MachineError> {
        self.table().map(NumberedMachine)
    }

    fn table(self) -> Result<Machine<S, E>, MachineError> {
        let mut machine = Machine {
            edges: HashMap::new(),
            events: HashMap::new(),
            reachable: HashMap::new(),
        };
        for (from, event, to) in self.edges {
            let leaving: &mut HashMap<E, S> = machine.edges.entry(from).or_default();
            if leaving
                .insert(event.clone(), to)
                .is_some_and(|old| old != to)
            {
                return Err(MachineError::Ambiguous {
                    from: format!("{from:?}"),
                    event: format!("{event:?}"),
                });
            }
            machine.events.entry(event).or_default().push((from, to));
        }
        for from in machine.edges.keys() {
            let mut seen = HashSet::new();
            let mut next = vec![*from];
            while let Some(at) = next.pop() {
                let onward = machine.edges.get(&at).into_iter();
                next.extend(
                    onward
                        .flat_map(HashMap::values)
                        .filter(|to| seen.insert(**to)),
                );
            }
            machine.reachable.insert(*from, seen);
        }
        Ok(machine)
    }
}

impl<S: Copy + Eq + Hash + Debug, E: Clone + Eq + Hash + Debug> Machine<S, E> {
    /// An empty table.
    pub fn builder() -> MachineBuilder<S, E> {
        MachineBuilder { edges: Vec::new() }
    }

    /// What an event means now.
    pub fn judge(&self, now: S, event: &E) -> Step<S> {
        if let Some(to) = self.edges.get(&now).and_then(|edges| edges.get(event)) {
            return Step::Advance(*to);
        }
        let Some(edges) = self.events.get(event) else {
            return Step::Illegal;
        };
        let leads = |from: &S, to: &S| {
            self.reachable
                .get(from)
                .is_some_and(|onward| onward.contains(to))
        };
        if edges.iter().any(|(_, to)| *to == now) {
            Step::Already
        } else if edges.iter().any(|(_, to)| leads(to, &now)) {
            Step::Stale
        } else if edges.iter().any(|(from, _)| leads(&now, from)) {
            Step::Early
        } else {
            Step::Illegal
        }
    }
}

/// A machine that may have cycles: sequence numbers are compared first.
#[derive(Debug, Clone)]
pub struct NumberedMachine<S, E>(Machine<S, E>);

impl<S: Copy + Eq + Hash + Debug, E: Clone + Eq + Hash + Debug> NumberedMachine<S, E> {
    /// What event number `sequence` means in a state that event number `applied` led to; numbers rise by one, the first is 1,
    /// and `applied` is 0 before it.
    pub fn judge(&self, (now, applied): (S, u64), (event, sequence): (&E, u64)) -> Step<S> {
        let edge = self.0.edges.get(&now).and_then(|edges| edges.get(event));
        match (sequence.checked_sub(applied), edge) {
            (None, _) => Step::Stale,
            (Some(0), _) => Step::Already,
            (Some(1), Some(to)) => Step::Advance(*to),
            (Some(1), None) => Step::Illegal,
            (Some(_), _) => Step::Early,
        }
    }
}

#[cfg(test)]
mod tests;
