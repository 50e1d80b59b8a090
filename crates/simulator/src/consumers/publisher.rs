//! Who publishes orders: each must get there, so what got no answer is published again, by whichever producer is there then.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::time::Duration;

use oncelog::{AppendError, Producer, Record, RecordMetadata};

use super::ORDERS;
use crate::batch::value;
use crate::random::Random;
use crate::violation::{Violation, violated};
use crate::world::{Task, World, poll};

/// Orders of a run, at most.
const ORDERS_MAX: u64 = 60;

/// What is known of an order.
#[derive(Debug, Default)]
struct Order {
    is_stored: bool,
    /// Records of it that reached the log.
    records: u64,
}

/// All orders, and the producer that publishes them at the moment.
#[derive(Default)]
pub(super) struct Publisher {
    orders: BTreeMap<u64, Order>,
    /// To be published again, for nobody knows.
    doubts: Vec<u64>,
    producer: Option<Producer>,
    tickets: Vec<(u64, Task<Result<RecordMetadata, AppendError>>)>,
}

impl Publisher {
    /// What is left of it when the process is gone.
    pub(super) fn lost(mut self) -> Publisher {
        self.restart();
        self
    }

    /// The next one is another producer, and knows only what was answered.
    pub(super) fn restart(&mut self) {
        self.producer = None;
        let tickets = self.tickets.drain(..);
        self.doubts.extend(tickets.map(|(order, _)| order));
    }

    pub(super) fn is_ordered(&self, order: u64) -> bool {
        self.orders.contains_key(&order)
    }

    /// Orders that are in the log for certain, whose effects must be there in the end.
    pub(super) fn stored(&self) -> impl Iterator<Item = u64> {
        let stored = self.orders.iter().filter(|(_, order)| order.is_stored);
        stored.map(|(number, _)| *number)
    }

    /// A record of an order is in the log; whether it is not the first one.
    pub(super) fn reached(&mut self, order: u64) -> bool {
        let order = self.orders.entry(order).or_default();
        order.records += 1;
        order.records > 1
    }

    pub(super) fn is_done(&self) -> bool {
        self.doubts.is_empty() && self.tickets.is_empty()
    }

    pub(super) fn has_doubts(&self) -> bool {
        !self.doubts.is_empty()
    }

    // A new order, or one again: because nobody knows, or because somebody upstream was restarted.
    fn choose(&mut self, random: &mut Random, is_calm: bool) -> Option<u64> {
        let count = self.orders.len() as u64;
        let again = random.chance(150);
        let any = random.below(count);
        if !self.doubts.is_empty() && (is_calm || random.chance(700)) {
            return Some(self.doubts.swap_remove(random.place(self.doubts.len())));
        }
        match is_calm {
            true => None,
            false if again && count > 0 => Some(any),
            false => (count < ORDERS_MAX).then_some(count),
        }
    }
}

impl World {
    /// Publishes an order.
    pub(super) fn publish(&mut self, random: &mut Random) -> Result<(), Violation> {
        if self.consumers.publisher.producer.is_none() && !self.publisher_opens()? {
            return Ok(());
        }
        let is_calm = self.is_calm;
        let Some(order) = self.consumers.publisher.choose(random, is_calm) else {
            return Ok(());
        };
        let Some(producer) = self.consumers.publisher.producer.clone() else {
            return Ok(());
        };
        let id = format!("order {order}");
        let value = value(order, order % 40);
        // Another partition the next time, perhaps: only the id says that it is the same order.
        let key = random.below(5).to_be_bytes();
        let record = Record::to(ORDERS).biz_id(&id).key(&key).value(&value);
        let sent = producer.try_send(record);
        self.event(format_args!("order {order} is published: {}", sent.is_ok()));
        let publisher = &mut self.consumers.publisher;
        publisher.orders.entry(order).or_default();
        match sent {
            Ok(ticket) => {
                publisher
                    .tickets
                    .push((order, Box::pin(ticket.into_future())));
            }
            Err(_) => {
                publisher.doubts.push(order);
                publisher.restart();
            }
        }
        Ok(())
    }

    fn publisher_opens(&mut self) -> Result<bool, Violation> {
        let builder = self.engine()?.producer().transport(self.network.clone());
        let builder = builder
            .batch_bytes(300)
            .max_in_flight(usize::try_from(self.plan.in_flight).unwrap_or(1))
            .delivery_timeout(Duration::from_secs(20))
            .buffer_bytes(20_000)
            .max_record_bytes(4_000);
        let producer = match builder.open() {
            Ok(producer) => producer,
            Err(_) if self.may_fail() => return Ok(false),
            Err(error) => return violated("I15", format!("no producer of orders: {error}")),
        };
        let id = producer.identity().0;
        self.new_id(id)?;
        self.event(format_args!("producer {id} publishes orders"));
        self.consumers.publisher.producer = Some(producer);
        Ok(true)
    }

    pub(super) fn look_at_publisher(&mut self) {
        let publisher = &mut self.consumers.publisher;
        let mut has_failed = false;
        for (number, mut ticket) in std::mem::take(&mut publisher.tickets) {
            match poll(&mut ticket) {
                None => publisher.tickets.push((number, ticket)),
                Some(Ok(_)) => {
                    publisher.orders.entry(number).or_default().is_stored = true;
                }
                Some(Err(_)) => {
                    publisher.doubts.push(number);
                    has_failed = true;
                }
            }
        }
        if has_failed {
            publisher.restart();
        }
    }
}
