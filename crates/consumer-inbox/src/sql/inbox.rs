//! A transaction of an inbox: its partition, its epoch, its savepoint, and the guard before its commit.

use super::ids::{claim_behind, park, set_result, signed};
use super::session::{Kind, Session, row};
use super::tx::LOCKED;
use super::value::Value;
use crate::admission::{Admission, Receipt, Settlement, Token};
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::identity::{DedupKey, Part};

/// What a transaction knows of itself.
#[derive(Debug)]
pub(crate) struct Open {
    part: Part,
    epoch: u64,
    /// The position that was stored when it began.
    next: Option<u64>,
    /// What runs inside the savepoint.
    admitted: Option<DedupKey>,
}

impl Open {
    pub(crate) async fn begin<S: Session>(
        session: &mut S,
        part: &Part,
        epoch: u64,
    ) -> Result<Open, StoreError> {
        let find = S::DIALECT.statements().find_position;
        let (current, next) = position(session, find, part).await?.unwrap_or((0, None));
        if current != epoch {
            return Err(StoreError::Fenced {
                held: epoch,
                current,
            });
        }
        Ok(Open {
            part: part.clone(),
            epoch,
            next,
            admitted: None,
        })
    }

    pub(crate) async fn admit<S: Session>(
        &mut self,
        session: &mut S,
        delivery: &Delivery,
    ) -> Result<Admission<()>, StoreError> {
        if self.admitted.is_some() {
            return Err(StoreError::Misuse(
                "settle the last delivery before the next is admitted",
            ));
        }
        if *delivery.part() != self.part {
            return Err(StoreError::Misuse(
                "a transaction carries deliveries of one partition",
            ));
        }
        if self.next.is_some_and(|next| delivery.offset() < next) {
            return Ok(Admission::Done(Receipt {
                token: Token::NONE,
                result: None,
            }));
        }
        match claim_behind(session, "savepoint oncelog", delivery).await {
            Ok(Admission::Run(())) => {
                self.admitted = Some(delivery.dedup_key().clone());
                Ok(Admission::Run(()))
            }
            Ok(answer) => {
                session.batch("release savepoint oncelog").await?;
                Ok(answer)
            }
            // Another transaction has the id for too long, or waits for one of ours. What was settled before stays.
            Err(StoreError::Busy { .. } | StoreError::Conflict) => {
                session.batch(BACK).await?;
                Ok(Admission::Busy {
                    retry_after: LOCKED,
                })
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn settle<S: Session>(
        &mut self,
        session: &mut S,
        delivery: &Delivery,
        how: Settlement,
    ) -> Result<(), StoreError> {
        if self.admitted.as_ref() != Some(delivery.dedup_key()) {
            return Err(StoreError::Misuse(
                "only the delivery that was admitted last is settled",
            ));
        }
        match how {
            Settlement::Done(result) => {
                set_result(session, delivery, result.as_deref()).await?;
                session.batch("release savepoint oncelog").await?;
            }
            Settlement::Released => session.batch(BACK).await?,
            Settlement::Parked => {
                session.batch(BACK).await?;
                park(session, delivery, session.now_ms()).await?;
            }
        }
        self.admitted = None;
        Ok(())
    }

    /// The last statement before the commit: the partition is still ours, and the position moves.
    pub(crate) async fn guard<S: Session>(
        &self,
        session: &mut S,
        next: u64,
    ) -> Result<(), StoreError> {
        if self.admitted.is_some() {
            return Err(StoreError::Misuse(
                "a delivery was admitted and not settled",
            ));
        }
        let statements = S::DIALECT.statements();
        let [consumers, topic, partition] = args(&self.part);
        let epoch = signed(self.epoch)?.into();
        let ours = if next > self.next.unwrap_or(0) {
            let raise = [signed(next)?.into(), consumers, topic, partition, epoch];
            session.execute(statements.raise_position, &raise).await? == 1
        } else {
            let guard = [consumers, topic, partition, epoch];
            row(session, statements.guard, &guard, &[Kind::Int])
                .await?
                .is_some()
        };
        if ours {
            return Ok(());
        }
        let stored = position(session, statements.find_position, &self.part).await?;
        Err(StoreError::Fenced {
            held: self.epoch,
            current: stored.map_or(0, |(epoch, _)| epoch),
        })
    }
}

/// Back to the savepoint, which goes too.
const BACK: &str = "rollback to savepoint oncelog; release savepoint oncelog";

/// In a transaction of its own.
pub(crate) async fn assign<S: Session>(
    session: &mut S,
    part: &Part,
    epoch: u64,
) -> Result<Option<u64>, StoreError> {
    if epoch == 0 {
        return Err(StoreError::Misuse("epochs count from 1"));
    }
    let statements = S::DIALECT.statements();
    let [consumers, topic, partition] = args(part);
    let add = [consumers, topic, partition];
    session.execute(statements.add_position, &add).await?;
    // Waits for every commit that holds the row, and keeps the next ones out.
    let stored = position(session, statements.lock_position, part).await?;
    let (current, next) = stored.unwrap_or((0, None));
    if epoch < current {
        return Err(StoreError::Fenced {
            held: epoch,
            current,
        });
    }
    if epoch > current {
        let assign = [signed(epoch)?.into(), consumers, topic, partition];
        session.execute(statements.assign, &assign).await?;
    }
    Ok(next)
}

pub(crate) async fn position<S: Session>(
    session: &mut S,
    sql: &str,
    part: &Part,
) -> Result<Option<(u64, Option<u64>)>, StoreError> {
    let Some(mut cells) = row(session, sql, &args(part), &[Kind::Int, Kind::Int]).await? else {
        return Ok(None);
    };
    let epoch = cells.count()?;
    let next = cells
        .maybe_int()?
        .map(|next| u64::try_from(next).unwrap_or(0));
    Ok(Some((epoch, next)))
}

fn args(part: &Part) -> [Value<'_>; 3] {
    [
        (&*part.group).into(),
        (&*part.topic).into(),
        i64::from(part.partition).into(),
    ]
}
