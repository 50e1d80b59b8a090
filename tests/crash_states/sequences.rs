//! Lives of a few calls in any order: all of up to three, and drawn longer ones.

use harness::random::Random;
use oncelog::Producer;
use oncelog::testing::{FileSystem, SimulatedDisk};

use crate::facts::Facts;
use crate::images::{Totals, setting, violations_of};
use crate::life::Life;

/// One call, or a few that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Append,
    AppendUnanswered,
    Roll,
    Time,
    Reopen,
    DeleteBefore,
    Topic,
    Partitions,
    Named,
    TakeOver,
    /// A power cut; what was before it is recorded no more.
    Crash,
}

const CALLS: [Call; 11] = [
    Call::Append,
    Call::AppendUnanswered,
    Call::Roll,
    Call::Time,
    Call::Reopen,
    Call::DeleteBefore,
    Call::Topic,
    Call::Partitions,
    Call::Named,
    Call::TakeOver,
    Call::Crash,
];

const LEVELS: [&str; 3] = ["synced", "interval", "memory"];

/// A life, and what its clients hold.
struct Client {
    life: Life,
    producer: i64,
    named: Option<Producer>,
    position: u64,
    cuts: u64,
}

impl Client {
    // A log at a level with a few batches, closed or not; none of that is recorded.
    fn new(ack: &str) -> Client {
        let mut life = Life::begin(SimulatedDisk::new(1), Facts::default(), 1);
        life.create_topic("a", 1, &[("ack", ack), ("segment.bytes", "4096")]);
        life.create_lines(2);
        let producer = life.producer();
        for _ in 0..3 {
            life.append("a", 0, producer);
        }
        life.machine.settle();
        life.forget_past();
        Client {
            life,
            producer,
            named: None,
            position: 0,
            cuts: 0,
        }
    }

    fn call(&mut self, call: Call) {
        let (life, producer) = (&mut self.life, self.producer);
        match call {
            Call::Append => life.append("a", 0, producer),
            Call::AppendUnanswered => drop(life.start("a", 0, producer)),
            Call::Roll => {
                for _ in 0..14 {
                    life.append("a", 0, producer);
                }
                life.machine.settle();
            }
            Call::Time => life.pass(6_000),
            Call::Reopen => {
                self.named = None;
                life.reopen();
            }
            Call::DeleteBefore => {
                life.append("a", 0, producer);
                life.delete_to_last("a", 0);
            }
            Call::Crash => {
                self.named = None;
                self.cuts += 1;
                let file_system = [FileSystem::Loose, FileSystem::Ordered];
                life.crash(file_system[self.cuts as usize % 2], self.cuts);
                // Of the one before, batches may be missing.
                self.producer = life.producer();
            }
            Call::Topic => {
                if life.machine.engine.topic("b").is_ok() {
                    life.delete_topic("b");
                } else {
                    life.create_topic("b", 1, &[]);
                    life.append("b", 0, producer);
                }
            }
            Call::Partitions => {
                let count = life.machine.engine.topic("a").unwrap().partitions();
                life.add_partitions("a", count + 1);
                life.append("a", count, producer);
            }
            Call::Named | Call::TakeOver => {
                if call == Call::TakeOver || self.named.is_none() {
                    self.named = Some(life.open_named(1, true));
                }
                if let Some(named) = &self.named {
                    life.send_lines(named, 1, self.position, self.position + 2);
                    self.position += 2;
                }
            }
        }
    }
}

fn run(calls: &[Call], ack: &str, bits: usize) -> (Totals, Vec<String>) {
    let mut client = Client::new(ack);
    for call in calls {
        client.call(*call);
    }
    let what = format!("{calls:?} at {ack}");
    client.named = None;
    let (trace, facts) = client.life.end();
    violations_of(&what, &trace, &facts, bits)
}

/// `ONCELOG_CRASH_SEQUENCES` (default 20): how many drawn sequences; `all`: every one of up to three
/// calls at each level, and a thousand longer ones.
#[test]
fn calls_in_any_order() {
    let wanted = std::env::var("ONCELOG_CRASH_SEQUENCES").unwrap_or_default();
    let bits = setting("ONCELOG_CRASH_BITS", 3).min(12) as usize;
    let mut random = Random::new(setting("ONCELOG_CRASH_SEED", 1));
    let mut draw = |longest: u64| -> Vec<Call> {
        let count = 1 + random.below(longest);
        (0..count)
            .map(|_| CALLS[random.below(CALLS.len() as u64) as usize])
            .collect()
    };
    let mut sequences: Vec<Vec<Call>> = Vec::new();
    if wanted == "all" {
        for first in CALLS {
            sequences.push(vec![first]);
            for second in CALLS {
                sequences.push(vec![first, second]);
                sequences.extend(CALLS.map(|third| vec![first, second, third]));
            }
        }
        sequences.extend((0..1_000).map(|_| draw(8)));
    } else {
        let count = if wanted.is_empty() {
            20
        } else {
            wanted.parse().unwrap()
        };
        sequences.extend((0..count).map(|_| draw(5)));
    }
    let mut totals = Totals::default();
    let mut failed = Vec::new();
    for (at, calls) in sequences.iter().enumerate() {
        // Each drawn sequence at one level.
        let levels = match wanted.as_str() {
            "all" => &LEVELS[..],
            _ => &LEVELS[at % LEVELS.len()..=at % LEVELS.len()],
        };
        for ack in levels {
            let (of_this, violations) = run(calls, ack, bits);
            totals.add(&of_this);
            failed.extend(violations);
        }
        if failed.len() > 10 {
            break;
        }
    }
    println!("{} sequences: {totals}", sequences.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(totals.distinct > 30 * sequences.len() as u64, "{totals}");
}
