//! The state machine against a naive model: a list of offsets, each with what became of it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::event::{Change, Event, Run, StoredProgress};
use super::*;

const TOPIC: &str = "orders";
const LOG: u64 = 40;

/// What may happen. Numbers are taken modulo what there is.
#[derive(Debug, Clone, Copy)]
enum Step {
    Deliver(u64),
    Redeliver(usize),
    Ack(usize),
    AckOld(usize),
    DeadLetter(u64),
    Seek(u64),
    Reassign,
    Restart,
    Checkpoint,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u64..6).prop_map(Step::Deliver),
        3 => any::<usize>().prop_map(Step::Redeliver),
        6 => any::<usize>().prop_map(Step::Ack),
        2 => any::<usize>().prop_map(Step::AckOld),
        1 => (0_u64..4).prop_map(Step::DeadLetter),
        1 => (0..=LOG).prop_map(Step::Seek),
        1 => Just(Step::Reassign),
        1 => Just(Step::Restart),
        1 => Just(Step::Checkpoint),
    ]
}

/// Every seventh offset is no record.
fn is_record(offset: u64) -> bool {
    offset % 7 != 3
}

#[derive(Debug, Default)]
struct Model {
    next: u64,
    epoch: u64,
    delivered: BTreeMap<u64, u32>,
    acked: BTreeMap<u64, ()>,
}

impl Model {
    fn open(&self) -> Vec<u64> {
        let open = self.delivered.keys();
        open.filter(|o| !self.acked.contains_key(o))
            .copied()
            .collect()
    }

    fn position(&self) -> u64 {
        let is_open =
            |offset: &u64| self.delivered.contains_key(offset) && !self.acked.contains_key(offset);
        (0..self.next).find(is_open).unwrap_or(self.next)
    }
}

/// The state, with the journal that it can be had from again.
#[derive(Default)]
struct Stored {
    state: GroupState,
    journal: Vec<Vec<u8>>,
}

impl Stored {
    fn write(&mut self, change: Change) {
        self.state.apply(&change);
        let name = "billing".to_owned();
        self.journal.push(Event::Group { name, change }.encode());
    }

    fn replayed(&self) -> GroupState {
        let mut state = GroupState::default();
        for bytes in &self.journal {
            let Event::Group { change, .. } = Event::decode(bytes).unwrap() else {
                panic!("only events of a group were written");
            };
            state.apply(&change);
        }
        state
    }

    fn progress(&self) -> &Progress {
        self.state.get(TOPIC, 0).unwrap()
    }

    fn assign(&mut self, epoch: u64) {
        self.write(Change::Assigned {
            topic: TOPIC.to_owned(),
            topic_id: 1,
            partition: 0,
            epoch,
            member: epoch,
            start: 0,
        });
    }

    fn acked(&mut self, epoch: u64, offset: u64) {
        self.write(Change::Acked {
            topic: TOPIC.to_owned(),
            partition: 0,
            epoch,
            runs: Run::of([offset]),
        });
    }

    fn delivered(&mut self, epoch: u64, offsets: &[u64], next: u64) {
        self.write(Change::Delivered {
            topic: TOPIC.to_owned(),
            partition: 0,
            epoch,
            runs: Run::of(offsets.iter().copied()),
            next,
        });
    }
}

fn take(step: Step, model: &mut Model, stored: &mut Stored) {
    let open = model.open();
    match step {
        Step::Deliver(count) => {
            let end = (model.next + count).min(LOG);
            let is_new = |o: &u64| is_record(*o) && !model.acked.contains_key(o);
            let offsets: Vec<_> = (model.next..end).filter(is_new).collect();
            stored.delivered(model.epoch, &offsets, end);
            model.delivered.extend(offsets.iter().map(|o| (*o, 1)));
            model.next = end;
        }
        Step::Redeliver(which) if !open.is_empty() => {
            let offset = open[which % open.len()];
            stored.delivered(model.epoch, &[offset], model.next);
            *model.delivered.get_mut(&offset).unwrap() += 1;
        }
        Step::Ack(which) if !open.is_empty() => {
            let offset = open[which % open.len()];
            stored.acked(model.epoch, offset);
            model.acked.insert(offset, ());
        }
        // An ack of an earlier epoch changes nothing.
        Step::AckOld(which) if !open.is_empty() => {
            stored.acked(model.epoch - 1, open[which % open.len()]);
        }
        // Of a record whose delivery was lost with the machine.
        Step::DeadLetter(ahead) if is_record(model.next + ahead) && model.next + ahead < LOG => {
            stored.acked(model.epoch, model.next + ahead);
            model.acked.insert(model.next + ahead, ());
        }
        Step::Seek(position) => {
            model.epoch += 1;
            stored.write(Change::Sought {
                topic: TOPIC.to_owned(),
                partition: 0,
                epoch: model.epoch,
                position,
            });
            model.next = position;
            model.delivered.clear();
            model.acked.clear();
        }
        Step::Reassign => {
            model.epoch += 1;
            stored.assign(model.epoch);
        }
        Step::Restart => stored.state = stored.replayed(),
        Step::Checkpoint => {
            // Anywhere in the journal, as long as the checkpoint is behind.
            stored.journal.drain(..stored.journal.len() / 2);
            let progress = StoredProgress::from(stored.progress());
            stored.write(Change::Checkpoint {
                topic: TOPIC.to_owned(),
                partition: 0,
                progress,
            });
        }
        _ => {}
    }
}

