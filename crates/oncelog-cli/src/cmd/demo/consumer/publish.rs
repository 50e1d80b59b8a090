//! Orders, and some of them again: whoever publishes restarts, and does not know what of its last orders arrived.

use std::time::Duration;

use oncelog::{Producer, Record, Ticket};

use super::{ORDERS, Run};
use crate::dice::Dice;
use crate::progress::Progress;

/// Restarts of the publisher.
const LIVES: u64 = 20;
/// Share of the orders that the next life publishes again.
const AGAIN: f64 = 0.02;
/// A batch leaves when it is full, and when it is waited for; never because of the time.
const NEVER: Duration = Duration::from_secs(365 * 86_400);
/// Sets these dice apart from others.
const REPUBLISHED: u64 = 0x7265_7075_626c_6973;
const PLACES: u64 = 0x706c_6163_6573_0000;

/// The value of an order, and of its effect.
pub(super) fn value(order: u64) -> String {
    format!("order {order:010}")
}

/// The order of a value.
pub(super) fn order(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    text.strip_prefix("order ")?.parse().ok()
}

/// Publishes all orders; how many again.
pub(super) fn publish(run: &Run<'_>, progress: &Progress) -> anyhow::Result<u64> {
    let (orders, mut republished) = (run.orders, 0);
    for life in 0..LIVES {
        // Another producer, with another id: to the log its records are new.
        let producer = run.engine.producer().linger(NEVER).batch_records(100);
        let producer = producer.buffer_bytes(64 << 20).open()?;
        let before = orders * life.saturating_sub(1) / LIVES;
        let (from, to) = (orders * life / LIVES, orders * (life + 1) / LIVES);
        let mut last: Option<Ticket> = None;
        for order in before..from {
            if Dice::of(&[run.seed, REPUBLISHED, order]).falls(AGAIN) {
                last = Some(send(run, &producer, (order, 1))?);
                republished += 1;
            }
        }
        for order in from..to {
            last = Some(send(run, &producer, (order, 0))?);
        }
        run.wait(producer.flush())?;
        if let Some(ticket) = last {
            run.wait(ticket.into_future())?;
        }
        progress.add(to - from);
    }
    Ok(republished)
}

// A copy goes to a partition of its own choice: nothing but the id says that it is the same order.
fn send(run: &Run<'_>, producer: &Producer, (order, copy): (u64, u64)) -> anyhow::Result<Ticket> {
    let key = Dice::of(&[run.seed, PLACES, order, copy]).below(1 << 20);
    let (id, key, value) = (order.to_string(), key.to_be_bytes(), value(order));
    let record = Record::to(ORDERS).biz_id(&id).key(&key).value(&value);
    run.wait(producer.send(record))
}
