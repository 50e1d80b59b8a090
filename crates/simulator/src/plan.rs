//! What a run is made of: every option drawn from the seed, each from its own stream, so that
//! setting one leaves the others as they were.

use std::fmt;

use crate::random::Random;

/// A text that is no plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanError {
    what: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; a plan is a list of option=number, and the options are: {}",
            self.what,
            Plan::NAMES.join(", ")
        )
    }
}

impl std::error::Error for PlanError {}

macro_rules! plan {
    ($($(#[$doc:meta])* $name:ident = $draw:expr;)*) => {
        /// The options of one run. Chances are in thousandths, switches 0 or 1.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Plan {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Plan {
            /// The names of all options.
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// The plan of a seed.
            pub fn of(seed: u64) -> Plan {
                Plan {
                    $($name: {
                        let draw: fn(&mut Random) -> u64 = $draw;
                        draw(&mut Random::of(seed, concat!("plan ", stringify!($name))))
                    },)*
                }
            }

            fn option(&mut self, name: &str) -> Option<&mut u64> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for Plan {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let options = [$((stringify!($name), self.$name)),*];
                for (at, (name, value)) in options.iter().enumerate() {
                    let comma = if at > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={value}")?;
                }
                Ok(())
            }
        }
    };
}

// Off, sometimes, or absurdly often.
fn fault(random: &mut Random, sometimes: u64, absurd: u64) -> u64 {
    random.one_of(&[0, sometimes, sometimes, absurd])
}

fn switch(random: &mut Random) -> u64 {
    random.below(2)
}

plan! {
    /// Operations of the part with faults.
    operations = |r| r.between(200, 400);
    /// Level of the first topic: 0 memory, 1 interval, 2 synced.
    ack = |r| r.one_of(&[0, 1, 2, 2]);
    /// Level of the second topic.
    second_ack = |r| r.one_of(&[0, 1, 2, 2]);
    /// Partitions of the first topic; the second has one.
    partitions = |r| r.between(1, 3);
    /// Bytes of a segment.
    segment_bytes = |r| r.one_of(&[4_096, 4_096, 8_192, 65_536]);
    /// Bytes of a record's value, at most.
    record_bytes = |r| r.one_of(&[20, 100, 100, 900]);
    /// Batches that a partition recognises per producer.
    window = |r| r.one_of(&[5, 5, 5, 16]);
    /// Whether unknown producers are judged as Kafka does.
    kafka_unknown = |r| r.one_of(&[0, 0, 0, 1]);
    /// Unnamed embedded producers at a time.
    producers = |r| r.below(4);
    /// Named embedded producers.
    named = |r| r.below(3);
    /// Producers that live outside of the process and outlive its crashes.
    remotes = |r| r.between(1, 4);
    /// Chance that, before an operation, many producers come, send a batch each, and go.
    crowd = |r| r.one_of(&[0, 30]);
    /// Batches in flight of each producer.
    in_flight = |r| r.between(1, 5);
    /// Chance that a request is lost.
    lose_requests = |r| fault(r, 50, 400);
    /// Chance that an answer is lost.
    lose_answers = |r| fault(r, 100, 500);
    /// Chance that a request arrives once more, later.
    repeat = |r| fault(r, 50, 400);
    /// Chance that what is to arrive late arrives later still.
    linger = |r| r.one_of(&[0, 0, 950]);
    /// Chance that an operation is a crash.
    crash = |r| fault(r, 15, 60).max(5);
    /// Of the crashes, thousandths that are power cuts; the others kill the process or close.
    power = |r| r.one_of(&[0, 500, 900, 1_000]);
    /// File system: 0 all or nothing, 1 journalled, 2 anything goes.
    filesystem = |r| r.below(3);
    /// Chance that an operation makes the next sync of a file fail.
    fail_sync = |r| r.one_of(&[0, 0, 0, 4, 20]);
    /// Chance that an operation makes the next sync of a directory fail.
    fail_names = |r| r.one_of(&[0, 0, 0, 0, 4, 20]);
    /// Of the crashes, thousandths that come in the middle of the next sync.
    crash_inside = |r| r.one_of(&[0, 300, 700]);
    /// Milliseconds that a sync takes, at most.
    sync_ms = |r| r.one_of(&[0, 0, 10, 2_000]);
    /// Chance that an operation fills the disk, or gives space back.
    fill_disk = |r| r.one_of(&[0, 0, 20, 80]);
    /// Chance, in hundred thousandths, that a call to the disk finds pages written back by themselves.
    write_back = |r| fault(r, 100, 700);
    /// Whether records get deleted.
    deletion = |r| switch(r);
    /// Milliseconds after which silent producers are forgotten; 0 for never.
    expiry_ms = |r| r.one_of(&[0, 0, 60_000]);
    /// Producers that a partition keeps in memory; 0 for all.
    budget = |r| r.one_of(&[0, 0, 16]);
    /// Whether the clock takes large steps, and the wall clock jumps.
    jumps = |r| switch(r);
    /// Whether embedded producers come and go.
    restarts = |r| switch(r);
    /// Whether topics are made, and grow.
    topics = |r| switch(r);
    /// Chance that, before an operation, a backup is made, restored and compared.
    backup = |r| r.one_of(&[0, 0, 0, 20]);
    /// Of the lives, thousandths that a repair comes before, which has nothing to give up.
    repair = |r| r.one_of(&[0, 0, 0, 1_000]);
    /// Consumers of a group with an inbox, at a time; 0 for a world without any.
    consumers = |r| r.one_of(&[0, 0, 0, 1, 2, 3]);
    /// Chance that one of them dies, or freezes, whenever something happens to consumers.
    consumer_crash = |r| fault(r, 30, 150);
}

impl Plan {
    /// Sets options from a list like `crash=0,power=1000`.
    ///
    /// # Errors
    /// [`PlanError`] when there is no such option, or its value is no number.
    pub fn set(&mut self, list: &str) -> Result<(), PlanError> {
        for part in list.split(',').filter(|part| !part.is_empty()) {
            let wrong = |what: &str| PlanError {
                what: format!("{part:?}: {what}"),
            };
            let (name, value) = part.split_once('=').ok_or_else(|| wrong("no `=`"))?;
            let value = value.parse().map_err(|_| wrong("no number"))?;
            *self.option(name).ok_or_else(|| wrong("no such option"))? = value;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_one_option_leaves_the_others() {
        let drawn = Plan::of(7);
        let mut set = drawn.clone();
        set.set("crash=1000,power=0").unwrap();
        assert_eq!((set.crash, set.power), (1_000, 0));
        set.set(&drawn.to_string()).unwrap();
        assert_eq!(set, drawn);
        assert_ne!(Plan::of(8), drawn);
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        for text in ["crash", "crash=x", "crush=1"] {
            let error = Plan::of(7).set(text).unwrap_err().to_string();
            assert!(
                error.contains(text) && error.contains("lose_answers"),
                "{error}"
            );
        }
    }
}
