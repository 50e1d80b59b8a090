//! A handler from a closure over the SQLite transaction.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Transaction;

use super::tx::SqliteTx;
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::handler::{Handler, HandlerError};
use crate::identity::IdError;

/// Any error, so that `?` takes what `rusqlite` says. A [`HandlerError`] in it is taken as such, an [`IdError`] refuses the record for good,
/// anything else asks for another try.
pub type EffectError = Box<dyn Error + Send + Sync>;

/// What an effect returns: nothing, or the result to store.
pub trait EffectResult: Send + 'static {
    /// The result.
    fn into_result(self) -> Option<Bytes>;
}

impl EffectResult for () {
    fn into_result(self) -> Option<Bytes> {
        None
    }
}

impl EffectResult for Bytes {
    fn into_result(self) -> Option<Bytes> {
        Some(self)
    }
}

impl EffectResult for Option<Bytes> {
    fn into_result(self) -> Option<Bytes> {
        self
    }
}

/// What [`sqlite_effect`] makes.
pub struct SqliteEffect<F>(Arc<F>);

impl<F> fmt::Debug for SqliteEffect<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteEffect").finish_non_exhaustive()
    }
}

/// A handler that runs `effect` on the connection's thread, inside the transaction with the id and the position.
///
/// ```
/// use consumer_inbox::{Delivery, sqlite_effect};
///
/// let billing = sqlite_effect(|tx: &rusqlite::Transaction<'_>, order: &Delivery| {
///     tx.execute("insert into invoice (id, body) values (?1, ?2)", (order.biz_id_str()?, order.payload()))?;
///     Ok(())
/// });
/// ```
pub fn sqlite_effect<R, F>(effect: F) -> SqliteEffect<F>
where
    R: EffectResult,
    F: Fn(&Transaction<'_>, &Delivery) -> Result<R, EffectError> + Send + Sync + 'static,
{
    SqliteEffect(Arc::new(effect))
}

impl<R, F> Handler<SqliteTx> for SqliteEffect<F>
where
    R: EffectResult,
    F: Fn(&Transaction<'_>, &Delivery) -> Result<R, EffectError> + Send + Sync + 'static,
{
    async fn handle(
        &self,
        tx: &mut SqliteTx,
        delivery: &Delivery,
    ) -> Result<Option<Bytes>, HandlerError> {
        let (effect, delivery) = (self.0.clone(), delivery.clone());
        let done = tx.run(move |tx| effect(tx, &delivery)).await;
        match done {
            Ok(Ok(result)) => Ok(result.into_result()),
            Ok(Err(error)) => Err(judged(error)),
            Err(StoreError::Misuse(why)) => Err(HandlerError::Fatal(why.into())),
            Err(_) => Err(HandlerError::Retry { after: None }),
        }
    }
}

fn judged(error: EffectError) -> HandlerError {
    match error.downcast::<HandlerError>() {
        Ok(error) => *error,
        Err(error) if error.is::<IdError>() => HandlerError::Reject(error.to_string()),
        Err(_) => HandlerError::Retry { after: None },
    }
}
