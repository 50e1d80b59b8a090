//! What the sequences do with transactions.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::super::InboxFixture;
use super::super::inbox_model::{self as model, Answer, Asked};
use super::{Driver, KEYS, Open, TOPIC};
use crate::admission::{Admission, Settlement};
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::identity::{Fingerprint, Position};
use crate::inbox::{Inbox, Outgoing};

/// How often, 1 ms apart, a store that waits may say `Busy` of an id whose transaction was dropped: it hears of that later.
const PATIENCE: usize = 20_000;

impl<F: InboxFixture> Driver<'_, F> {
    pub(super) async fn begin(&mut self) {
        let most = 1 + usize::from(self.f.side_by_side());
        if self.open.len() == most {
            return;
        }
        let part = usize::from(self.random.below(2) == 0);
        let known = self.model.epochs[part];
        let epoch = match self.random.below(8) {
            0 if known > 1 => known - 1,
            _ => known,
        };
        let (inbox, part_name) = (self.f.inbox(), &self.parts[part]);
        let call = ("begin", part, epoch);
        let begun = inbox.begin(part_name, epoch).await;
        let current = self.model.epoch(part);
        if epoch == current {
            self.said(call, "ok");
            self.open.push(Open {
                tx: begun.unwrap(),
                model: self.model.begin(part, epoch),
                delivery: None,
            });
            return;
        }
        // Some say so at the commit only.
        let fenced = match begun {
            Ok(tx) => inbox.commit(tx, 1).await,
            Err(error) => Err(error),
        };
        self.fenced(call, fenced, (epoch, current));
    }

    fn pick(&mut self) -> Option<usize> {
        let open = u64::try_from(self.open.len()).unwrap();
        let nth = (open > 0).then(|| self.random.below(open))?;
        Some(usize::try_from(nth).unwrap())
    }

    fn is_fenced(&self, nth: usize) -> bool {
        self.model.fence(&self.open[nth].model).is_some()
    }

    // Some stores say what fences a transaction at its commit only: it does nothing else.
    pub(super) async fn work(&mut self) {
        match self.pick() {
            None => self.begin().await,
            Some(nth) if self.is_fenced(nth) => {}
            Some(nth) if self.open[nth].model.admitted.is_some() => self.go_on(nth).await,
            Some(nth) => self.admit(nth).await,
        }
    }

    async fn admit(&mut self, nth: usize) {
        let random = &mut self.random;
        let offset = random.below(12);
        let key = usize::try_from(random.below(KEYS as u64)).unwrap();
        let part = self.open[nth].model.part;
        // As often the record that carried the id last.
        let offset = match self.carriers.get(&(key, part)) {
            Some(same) if random.below(2) == 0 => *same,
            _ => offset,
        };
        self.carriers.insert((key, part), offset);
        // A record has one origin time.
        let origin = (offset % 6 < 5).then_some(1_000 + 10 * (offset / 2));
        let asked = Asked {
            key,
            carrier: (origin, part, offset),
            payload: u8::from(random.below(12) == 0),
            redrive: random.below(4) == 0,
        };
        let others = |look: fn(&model::Tx) -> &BTreeSet<usize>| {
            let open = self.open.iter().enumerate();
            open.filter(|(other, _)| *other != nth)
                .any(|(_, open)| look(&open.model).contains(&key))
        };
        let (is_held, is_touched) = (others(|tx| &tx.holds), others(|tx| &tx.touched));
        let is_open = self.model.is_open(&self.open[nth].model, offset);
        // One that waits would wait for the other transaction, which waits for this test.
        if is_open || (is_touched && self.f.waits()) {
            return;
        }
        let delivery = self.delivery(&asked, self.open[nth].model.epoch);
        let open = &mut self.open[nth];
        let expected = self.model.admit(&mut open.model, asked, is_held);
        let mut tries = 0;
        let is = loop {
            let answer = self.f.inbox().admit(&mut open.tx, &delivery).await;
            let is = match answer.unwrap() {
                Admission::Run(()) => Answer::Run,
                Admission::Done(receipt) => Answer::Done(receipt.result),
                Admission::Busy { .. } => Answer::Busy,
                Admission::Parked => Answer::Parked,
                Admission::Expired => Answer::Expired,
                Admission::Mismatch { stored } => {
                    Answer::Mismatch(u8::from(stored != fingerprint(0)))
                }
            };
            let waits = is == Answer::Busy && expected != is && self.f.waits();
            if !waits || tries == PATIENCE {
                break is;
            }
            tries += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        if is == Answer::Run {
            open.delivery = Some(delivery);
        }
        // What is refused whoever has the id may be said before or behind that somebody has it.
        let is = match (is, &expected) {
            (Answer::Busy, Answer::Expired) if is_held => Answer::Expired,
            (is, _) => is,
        };
        self.check((nth, asked), &is, &expected);
    }

    fn delivery(&self, asked: &Asked, epoch: u64) -> Delivery {
        let (origin, part, offset) = asked.carrier;
        let at = Position {
            topic: TOPIC,
            partition: u32::try_from(part).unwrap(),
            offset,
        };
        let id = format!("id {}", asked.key);
        let delivery = Delivery::foreign(self.scope.group.clone(), at, &*id, &[asked.payload][..]);
        let delivery = delivery.unwrap().in_scenario(self.scope.scenario.clone());
        let delivery = delivery.fingerprint_of(&[asked.payload]).at_epoch(epoch);
        let delivery = match origin {
            Some(ms) => delivery.stored_at(ms),
            None => delivery,
        };
        match asked.redrive {
            true => delivery.redriven(),
            false => delivery,
        }
    }

    // The handler: a part of it, or its end.
    async fn go_on(&mut self, nth: usize) {
        match self.random.below(10) {
            0..5 => self.apply(nth).await,
            5..6 => self.emit(nth).await,
            _ => self.settle(nth).await,
        }
    }

    pub(super) fn effect(&self, key: usize) -> String {
        format!("{}/{}/{key}", self.scope.group, self.scope.scenario)
    }

    async fn apply(&mut self, nth: usize) {
        let Some((asked, ..)) = self.open[nth].model.admitted else {
            return;
        };
        let effect = self.effect(asked.key);
        let open = &mut self.open[nth];
        self.f.apply(&mut open.tx, &effect).await.unwrap();
        *open.model.writes.effects.entry(asked.key).or_default() += 1;
        self.said((nth, "effect", asked.key), "ok");
    }

    async fn emit(&mut self, nth: usize) {
        self.records += 1;
        let open = &mut self.open[nth];
        let record = Outgoing {
            topic: "out".into(),
            key: None,
            value: Some(self.records.to_string().into()),
            headers: Vec::new(),
        };
        self.f.inbox().emit(&mut open.tx, record).await.unwrap();
        open.model.writes.outgoing.push(self.records);
        self.said((nth, "emit", self.records), "ok");
    }

    async fn settle(&mut self, nth: usize) {
        let result = Bytes::from_static(b"result");
        let ends = [
            Settlement::Done(None),
            Settlement::Done(None),
            Settlement::Done(Some(result)),
            Settlement::Released,
            Settlement::Parked,
        ];
        let how = self.random.one_of(&ends);
        let open = &mut self.open[nth];
        let Some(delivery) = open.delivery.take() else {
            return;
        };
        let inbox = self.f.inbox();
        let settled = inbox.settle(&mut open.tx, &delivery, how.clone()).await;
        settled.unwrap();
        self.model.settle(&mut open.model, &how);
        self.said((nth, "settle", &how), "ok");
        // Its dead letter.
        if how == Settlement::Parked && self.random.below(2) == 0 {
            self.emit(nth).await;
        }
    }

    pub(super) async fn commit(&mut self) {
        let Some(nth) = self.pick() else { return };
        let next = match self.random.below(3) {
            0 => 0,
            _ => self.random.below(8),
        };
        let fence = self.model.fence(&self.open[nth].model);
        let Open { tx, model, .. } = self.open.swap_remove(nth);
        let answer = self.f.inbox().commit(tx, next).await;
        let call = (nth, "commit", next);
        if model.admitted.is_some() {
            let is = match answer {
                Err(StoreError::Misuse(_)) => "misuse".into(),
                Err(StoreError::Fenced { .. }) if fence.is_some() => "misuse".into(),
                other => format!("{other:?}"),
            };
            return self.check(call, &is, &"misuse".to_owned());
        }
        if let Some(current) = fence {
            return self.fenced(call, answer, (model.epoch, current));
        }
        self.check(call, &answer.map_err(|e| format!("{e:?}")), &Ok(()));
        self.model.commit(model, next);
    }

    pub(super) fn forget_one(&mut self) {
        if let Some(nth) = self.pick() {
            self.said((nth, "drop"), ());
            drop(self.open.swap_remove(nth));
        }
    }
}

fn fingerprint(payload: u8) -> Fingerprint {
    Fingerprint::of(&[payload])
}
