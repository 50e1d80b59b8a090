//! One record, and one way to consume it.

use consumer_inbox::failpoints::{Point, hit};
use consumer_inbox::{Admission, Delivery, Inbox, Part, Position, Settlement, StoreError};

pub fn part() -> Part {
    Part::new("billing", "orders", 0)
}

pub fn delivery(id: &str, offset: u64) -> Delivery {
    let at = Position {
        topic: "orders",
        partition: 0,
        offset,
    };
    Delivery::foreign("billing", at, id, &b"payload"[..]).unwrap()
}

/// What consumes: an inbox, and an effect that adds one.
pub trait Consumer {
    type Inbox: Inbox;

    fn inbox(&self) -> &Self::Inbox;

    async fn effect(
        &self,
        tx: &mut <Self::Inbox as Inbox>::Tx,
        name: &str,
    ) -> Result<(), StoreError>;
}

/// A whole transaction of one delivery, with the places to die at. Whether the effect was done.
pub async fn consume<C: Consumer>(consumer: &C, delivery: &Delivery) -> Result<bool, StoreError> {
    hit(Point::C0).await?;
    let inbox = consumer.inbox();
    let mut tx = inbox.begin(delivery.part(), delivery.epoch()).await?;
    let answer = inbox.admit(&mut tx, delivery).await?;
    if let Admission::Run(()) = answer {
        consumer
            .effect(&mut tx, delivery.biz_id_str().unwrap())
            .await?;
        hit(Point::C2).await?;
        let done = Settlement::Done(None);
        inbox.settle(&mut tx, delivery, done).await?;
    }
    inbox.commit(tx, delivery.offset() + 1).await?;
    Ok(matches!(answer, Admission::Run(())))
}
