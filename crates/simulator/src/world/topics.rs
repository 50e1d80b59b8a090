//! Topics that are made, removed, and grow.

use oncelog::{TopicConfig, TopicError};

use super::{TOPICS, World};
use crate::violation::{Violation, violated};

/// A topic without records, made and removed.
const SCRATCH: &str = "scratch";
/// Partitions of the second topic, at most.
const PARTITIONS_MAX: u32 = 4;

/// What is known of the topic without records; `None` after a call that failed.
#[derive(Default)]
pub(crate) struct Scratch(Option<bool>);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        Scratch(Some(false))
    }
}

impl World {
    /// Makes the scratch topic, or removes it.
    pub(crate) fn change_topic(&mut self) -> Result<(), Violation> {
        let engine = self.engine()?;
        let is_there = engine.topic(SCRATCH).is_ok();
        let done = if is_there {
            engine.delete_topic(SCRATCH)
        } else {
            let made = engine.create_topic(SCRATCH, 2, TopicConfig::default());
            made.map(|_| ())
        };
        self.event(format_args!(
            "scratch topic there: {}, {}",
            !is_there,
            done.is_ok()
        ));
        match done {
            Ok(()) => self.scratch = Scratch(Some(!is_there)),
            Err(error) if !self.may_fail() => {
                return violated("I12", format!("topic {SCRATCH}: {error}"));
            }
            Err(_) => self.scratch = Scratch(None),
        }
        Ok(())
    }

    /// Adds a partition to the second topic.
    pub(crate) fn grow_topic(&mut self) -> Result<(), Violation> {
        let (engine, topic) = (self.engine()?, TOPICS[1]);
        // Whoever is told that it failed asks again.
        for _ in 0..2 {
            let now = self.partitions_of(topic);
            if now >= PARTITIONS_MAX {
                break;
            }
            let grown = engine.add_partitions(topic, now + 1);
            self.event(format_args!(
                "{topic} grows to {}: {}",
                now + 1,
                grown.is_ok()
            ));
            match grown {
                Ok(_) => {
                    self.add_log(topic, now);
                    break;
                }
                Err(error) if !self.may_fail() => {
                    return violated("I12", format!("{topic}: {error}"));
                }
                // It may have grown all the same.
                Err(_) => self.look_at_topics()?,
            }
        }
        Ok(())
    }

    fn partitions_of(&self, topic: &str) -> u32 {
        let own = self.logs.iter().filter(|log| log.topic == topic);
        // A handful.
        u32::try_from(own.count()).unwrap_or(u32::MAX)
    }

    /// Holds the topics that are there against those that must be.
    pub(crate) fn look_at_topics(&mut self) -> Result<(), Violation> {
        let engine = self.engine()?;
        let topic = TOPICS[1];
        let known = self.partitions_of(topic);
        match engine.topic(topic).map(|t| t.partitions()) {
            Ok(found) if found == known => {}
            // What was being made when it ended.
            Ok(found) if found == known + 1 => self.add_log(topic, known),
            found => {
                return violated(
                    "I22",
                    format!("{topic} has {found:?} partitions, not {known}"),
                );
            }
        }
        let found = match engine.topic(SCRATCH) {
            Ok(_) => true,
            Err(TopicError::UnknownTopic { .. }) => false,
            Err(error) => return violated("I22", format!("topic {SCRATCH}: {error}")),
        };
        match self.scratch.0 {
            Some(expected) if expected != found => violated(
                "I22",
                format!("topic {SCRATCH} there: {found}, not {expected}"),
            ),
            _ => Ok(()),
        }
    }
}
