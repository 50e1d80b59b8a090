//! What a consumer does with a store, whichever it is.

use std::sync::Arc;
use std::time::Duration;

use consumer_inbox::{
    Admission, Amount, BizId, Change, ClaimRequest, DedupKey, DedupStore, Delivery, EmbeddedTx,
    EntityStore, Expect, Fingerprint, Inbox, MemoryTx, Outgoing, Part, PgInbox, PgTx, Position,
    RedisTx, Scope, Settlement, SqliteTx, TieredTx,
};
use tokio_postgres::types::Type;

use crate::measure::Run;

/// The tables of the other sides.
pub(crate) const TABLES: &str = "create table effect (id text primary key, body text);
    create table bare (id text primary key);
    create table hand (id text primary key, state smallint not null)";
pub(crate) const BARE: &str = "insert into bare (id) values ($1) on conflict do nothing";
pub(crate) const BEGUN: &str = "insert into hand (id, state) values ($1, 0) on conflict do nothing";
pub(crate) const ENDED: &str = "update hand set state = 2 where id = $1 and state = 0";
pub(crate) const EFFECT: &str = "insert into effect (id, body) values ($1, $2)";
pub(crate) const BODY: &str = "two shirts, blue, to be delivered on Monday";

pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// Accounts that effects change in Redis.
pub(crate) const ACCOUNTS: u64 = 64;

pub(crate) fn account(number: u64) -> String {
    format!("account-{:02}", number % ACCOUNTS)
}

/// Each id is claimed and settled.
pub(crate) async fn claimed<S: DedupStore>(store: &Arc<S>, run: Run) {
    let scope = Scope::new("billing", "orders");
    run.at_once(|task| {
        let (store, scope) = (store.clone(), scope.clone());
        async move {
            for number in run.of_task(task) {
                let key = DedupKey::new(scope.clone(), BizId::new(run.id(number)).unwrap());
                let request = ClaimRequest {
                    origin_ms: Some(1_700_000_000_000 + number),
                    position: Some(at(number)),
                    ..ClaimRequest::new(&key, u128::from(number), Fingerprint([7; 16]), LEASE)
                };
                let held = store.claim(request).await.unwrap().granted().unwrap();
                store.settle(&held, Settlement::Done(None)).await.unwrap();
            }
        }
    })
    .await;
}

/// Each id has its effect, as many in a transaction as there are at once.
pub(crate) async fn acted<I: Inbox<Tx: Effect>>(inbox: &I, run: Run) {
    let part = Part::new(format!("billing-{}", run.number), "orders", 0);
    inbox.assign(&part, 1).await.unwrap();
    for ids in run.transactions() {
        let next = ids.end;
        let mut tx = inbox.begin(&part, 1).await.unwrap();
        for number in ids {
            let id = run.id(number);
            let delivery = Delivery::foreign(&*part.group, at(number), &id, BODY.as_bytes());
            let delivery = delivery.unwrap().stored_at(1_700_000_000_000 + number);
            let answer = inbox.admit(&mut tx, &delivery).await.unwrap();
            assert!(matches!(answer, Admission::Run(())), "{answer:?}");
            tx.effect(number, id).await;
            let done = Settlement::Done(None);
            inbox.settle(&mut tx, &delivery, done).await.unwrap();
        }
        inbox.commit(tx, next).await.unwrap();
    }
}

fn at(offset: u64) -> Position<'static> {
    Position {
        topic: "orders",
        partition: 0,
        offset,
    }
}

/// What a handler does in a transaction.
pub(crate) trait Effect: Sized {
    fn effect(&mut self, number: u64, id: String) -> impl Future<Output = ()>;
}

impl Effect for SqliteTx {
    async fn effect(&mut self, _: u64, id: String) {
        self.run(move |tx| {
            let mut insert = tx.prepare_cached(EFFECT).unwrap();
            insert.execute((id, BODY)).unwrap();
        })
        .await
        .unwrap();
    }
}

impl Effect for PgTx {
    async fn effect(&mut self, _: u64, id: String) {
        let args: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&id, Type::TEXT), (&BODY, Type::TEXT)];
        self.execute_typed(EFFECT, &args).await.unwrap();
    }
}

impl Effect for TieredTx<<PgInbox as Inbox>::Tx> {
    async fn effect(&mut self, number: u64, id: String) {
        self.inner().unwrap().effect(number, id).await;
    }
}

impl Effect for RedisTx {
    async fn effect(&mut self, number: u64, _: String) {
        let change = Change::amount(Amount::Add(1));
        let account = account(number);
        self.store(account.as_bytes(), Expect::Any, change)
            .await
            .unwrap();
    }
}

impl Effect for EmbeddedTx {
    async fn effect(&mut self, _: u64, id: String) {
        self.emit(Outgoing {
            topic: "invoices".into(),
            key: Some(id.into()),
            value: Some(BODY.into()),
            ..Outgoing::default()
        });
    }
}

impl Effect for MemoryTx {
    async fn effect(&mut self, _: u64, _: String) {}
}
