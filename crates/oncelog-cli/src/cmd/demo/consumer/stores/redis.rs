//! Redis has no transaction with the effect: claims with a lease say who works on an order, and the effect is a write that may be repeated.

use std::time::Duration;

use anyhow::Context as _;
use oncelog::Member;
use oncelog::inbox::DedupStore as _;
use oncelog::inbox::{
    Admission, Delivery, Guard, IdPolicy, Owners, RedisEffects, RedisOptions, RedisStore,
    Settlement, StoreError, Written,
};

use super::server::{name, runtime};
use crate::cmd::demo::consumer::careful::GROUP;
use crate::cmd::demo::consumer::drive::{Act, Counts, Drive, Point};
use crate::cmd::demo::consumer::{Effects, ORDERS, Run};
use crate::exit::Stop;

/// How long a consumer that died keeps the next one from its order.
const LEASE: Duration = Duration::from_millis(50);
/// Keys of one step of the removal.
const PIECE: usize = 1_000;

pub(super) fn consume(run: &Run<'_>, url: &str, records: u64) -> anyhow::Result<(Counts, Effects)> {
    let runtime = runtime()?;
    let _entered = runtime.enter();
    // What dies here are consumers: a server of any setting will do.
    let options = RedisOptions::new().lossy();
    let store = run.wait(RedisStore::connect(url, options));
    let store = store.context("--url: the server was not reached")?;
    let group = name();
    let mut claiming = Claiming {
        run,
        effects: store.effects(),
        store,
        group: group.clone(),
        owners: Owners::random(),
        applied: Effects::none(run.orders)?,
    };
    let progress = run.progress("consume", records);
    let consumed = Drive::new(run, GROUP, &progress)?.through(&mut claiming);
    let consumed = consumed.and_then(|counts| Ok((counts, claiming.stored()?)));
    drop(progress);
    // Also when the run was interrupted, so this one is not.
    let removed = runtime.block_on(remove(url, &group));
    let consumed = consumed?;
    removed.with_context(|| format!("keys of {group} are left on the server"))?;
    Ok(consumed)
}

struct Claiming<'a> {
    run: &'a Run<'a>,
    store: RedisStore,
    effects: RedisEffects,
    /// Of the ids and the effects: other runs have others.
    group: String,
    owners: Owners,
    /// Effects that the server said it had not had before.
    applied: Effects,
}

impl Claiming<'_> {
    fn key(&self, value: &[u8]) -> Vec<u8> {
        [self.group.as_bytes(), b":", value].concat()
    }

    /// Counts only what is there still.
    fn stored(&self) -> anyhow::Result<Effects> {
        let mut stored = Effects::none(self.run.orders)?;
        for (order, times) in (0..self.run.orders).zip(&self.applied.0) {
            let value = super::super::publish::value(order);
            let found = self
                .run
                .wait(self.effects.get(&self.key(value.as_bytes())))?;
            let is_there =
                found.is_some_and(|found| found.value.as_deref() == Some(value.as_bytes()));
            for _ in 0..if is_there { *times } else { 0 } {
                stored.add(value.as_bytes())?;
            }
        }
        Ok(stored)
    }

    /// None if it is done.
    fn claim(&self, delivery: &Delivery) -> anyhow::Result<Option<oncelog::inbox::Held>> {
        loop {
            let claim = self.store.claim(delivery.claim(self.owners.next(), LEASE));
            match self.run.wait(claim)? {
                Admission::Run(held) => return Ok(Some(held)),
                Admission::Done(_) => return Ok(None),
                // Of a consumer that died.
                Admission::Busy { retry_after } => {
                    let pause = tokio::time::timeout(retry_after, std::future::pending::<()>());
                    let paused = async { Ok::<_, StoreError>(pause.await.is_err()) };
                    self.run.wait(paused)?;
                }
                answer => return Err(Stop::Failed(format!("{delivery:?}: {answer:?}")).into()),
            }
        }
    }
}

impl Act for Claiming<'_> {
    fn begin(&mut self, _: &Member) -> anyhow::Result<()> {
        Ok(())
    }

    fn act(
        &mut self,
        batch: &[oncelog::Delivery],
        death: Option<(usize, Point)>,
    ) -> anyhow::Result<()> {
        for (at, delivery) in batch.iter().enumerate() {
            let dies =
                |points: &[Point]| death.is_some_and(|(of, p)| of == at && points.contains(&p));
            if dies(&[Point::C0]) {
                return Ok(());
            }
            let known = Delivery::of_group(&*self.group, delivery, IdPolicy::Fail)?;
            let known = known.in_scenario(ORDERS);
            let held = self.claim(&known)?;
            if dies(&[Point::C1]) {
                return Ok(());
            }
            if let Some(held) = held {
                let value = known.payload();
                let key = self.key(value);
                let set = self.effects.set(&key, value, Guard::Version(1));
                if self.run.wait(set)? == Written::Applied {
                    self.applied.add(value)?;
                }
                // A write is there or is not: there is no middle.
                if dies(&[Point::C2, Point::C3]) {
                    return Ok(());
                }
                self.run
                    .wait(self.store.settle(&held, Settlement::Done(None)))?;
            }
            // Done before: it dies there as well, and does nothing.
            if dies(&[Point::C2, Point::C3, Point::C4]) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Removes the effects, and what the store has of the group.
async fn remove(url: &str, group: &str) -> anyhow::Result<()> {
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let scope = oncelog::inbox::Scope::new(group, ORDERS);
    let ids = format!("oncelog:{{{:032x}}}:*", u128::from_be_bytes(scope.digest()));
    for pattern in [ids, format!("{group}:*")] {
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern);
            scan.arg("COUNT").arg(PIECE);
            let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await?;
            if !keys.is_empty() {
                let mut delete = redis::cmd("UNLINK");
                let () = delete.arg(keys).query_async(&mut connection).await?;
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    Ok(())
}
