//! Load, decide, store if nobody was faster (M4).

use crate::entity::{Change, EntityStore, Expect, Read, Versioned};
use crate::error::{CasError, StoreError};

/// What a decision about an entity is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// Its new value.
    pub value: Vec<u8>,
    /// Its new amount.
    pub amount: i64,
}

/// Loads an entity, decides, and stores what was decided, if it is still at the version that was loaded; otherwise again, `tries` times at
/// most (0 counts as 1). No decision leaves it as it is. Its version afterwards; none if it does not exist.
///
/// A blind `+ 1` is not idempotent this way: after a lost answer the caller cannot know whether it is in. Do it in the transaction that
/// holds the id, or put the id into the value, or let the version come from the message.
///
/// # Errors
/// [`CasError::Conflict`] after the last try: release, and try again after a while. What the store said otherwise.
pub async fn compare_and_set<E: EntityStore>(
    entities: &mut E,
    id: &[u8],
    tries: u32,
    mut decide: impl FnMut(Option<&Versioned>) -> Option<Decided>,
) -> Result<Option<u64>, CasError> {
    let mut left = tries.max(1);
    loop {
        let found = entities.load(id, Read::Plain).await?;
        let version = found.as_ref().map(|entity| entity.version);
        let Some(Decided { value, amount }) = decide(found.as_ref()) else {
            return Ok(version);
        };
        let change = Change {
            value: Some(&value),
            amount: crate::Amount::Set(amount),
        };
        let expect = version.map_or(Expect::Absent, Expect::Version);
        left -= 1;
        match entities.store(id, expect, change).await {
            Ok(version) => return Ok(Some(version)),
            Err(CasError::Conflict { .. } | CasError::Store(StoreError::Conflict)) if left > 0 => {}
            Err(error) => return Err(error),
        }
    }
}