fn check(model: &Model, stored: &Stored) {
    let progress = stored.progress();
    assert_eq!(progress.position(), model.position());
    assert_eq!(progress.next, model.next);
    for offset in (0..LOG).filter(|o| is_record(*o)) {
        let count = model.delivered.get(&offset).copied();
        let standing = |n| progress.standing(offset, model.epoch, n);
        let is_acked = model.acked.contains_key(&offset);
        match count {
            _ if is_acked || offset < model.position() => {
                assert_eq!(standing(count.unwrap_or(1)), Standing::Acked, "{offset}");
            }
            Some(n) => {
                assert_eq!(standing(n), Standing::Current, "{offset}");
                let again = Standing::Superseded { delivery: n };
                assert_eq!(standing(n - 1), again, "{offset}");
            }
            None => assert_eq!(standing(1), Standing::Unknown, "{offset}"),
        }
        let old = progress.standing(offset, model.epoch - 1, 1);
        assert_eq!(old, Standing::Fenced { epoch: model.epoch });
    }
    // What is kept is what is open, and what is acknowledged above the position.
    assert_eq!(progress.delivered.len(), model.open().len());
    let above = model.acked.keys().filter(|o| **o >= model.position());
    assert_eq!(progress.acked.len(), above.count());
}

proptest! {
    #[test]
    fn the_state_is_what_a_list_of_offsets_says(steps in prop::collection::vec(step(), 1..120)) {
        let mut model = Model { epoch: 1, ..Model::default() };
        let mut stored = Stored::default();
        stored.assign(1);
        for step in steps {
            take(step, &mut model, &mut stored);
            check(&model, &stored);
        }
        prop_assert_eq!(stored.replayed(), stored.state);
    }
}

#[test]
fn what_a_log_does_not_have_is_forgotten_and_a_lost_position_is_said() {
    let mut stored = Stored::default();
    stored.assign(1);
    stored.delivered(1, &[0, 1, 2, 3], 4);
    stored.acked(1, 0);
    stored.acked(1, 3);
    assert!(stored.progress().is_beyond(3) && !stored.progress().is_beyond(4));
    let clamp = |end| Change::Clamped {
        topic: TOPIC.to_owned(),
        partition: 0,
        end,
    };
    stored.write(clamp(3));
    let progress = stored.progress();
    assert_eq!(
        (progress.position(), progress.next, progress.lost),
        (1, 3, None)
    );
    assert!(progress.acked.is_empty(), "offset 3 is another record now");
    stored.write(clamp(0));
    let progress = stored.progress();
    assert_eq!((progress.position(), progress.lost), (0, Some(1)));
    stored.write(Change::Sought {
        topic: TOPIC.to_owned(),
        partition: 0,
        epoch: 2,
        position: 0,
    });
    assert_eq!(stored.progress().lost, None);
}

#[test]
fn a_topic_that_was_made_again_is_begun_anew() {
    let mut stored = Stored::default();
    stored.assign(1);
    stored.delivered(1, &[0], 1);
    stored.write(Change::Assigned {
        topic: TOPIC.to_owned(),
        topic_id: 2,
        partition: 0,
        epoch: 2,
        member: 1,
        start: 5,
    });
    let progress = stored.progress();
    assert_eq!((progress.position(), progress.sought), (5, 2));
    assert!(progress.delivered.is_empty());
}
