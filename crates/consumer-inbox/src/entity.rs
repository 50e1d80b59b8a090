//! The state of business things, changed under a condition: the third trait.

use std::future::Future;

use bytes::Bytes;

use crate::error::{CasError, StoreError};

/// The greatest amount, and less its sign the least: what a double keeps exactly.
pub const AMOUNT_MAX: i64 = (1 << 53) - 1;

/// How to load an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// As it is.
    Plain,
    /// And nobody else loads it so, or changes it, until the transaction ends (M3). Also of an entity that does
    /// not exist. Stores without locks answer [`StoreError::Unsafe`]: use a [`Lock`](crate::Lock).
    ForUpdate,
}

/// The condition of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// None: the change is made in any case. For projections that overwrite (M1).
    Any,
    /// It does not exist.
    Absent,
    /// It exists, at this version (M4). Versions count from 1.
    Version(u64),
    /// It exists, and its amount is at least this: "if there are n left".
    AtLeast(i64),
}

/// What to do to an entity's amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Amount {
    /// Nothing; 0 if it did not exist.
    #[default]
    Keep,
    /// Replace it.
    Set(i64),
    /// Add to it, or take from it; from 0 if it did not exist. Not idempotent: only in the transaction that holds the id.
    Add(i64),
}

/// A change of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change<'a> {
    /// The new value. None keeps the old one; empty if there was none.
    pub value: Option<&'a [u8]>,
    /// What becomes of the amount.
    pub amount: Amount,
}

impl<'a> Change<'a> {
    /// Another value, the same amount.
    pub fn value(value: &'a [u8]) -> Change<'a> {
        Change {
            value: Some(value),
            amount: Amount::Keep,
        }
    }

    /// The same value, and this done to the amount.
    pub fn amount(amount: Amount) -> Change<'a> {
        Change {
            value: None,
            amount,
        }
    }
}

/// An entity that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// Grows by one with each change, also over removals. From 1.
    pub version: u64,
    /// Its value.
    pub value: Bytes,
    /// A number that conditions can be about: a stock, a balance. Within ±[`AMOUNT_MAX`].
    pub amount: i64,
}

/// Entities, inside whatever transaction the handle stands for. A database does each call in one statement:
///
/// ```sql
/// update entity set amount = amount - 2, version = version + 1     -- AtLeast(2), Add(-2)
///  where id = $1 and value is not null and amount >= 2 returning version
/// ```
///
/// A removed entity keeps its row, without a value: versions go on behind it, so that a version of the removed one
/// never fits one that was made anew. [`EntityRow::apply`] is the meaning of all this.
pub trait EntityStore: Send {
    /// Loads an entity; none if it does not exist.
    fn load(
        &mut self,
        id: &[u8],
        how: Read,
    ) -> impl Future<Output = Result<Option<Versioned>, StoreError>> + Send;

    /// Changes or creates an entity, if it is as expected: its new version.
    fn store(
        &mut self,
        id: &[u8],
        expect: Expect,
        change: Change<'_>,
    ) -> impl Future<Output = Result<u64, CasError>> + Send;

    /// Removes an entity, if it is as expected. With [`Expect::Any`] or [`Expect::Absent`] it need not exist.
    fn remove(
        &mut self,
        id: &[u8],
        expect: Expect,
    ) -> impl Future<Output = Result<(), CasError>> + Send;
}

/// What is stored of an entity, also of one that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EntityRow {
    /// 0 of a placeholder that was only ever locked.
    pub version: u64,
    /// None: it does not exist.
    pub value: Option<Bytes>,
    /// 0 if it does not exist.
    pub amount: i64,
}

impl EntityRow {
    /// The entity, if it exists.
    pub fn entity(&self) -> Option<Versioned> {
        self.value.as_ref().map(|value| Versioned {
            version: self.version,
            value: value.clone(),
            amount: self.amount,
        })
    }

    /// The row behind a change of this one; none stored is the default one.
    ///
    /// # Errors
    /// [`CasError::Conflict`], [`CasError::Short`], [`CasError::Range`].
    pub fn apply(&self, expect: Expect, change: Change<'_>) -> Result<EntityRow, CasError> {
        self.check(expect)?;
        let amount = match change.amount {
            Amount::Keep => self.amount,
            Amount::Set(amount) => amount,
            Amount::Add(amount) => self.amount.checked_add(amount).ok_or(CasError::Range)?,
        };
        if !(-AMOUNT_MAX..=AMOUNT_MAX).contains(&amount) {
            return Err(CasError::Range);
        }
        let value = match change.value {
            Some(value) => Bytes::copy_from_slice(value),
            None => self.value.clone().unwrap_or_default(),
        };
        Ok(EntityRow {
            version: self.version + 1,
            value: Some(value),
            amount,
        })
    }

    /// The row behind a removal; none if there is nothing to remove.
    ///
    /// # Errors
    /// [`CasError::Conflict`], [`CasError::Short`].
    pub fn without(&self, expect: Expect) -> Result<Option<EntityRow>, CasError> {
        self.check(expect)?;
        let removed = EntityRow {
            version: self.version + 1,
            ..EntityRow::default()
        };
        Ok(self.value.is_some().then_some(removed))
    }

    fn check(&self, expect: Expect) -> Result<(), CasError> {
        let found = self.entity();
        let actual = found.as_ref().map(|e| e.version);
        match (expect, &found) {
            (Expect::Any, _) | (Expect::Absent, None) => Ok(()),
            (Expect::Version(version), _) if actual == Some(version) => Ok(()),
            (Expect::AtLeast(wanted), Some(e)) if e.amount >= wanted => Ok(()),
            (Expect::AtLeast(wanted), _) => Err(CasError::Short {
                wanted,
                amount: found.map(|e| e.amount),
            }),
            (Expect::Absent | Expect::Version(_), _) => Err(CasError::Conflict { actual }),
        }
    }
}
