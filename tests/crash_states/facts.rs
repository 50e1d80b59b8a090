//! What clients did and were told, each with the place in the trace by which they were.

use std::collections::{BTreeMap, BTreeSet};

use harness::history::BatchName;
use oncelog::Ack;

/// A batch that was sent to a topic.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) batch: BatchName,
    pub(crate) at: usize,
    /// When and where it was answered.
    pub(crate) answered: Option<(usize, u64)>,
    /// From when on no power cut takes it.
    pub(crate) durable: Option<usize>,
}

/// One life of a topic; another one of the same name is another topic.
#[derive(Debug, Clone)]
pub(crate) struct TopicFacts {
    pub(crate) name: String,
    pub(crate) ack: Ack,
    /// Whether records may go by themselves.
    pub(crate) is_limited: bool,
    pub(crate) begun: usize,
    pub(crate) made: Option<usize>,
    pub(crate) deletion_begun: Option<usize>,
    pub(crate) deleted: Option<usize>,
    /// Numbers of partitions that were asked for, and from when on they were there.
    pub(crate) partitions: Vec<(u32, usize, Option<usize>)>,
    /// In the order of the log.
    pub(crate) sent: Vec<Sent>,
    /// What an open did not find any more.
    pub(crate) lost: Vec<Sent>,
    /// Starts that were asked for: partition, offset, when, and when answered.
    pub(crate) starts: Vec<(u32, u64, usize, Option<usize>)>,
}

/// A line of a named source.
#[derive(Debug, Clone)]
pub(crate) struct SentLine {
    pub(crate) source: u64,
    pub(crate) position: u64,
    pub(crate) at: usize,
    /// When, and where: partition, and offset unless it was there before.
    pub(crate) answered: Option<(usize, u32, Option<u64>)>,
}

/// Everything that clients know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) topics: Vec<TopicFacts>,
    /// Producer ids, and by when they were handed out.
    pub(crate) ids: Vec<(i64, usize)>,
    pub(crate) lines: Vec<SentLine>,
    /// Partitions of the topic of lines, once made.
    pub(crate) lines_made: Option<usize>,
    /// Closed cleanly, with nothing after it.
    pub(crate) closed: Option<usize>,
}

impl Facts {
    /// What was known at a place of the trace, as if it had been known for ever.
    pub(crate) fn until(&self, end: usize) -> Facts {
        let past = |at: Option<usize>| at.filter(|at| *at <= end).map(|_| 0);
        let mut facts = self.clone();
        facts.topics.retain(|topic| topic.begun <= end);
        for topic in &mut facts.topics {
            topic.begun = 0;
            topic.made = past(topic.made);
            topic.deletion_begun = past(topic.deletion_begun);
            topic.deleted = past(topic.deleted);
            topic.partitions.retain(|(_, begun, _)| *begun <= end);
            for (_, begun, made) in &mut topic.partitions {
                (*begun, *made) = (0, past(*made));
            }
            topic.sent.retain(|sent| sent.at <= end);
            for sent in &mut topic.sent {
                sent.at = 0;
                sent.answered = sent.answered.filter(|a| a.0 <= end).map(|a| (0, a.1));
                sent.durable = past(sent.durable);
            }
            topic.starts.retain(|(_, _, begun, _)| *begun <= end);
            for (_, _, begun, done) in &mut topic.starts {
                (*begun, *done) = (0, past(*done));
            }
        }
        facts.ids.retain(|(_, at)| *at <= end);
        facts.ids.iter_mut().for_each(|(_, at)| *at = 0);
        facts.lines.retain(|line| line.at <= end);
        for line in &mut facts.lines {
            line.at = 0;
            line.answered = line.answered.filter(|a| a.0 <= end).map(|a| (0, a.1, a.2));
        }
        facts.lines_made = past(facts.lines_made);
        facts.closed = past(facts.closed);
        facts
    }

    /// A killed process loses nothing that it answered, at any level (I1).
    pub(crate) fn after_kill(mut self) -> Facts {
        for sent in self.topics.iter_mut().flat_map(|topic| &mut topic.sent) {
            sent.durable = sent.durable.or(sent.answered.map(|_| 0));
        }
        self
    }

    /// Places in the trace at which clients were told something.
    pub(crate) fn told_at(&self) -> BTreeSet<usize> {
        let mut told = BTreeSet::new();
        for topic in &self.topics {
            told.extend([topic.made, topic.deleted].into_iter().flatten());
            told.extend(topic.partitions.iter().filter_map(|p| p.2));
            told.extend(topic.sent.iter().filter_map(|s| s.answered.map(|a| a.0)));
            told.extend(topic.sent.iter().filter_map(|s| s.durable));
            told.extend(topic.starts.iter().filter_map(|s| s.3));
        }
        told.extend(self.ids.iter().map(|(_, at)| *at));
        told.extend(
            self.lines
                .iter()
                .filter_map(|line| line.answered.map(|a| a.0)),
        );
        told.extend(self.lines_made);
        told.extend(self.closed);
        told
    }
}

impl TopicFacts {
    /// A topic that is about to be made.
    pub(crate) fn begun(name: &str, ack: Ack, partitions: u32, begun: usize) -> TopicFacts {
        TopicFacts {
            name: name.to_owned(),
            ack,
            is_limited: false,
            begun,
            made: None,
            deletion_begun: None,
            deleted: None,
            partitions: vec![(partitions, begun, None)],
            sent: Vec::new(),
            lost: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// The last batch that each producer sent to each partition.
    pub(crate) fn last_sent(&self) -> Vec<Sent> {
        let mut last = BTreeMap::new();
        for sent in &self.sent {
            last.insert((sent.batch.producer_id, sent.batch.partition), sent);
        }
        last.into_values().cloned().collect()
    }

    /// Takes note of what an open found in a partition: that much is durable.
    pub(crate) fn settle(
        &mut self,
        partition: u32,
        found: &BTreeMap<BatchName, u64>,
        start: u64,
        now: usize,
    ) {
        let all = std::mem::take(&mut self.sent);
        for mut sent in all {
            let there = found.get(&sent.batch);
            if let Some(offset) = there {
                sent.answered = sent.answered.or(Some((now, *offset)));
                sent.durable = sent.durable.or(Some(now));
            }
            let is_deleted = sent.answered.is_some_and(|(_, offset)| offset < start);
            if sent.batch.partition != partition || there.is_some() || is_deleted {
                self.sent.push(sent);
            } else {
                self.lost.push(sent);
            }
        }
    }

    /// The offset below which nothing may be given to another record (I9).
    pub(crate) fn shown_below(&self, partition: u32) -> u64 {
        let of = self.sent.iter().chain(&self.lost);
        let of = of.filter(|sent| sent.batch.partition == partition);
        let ends = of.filter_map(|sent| {
            let (_, offset) = sent.answered?;
            Some(offset + u64::from(sent.batch.count().unsigned_abs()))
        });
        ends.max().unwrap_or(0)
    }

    /// The offsets between which the partition's start must be.
    pub(crate) fn start_range(&self, partition: u32) -> (u64, u64) {
        let of = self.starts.iter().filter(|start| start.0 == partition);
        let lowest = of.clone().filter(|start| start.3.is_some());
        let lowest = lowest.map(|start| start.1).max().unwrap_or(0);
        let highest = of.map(|start| start.1).max().unwrap_or(0);
        (lowest, if self.is_limited { u64::MAX } else { highest })
    }
}
