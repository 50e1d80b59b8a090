//! Payments with a provider that knows nothing of our log. Its answers get lost with the consumers that waited for them; each payment is
//! made once all the same.
//!
//! ```text
//! cargo run -p oncelog --features inbox-runner --example payments
//! ```

#![allow(clippy::print_stdout, reason = "programs that say what they did")]

mod shared;

use std::collections::{BTreeMap, HashSet};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use oncelog::inbox::{
    ClaimCx, Consumer, Delivery, EmbeddedStore, Handler, HandlerError, OnUnknown, Policy, Verified,
};
use oncelog::{Engine, Record};
use tokio::sync::{Mutex, Notify};

const PAYMENTS: u64 = 40;
/// The consumer dies with every so-manyth of them.
const DEADLY: u64 = 8;

/// Makes a payment each time it is asked to, and knows the references of those it made.
#[derive(Default)]
struct Provider(Mutex<BTreeMap<String, Vec<u64>>>);

impl Provider {
    async fn pay(&self, reference: String, cents: u64) {
        self.0
            .lock()
            .await
            .entry(reference)
            .or_default()
            .push(cents);
    }

    async fn has_paid(&self, reference: &str) -> bool {
        self.0.lock().await.contains_key(reference)
    }
}

/// What the consumers of this program have in common.
#[derive(Default)]
struct World {
    provider: Provider,
    /// Payments with which a consumer has died.
    died_with: Mutex<HashSet<u64>>,
    dying: Notify,
}

struct Payments(Arc<World>);

impl Handler<ClaimCx> for Payments {
    async fn handle(
        &self,
        claim: &mut ClaimCx,
        payment: &Delivery,
    ) -> Result<Option<Bytes>, HandlerError> {
        let cents = std::str::from_utf8(payment.payload()).ok();
        let cents: u64 = cents
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| HandlerError::Reject("not a number of cents".into()))?;
        self.0.provider.pay(claim.idempotency_key(), cents).await;
        // It is paid, and nobody has noted it down yet: the worst moment to die.
        if cents.is_multiple_of(DEADLY) && self.0.died_with.lock().await.insert(cents) {
            self.0.dying.notify_one();
            pending::<()>().await;
        }
        Ok(None)
    }

    /// The consumer that takes over is told that the one before it crashed, and asks.
    async fn verify(&self, payment: &Delivery) -> Result<Verified, HandlerError> {
        let reference = payment.dedup_key().idempotency_key();
        Ok(match self.0.provider.has_paid(&reference).await {
            true => Verified::Applied(None),
            false => Verified::NotApplied,
        })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let engine = Engine::in_memory();
    engine.ensure_topic("payments", 1)?;
    // Each payment is published twice, by two producers: only its id tells that it is the same.
    for _ in 0..2 {
        let producer = engine.producer().open()?;
        for number in 1..=PAYMENTS {
            let (id, cents) = (format!("P-{number}"), number.to_string());
            producer
                .send(Record::to("payments").value(&cents).biz_id(&id))
                .await?;
        }
        producer.flush().await?;
    }

    let world = Arc::new(World::default());
    let store = EmbeddedStore::open(&engine, "payments")?;
    let (mut crashes, mut verified) = (0, 0);
    loop {
        let policy = Policy::Lease {
            lease: Duration::from_millis(400),
            renew_every: Duration::from_millis(100),
        };
        let group = engine.group("paying").topic("payments");
        let consumer = Consumer::claimed(group, store.clone(), policy, Payments(world.clone()))
            .visibility(Duration::from_millis(300))
            .margin(Duration::from_millis(50))
            .on_unknown(OnUnknown::VerifyOrPark)
            .dead_letter("payments.dead")
            .build()?;
        let metrics = consumer.metrics();
        let is_done = tokio::select! {
            done = consumer.run(shared::caught_up(engine.clone(), "paying")) => {
                done?;
                true
            }
            // Dropped in the middle of it, as a process that dies.
            () = world.dying.notified() => false,
        };
        verified += metrics.summary().verified_applied;
        if is_done {
            break;
        }
        crashes += 1;
    }

    let paid = world.provider.0.lock().await;
    let (payments, charges) = (paid.len(), paid.values().map(Vec::len).sum::<usize>());
    println!(
        "{PAYMENTS} payments in {} records, {crashes} crashes between payment and mark: {charges} charges, {verified} found to be made",
        2 * PAYMENTS
    );
    ensure!(payments as u64 == PAYMENTS && charges == payments);
    ensure!(crashes >= 1 && verified >= 1);
    drop(paid);
    engine.close()?;
    Ok(())
}
