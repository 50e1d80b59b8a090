//! Cases 31 to 43, and 70: effect, id and position together. Deaths of a process are each store's own cases; here a
//! transaction is dropped, or the store opened again.

use bytes::Bytes;

use super::{InboxFixture, Outcome};
use crate::admission::{Admission, Receipt, Settlement, Token};
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::identity::{Part, Position, Scope};
use crate::inbox::{Inbox, seek_to};

pub(super) type Tx<F> = <<F as InboxFixture>::Inbox as Inbox>::Tx;

const TOPIC: &str = "orders";
const ONE_WRITER: Outcome = Outcome::NotApplicable("it has one transaction at a time");

/// A partition that was assigned at epoch 1, in a scope of its own.
pub(super) struct World<'f, F: InboxFixture> {
    pub(super) f: &'f F,
    pub(super) scope: Scope,
    pub(super) part: Part,
}

impl<'f, F: InboxFixture> World<'f, F> {
    pub(super) async fn new(f: &'f F) -> World<'f, F> {
        let scope = f.scope();
        let part = Part::new(scope.group.clone(), TOPIC, 0);
        let world = World { f, scope, part };
        assert_eq!(world.assign(1).await, None);
        world
    }

    pub(super) async fn assign(&self, epoch: u64) -> Option<u64> {
        self.f.inbox().assign(&self.part, epoch).await.unwrap()
    }

    pub(super) fn delivery(&self, id: &str, offset: u64) -> Delivery {
        let at = Position {
            topic: TOPIC,
            partition: 0,
            offset,
        };
        let delivery = Delivery::foreign(self.scope.group.clone(), at, id, &b"payload"[..]);
        delivery.unwrap().in_scenario(self.scope.scenario.clone())
    }

    /// What counts the effects of an id.
    pub(super) fn effect(&self, id: &str) -> String {
        format!("{}/{}/{id}", self.scope.group, self.scope.scenario)
    }

    pub(super) async fn begin(&self, epoch: u64) -> Tx<F> {
        self.f.inbox().begin(&self.part, epoch).await.unwrap()
    }

    pub(super) async fn admit(&self, tx: &mut Tx<F>, delivery: &Delivery) -> Admission<()> {
        self.f.inbox().admit(tx, delivery).await.unwrap()
    }

    /// Admitted, and its effect done.
    pub(super) async fn work(&self, tx: &mut Tx<F>, delivery: &Delivery) {
        assert_eq!(self.admit(tx, delivery).await, Admission::Run(()));
        let effect = self.effect(delivery.biz_id_str().unwrap());
        self.f.apply(tx, &effect).await.unwrap();
    }

    pub(super) async fn settle(&self, tx: &mut Tx<F>, delivery: &Delivery, how: Settlement) {
        self.f.inbox().settle(tx, delivery, how).await.unwrap();
    }

    pub(super) async fn commit(&self, tx: Tx<F>, next: u64) {
        self.f.inbox().commit(tx, next).await.unwrap();
    }

    /// A whole transaction of one delivery.
    pub(super) async fn done(&self, delivery: &Delivery, next: u64) {
        let mut tx = self.begin(delivery.epoch()).await;
        self.work(&mut tx, delivery).await;
        self.settle(&mut tx, delivery, Settlement::Done(None)).await;
        self.commit(tx, next).await;
    }

    /// What a transaction that changes nothing is answered.
    pub(super) async fn asked(&self, delivery: &Delivery, epoch: u64) -> Admission<()> {
        let mut tx = self.begin(epoch).await;
        self.admit(&mut tx, delivery).await
    }

    pub(super) async fn count(&self, id: &str) -> u64 {
        self.f.count(&self.effect(id)).await
    }
}

pub(super) fn is_done(answer: &Admission<()>) {
    assert!(matches!(answer, Admission::Done(_)), "{answer:?}");
}

/// Given death after the effect, before COMMIT, then no id, no effect, old position; redelivery applies once.
pub async fn case_31<F: InboxFixture>(f: &F) -> Outcome {
    let w = World::new(f).await;
    w.done(&w.delivery("before", 6), 7).await;
    let x = w.delivery("x", 7);
    let mut tx = w.begin(1).await;
    w.work(&mut tx, &x).await;
    w.settle(&mut tx, &x, Settlement::Done(None)).await;
    drop(tx);
    if f.is_durable() {
        f.reopen().await;
    }
    assert_eq!(w.count("x").await, 0);
    assert_eq!(w.assign(1).await, Some(7));
    w.done(&x, 8).await;
    assert_eq!(w.count("x").await, 1);
    Outcome::Ok
}

/// Given death right after COMMIT, before ack, then `assign` returns offset 8, and the record is done; effect 1.
pub async fn case_32<F: InboxFixture>(f: &F) -> Outcome {
    let w = World::new(f).await;
    let x = w.delivery("x", 7);
    w.done(&x, 8).await;
    if f.is_durable() {
        f.reopen().await;
    }
    assert_eq!(w.assign(2).await, Some(8));
    let (token, result) = (Token::NONE, None);
    let receipt = Receipt { token, result };
    assert_eq!(w.asked(&x, 2).await, Admission::Done(receipt));
    assert_eq!(w.count("x").await, 1);
    Outcome::Ok
}

/// Given the log's committed offset is 3 and the database says 8, then consumption resumes at 8; given 8 < log start 20, then `Gap`
/// (E10). A position is never lowered.
pub async fn case_33<F: InboxFixture>(f: &F) -> Outcome {
    let w = World::new(f).await;
    assert_eq!(seek_to(w.assign(1).await, 3, 10).unwrap(), None);
    w.done(&w.delivery("x", 7), 8).await;
    w.done(&w.delivery("y", 12), 3).await;
    w.done(&w.delivery("z", 13), 0).await;
    let stored = w.assign(2).await;
    assert_eq!(seek_to(stored, 3, 14).unwrap(), Some(8));
    // Below it everything is done, whether its id is known or forgotten; above it that is for the ids to say.
    is_done(&w.asked(&w.delivery("never seen", 7), 2).await);
    assert_eq!(
        w.asked(&w.delivery("never seen", 8), 2).await,
        Admission::Run(())
    );
    let (below, above) = (seek_to(stored, 20, 30), seek_to(stored, 0, 7));
    assert!(
        matches!(below, Err(StoreError::Gap { want: 8, have: 20 })),
        "{below:?}"
    );
    assert!(
        matches!(above, Err(StoreError::Gap { want: 8, have: 7 })),
        "{above:?}"
    );
    Outcome::Ok
}

/// Given two transactions with the same id at once, then the second waits, or is `Busy`; first commits → second `Done`; first rolls
/// back → second runs.
pub async fn case_36<F: InboxFixture>(f: &F) -> Outcome {
    if !f.side_by_side() {
        return ONE_WRITER;
    }
    let w = World::new(f).await;
    for commits in [true, false] {
        let id = format!("commits: {commits}");
        let x = w.delivery(&id, 7);
        let (mut first, mut second) = (w.begin(1).await, w.begin(1).await);
        w.work(&mut first, &x).await;
        w.settle(&mut first, &x, Settlement::Done(None)).await;
        let (inbox, delivery) = (f.inbox(), x.clone());
        let asking = tokio::spawn(async move {
            let answer = inbox.admit(&mut second, &delivery).await;
            (answer.unwrap(), second)
        });
        // A store that waits answers when it knows what became of the first.
        let mut asking = Some(asking);
        let busy = match f.waits() {
            true => None,
            false => Some(asking.take().unwrap().await.unwrap()),
        };
        match commits {
            true => w.commit(first, 0).await,
            false => drop(first),
        }
        let (answer, mut second) = match (busy, asking) {
            (Some((Admission::Busy { .. }, mut second)), _) => {
                (w.admit(&mut second, &x).await, second)
            }
            (None, Some(asking)) => asking.await.unwrap(),
            (other, _) => panic!("not Busy, but {:?}", other.map(|(answer, _)| answer)),
        };
        if commits {
            is_done(&answer);
        } else {
            assert_eq!(answer, Admission::Run(()));
            f.apply(&mut second, &w.effect(&id)).await.unwrap();
            w.settle(&mut second, &x, Settlement::Done(None)).await;
        }
        w.commit(second, 0).await;
        assert_eq!(w.count(&id).await, 1);
    }
    Outcome::Ok
}

/// Given consumer A paused inside a transaction and the partition reassigned with a higher epoch, when A commits, then `Fenced`,
/// A's effect is gone, B's stands.
pub async fn case_37<F: InboxFixture>(f: &F) -> Outcome {
    if !f.side_by_side() {
        return ONE_WRITER;
    }
    let w = World::new(f).await;
    let (x, y) = (w.delivery("x", 7), w.delivery("y", 8));
    let mut paused = w.begin(1).await;
    w.work(&mut paused, &x).await;
    w.settle(&mut paused, &x, Settlement::Done(None)).await;
    assert_eq!(w.assign(2).await, None);
    w.done(&y.at_epoch(2), 0).await;
    let fenced = f.inbox().commit(paused, 100).await;
    assert!(
        matches!(
            fenced,
            Err(StoreError::Fenced {
                held: 1,
                current: 2
            })
        ),
        "{fenced:?}"
    );
    assert_eq!((w.count("x").await, w.count("y").await), (0, 1));
    w.done(&x.at_epoch(2), 8).await;
    assert_eq!(w.count("x").await, 1);
    assert_eq!(w.assign(2).await, Some(8), "not what the fenced one said");
    Outcome::Ok
}

/// Given x re-published as offset 9, then offset 9 is `Done`, position advances to 10, effect 1.
pub async fn case_38<F: InboxFixture>(f: &F) -> Outcome {
    let w = World::new(f).await;
    let x = w.delivery("x", 7);
    let mut tx = w.begin(1).await;
    w.work(&mut tx, &x).await;
    let result = Some(Bytes::from_static(b"\0r"));
    w.settle(&mut tx, &x, Settlement::Done(result.clone()))
        .await;
    w.commit(tx, 8).await;
    let mut tx = w.begin(1).await;
    let answer = w.admit(&mut tx, &w.delivery("x", 9)).await;
    let token = Token::NONE;
    assert_eq!(answer, Admission::Done(Receipt { token, result }));
    w.commit(tx, 10).await;
    assert_eq!(w.assign(2).await, Some(10));
    assert_eq!(w.count("x").await, 1);
    Outcome::Ok
}

/// Given a batch of 10 with record 5 failing, then the others commit, 5 alone is released, position stays at 5; on redelivery 6–10
/// are `Done`, effect of each is 1.
pub async fn case_39<F: InboxFixture>(f: &F) -> Outcome {
    let w = World::new(f).await;
    let batch: Vec<_> = (1..=10).map(|n| w.delivery(&n.to_string(), n)).collect();
    let mut tx = w.begin(1).await;
    for delivery in &batch {
        w.work(&mut tx, delivery).await;
        let how = match delivery.offset() {
            5 => Settlement::Released,
            _ => Settlement::Done(None),
        };
        w.settle(&mut tx, delivery, how).await;
    }
    w.commit(tx, 5).await;
    assert_eq!(w.assign(2).await, Some(5));
    let mut tx = w.begin(2).await;
    for delivery in &batch {
        let n = delivery.offset();
        assert_eq!(w.count(&n.to_string()).await, u64::from(n != 5), "{n}");
        if n == 5 {
            w.work(&mut tx, delivery).await;
            w.settle(&mut tx, delivery, Settlement::Done(None)).await;
        } else {
            is_done(&w.admit(&mut tx, delivery).await);
        }
    }
    w.commit(tx, 11).await;
    assert_eq!(w.count("5").await, 1);
    assert_eq!(w.assign(2).await, Some(11));
    Outcome::Ok
}

/// Given a batch containing x twice, then the second occurrence is `Done` inside the same transaction.
pub async fn case_40<F: InboxFixture>(f: &F) -> Outcome {
    let w = World::new(f).await;
    let mut tx = w.begin(1).await;
    let first = w.delivery("x", 7);
    w.work(&mut tx, &first).await;
    w.settle(&mut tx, &first, Settlement::Done(None)).await;
    is_done(&w.admit(&mut tx, &w.delivery("x", 8)).await);
    let other = w.delivery("x", 9).fingerprint_of(b"other");
    let answer = w.admit(&mut tx, &other).await;
    assert!(matches!(answer, Admission::Mismatch { .. }), "{answer:?}");
    // Released, it may run again, also here.
    let y = w.delivery("y", 10);
    w.work(&mut tx, &y).await;
    w.settle(&mut tx, &y, Settlement::Released).await;
    w.work(&mut tx, &y).await;
    w.settle(&mut tx, &y, Settlement::Done(None)).await;
    w.commit(tx, 11).await;
    assert_eq!((w.count("x").await, w.count("y").await), (1, 1));
    Outcome::Ok
}

/// Given the handler is cancelled in the middle, then nothing is committed, and the next transaction inherits nothing of it.
pub async fn case_42<F: InboxFixture>(f: &F) -> Outcome {
    let w = World::new(f).await;
    let (x, y) = (w.delivery("x", 7), w.delivery("y", 8));
    for _ in 0..20 {
        let mut tx = w.begin(1).await;
        w.work(&mut tx, &y).await;
        w.settle(&mut tx, &y, Settlement::Done(None)).await;
        w.work(&mut tx, &x).await;
    }
    w.done(&x, 8).await;
    assert_eq!((w.count("x").await, w.count("y").await), (1, 0));
    w.done(&y, 9).await;
    assert_eq!(w.count("y").await, 1);
    Outcome::Ok
}

/// Given batches inserting ids {a,b} and {b,a} again and again, then no deadlock reaches the user, and each effect is there once.
pub async fn case_43<F: InboxFixture>(f: &F) -> Outcome {
    if !f.side_by_side() {
        return ONE_WRITER;
    }
    let w = World::new(f).await;
    for round in 0..10 {
        let ids = [format!("a{round}"), format!("b{round}")];
        let (forth, back) = ([0, 1], [1, 0]);
        let (one, other) = tokio::join!(in_order(&w, &ids, forth), in_order(&w, &ids, back));
        assert_eq!(one + other, 2);
        for id in &ids {
            assert_eq!(w.count(id).await, 1, "{id}");
        }
    }
    Outcome::Ok
}

// Applies the effects of two ids in one transaction, from the beginning if it has to wait: how many were its own.
async fn in_order<F: InboxFixture>(w: &World<'_, F>, ids: &[String; 2], order: [usize; 2]) -> u64 {
    // It has to wait for one other transaction, not for ever.
    'again: for _ in 0..100_000 {
        let mut tx = w.begin(1).await;
        let mut mine = 0;
        for n in order {
            let delivery = w.delivery(&ids[n], 7 + n as u64);
            match admitted(w, &mut tx, &delivery).await {
                Some(Admission::Run(())) => {
                    w.f.apply(&mut tx, &w.effect(&ids[n])).await.unwrap();
                    w.settle(&mut tx, &delivery, Settlement::Done(None)).await;
                    mine += 1;
                }
                Some(Admission::Done(_)) => {}
                None | Some(Admission::Busy { .. }) => {
                    drop(tx);
                    tokio::task::yield_now().await;
                    continue 'again;
                }
                Some(other) => panic!("{other:?}"),
            }
            tokio::task::yield_now().await;
        }
        match w.f.inbox().commit(tx, 0).await {
            Ok(()) => return mine,
            Err(StoreError::Conflict | StoreError::Busy { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("an id stays busy: {ids:?}");
}

// None: the store asks to begin again.
async fn admitted<F: InboxFixture>(
    w: &World<'_, F>,
    tx: &mut Tx<F>,
    delivery: &Delivery,
) -> Option<Admission<()>> {
    match w.f.inbox().admit(tx, delivery).await {
        Ok(answer) => Some(answer),
        Err(StoreError::Conflict | StoreError::Busy { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Given `+1` around a lost commit reply, then the id makes the sum right.
pub async fn case_70<F: InboxFixture>(f: &F) -> Outcome {
    let w = World::new(f).await;
    let sum = w.effect("sum");
    for n in 0..10 {
        let add = w.delivery(&n.to_string(), n);
        for _ in 0..3 {
            let mut tx = w.begin(1).await;
            if let Admission::Run(()) = w.admit(&mut tx, &add).await {
                f.apply(&mut tx, &sum).await.unwrap();
                w.settle(&mut tx, &add, Settlement::Done(None)).await;
            }
            // Whatever it says, it is tried again.
            w.commit(tx, 0).await;
        }
    }
    assert_eq!(f.count(&sum).await, 10);
    Outcome::Ok
}
