//! Judges what was read back: each record once, whole, and in its producer's order.

use super::{Shares, record};

/// A bit for each record, and for each producer and partition how far it has come.
pub(super) struct Judge {
    shares: Shares,
    seen: Vec<u64>,
    /// The record after the highest one seen, per partition and producer.
    next: Vec<u64>,
    stored: u64,
    unique: u64,
    repeated: Option<String>,
    violation: Option<String>,
}

/// What was found. All counts are records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) stored: u64,
    pub(super) unique: u64,
    /// The first thing that must not be.
    pub(super) violation: Option<String>,
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Judge {
    pub(super) fn new(shares: Shares, partitions: u32) -> Judge {
        Judge {
            shares,
            seen: vec![0; index(shares.records.div_ceil(64))],
            next: vec![0; index(u64::from(partitions) * u64::from(shares.producers))],
            stored: 0,
            unique: 0,
            repeated: None,
            violation: None,
        }
    }

    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    /// Looks at the next record of a partition.
    pub(super) fn see(&mut self, partition: u32, offset: u64, value: &[u8]) {
        self.stored += 1;
        let known = record::parse(value).filter(|(producer, record)| {
            *producer < self.shares.producers && *record < self.shares.of(*producer)
        });
        let Some((producer, record)) = known else {
            self.violation.get_or_insert_with(|| {
                format!("partition {partition}, offset {offset}: no producer sent this record")
            });
            return;
        };
        let bit = self.shares.before(producer) + record;
        let (word, mask) = (&mut self.seen[index(bit / 64)], 1u64 << (bit % 64));
        if *word & mask != 0 {
            self.repeated.get_or_insert_with(|| {
                format!(
                    "partition {partition}, offset {offset}: record {record} of producer \
                     {producer} is there again"
                )
            });
            return;
        }
        *word |= mask;
        self.unique += 1;
        let lane = u64::from(partition) * u64::from(self.shares.producers) + u64::from(producer);
        let next = &mut self.next[index(lane)];
        if record < *next {
            let before = *next - 1;
            self.violation.get_or_insert_with(|| {
                format!(
                    "partition {partition}, offset {offset}: record {record} of producer \
                     {producer} comes after record {before}"
                )
            });
        }
        *next = (*next).max(record + 1);
    }

    /// `once`: whether a repeated record is a violation.
    pub(super) fn verdict(self, once: bool) -> Verdict {
        let repeated = self.repeated.filter(|_| once);
        let violation = self.violation.or(repeated);
        Verdict {
            stored: self.stored,
            unique: self.unique,
            violation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARES: Shares = Shares {
        records: 100,
        producers: 3,
    };

    fn judge(seen: &[(u32, u32, u64)], once: bool) -> (u64, u64, String) {
        let mut judge = Judge::new(SHARES, 2);
        for (offset, (partition, producer, record)) in (0..).zip(seen) {
            judge.see(*partition, offset, &record::value(*producer, *record));
        }
        let verdict = judge.verdict(once);
        (
            verdict.stored,
            verdict.unique,
            verdict.violation.unwrap_or_default(),
        )
    }

    #[test]
    fn records_in_their_producers_order_are_right() {
        let seen = [
            (0, 0, 0),
            (1, 0, 1),
            (0, 2, 7),
            (0, 1, 0),
            (0, 0, 5),
            (1, 0, 2),
            (0, 0, 33),
        ];
        assert_eq!(judge(&seen, true), (7, 7, String::new()));
    }

    #[test]
    fn every_wrong_record_is_found() {
        let again = "partition 1, offset 1: record 4 of producer 0 is there again";
        assert_eq!(
            judge(&[(0, 0, 4), (1, 0, 4)], true),
            (2, 1, again.to_owned())
        );
        assert_eq!(judge(&[(0, 0, 4), (1, 0, 4)], false), (2, 1, String::new()));
        let late = "partition 0, offset 1: record 3 of producer 0 comes after record 4";
        assert_eq!(
            judge(&[(0, 0, 4), (0, 0, 3)], false),
            (2, 2, late.to_owned())
        );
        // Producer 0 has 34 records, the others 33; there is no producer 3.
        for foreign in [(0, 0, 34), (0, 2, 33), (0, 3, 0)] {
            let text = "partition 0, offset 0: no producer sent this record";
            assert_eq!(judge(&[foreign], true), (1, 0, text.to_owned()));
        }
    }
}
