//! What an append would be answered, and by which rule.

use partition_log::{Decision, Explanation, ProducerConfig};
use record_batch::ProducerIdentity;

use crate::harness::{Answer, Batch, KAFKA, Log, MAX, STRICT, p7};

fn ask(log: &Log, batch: Batch) -> Explanation {
    let identity = ProducerIdentity {
        producer_id: batch.producer_id,
        producer_epoch: batch.epoch,
        base_sequence: batch.first,
    };
    log.table.explain(identity, batch.count.cast_unsigned())
}

/// Decision, rule, offset and expected sequence.
fn told(log: &Log, batch: Batch) -> (&'static str, &'static str, Option<u64>, Option<i32>) {
    let told = ask(log, batch);
    let name = told.decision.name();
    (name, told.rule, told.offset, told.expected_sequence)
}

/// Producer 7 in epoch 1 with sequences 0 to 13 in seven batches of two, at offsets 0 to 13.
fn log(config: ProducerConfig) -> Log {
    let mut log = Log::new(config);
    for first in (0..14).step_by(2) {
        assert!(matches!(
            log.send(p7(first, first + 1).epoch(1)),
            Answer::Ok(..)
        ));
    }
    log
}

#[test]
fn every_row_is_named() {
    let log = log(STRICT);
    let e1 = |first, last| p7(first, last).epoch(1);
    for (batch, expected) in [
        (e1(14, 20), ("append", "D11", None, Some(14))),
        (e1(12, 13), ("duplicate", "D2", Some(12), Some(14))),
        (e1(4, 5), ("duplicate", "D2", Some(4), Some(14))),
        (e1(2, 3), ("out_of_order", "D14", None, Some(14))),
        (e1(12, 14), ("out_of_order", "D13", None, Some(14))),
        (e1(5, 5), ("out_of_order", "D13", None, Some(14))),
        (e1(16, 16), ("out_of_order", "D12", None, Some(14))),
        (p7(12, 13), ("fenced", "D4", None, None)),
        (p7(0, 3).epoch(2), ("append", "D7", None, Some(0))),
        (p7(1, 3).epoch(2), ("out_of_order", "D8", None, Some(0))),
        (p7(0, 3).of(8), ("append", "D6", None, Some(0))),
        (p7(2, 3).of(8), ("unknown", "D6", None, Some(0))),
        (e1(14, 14).of(-1), ("append", "D0", None, None)),
        (e1(-1, 3), ("invalid", "D1", None, None)),
        (e1(14, 14).epoch(-1), ("invalid", "D1", None, None)),
    ] {
        assert_eq!(told(&log, batch), expected, "{batch:?}");
    }
    let known = ask(&log, e1(14, 14));
    assert_eq!(
        (known.epoch, known.window.len(), known.rejection),
        (Some(1), 5, None)
    );
    let unknown = ask(&log, p7(2, 3).of(8));
    assert_eq!((unknown.epoch, unknown.window.len()), (None, 0));
    assert_eq!(
        unknown.rejection.map(|rejection| rejection.kafka_code()),
        Some(45)
    );
}

#[test]
fn a_marker_alone_a_transaction_and_what_was_forgotten_have_their_rows() {
    let mut marked = Log::new(STRICT);
    marked.marker(7, 3, 0);
    assert_eq!(
        told(&marked, p7(0, 0).epoch(3)),
        ("append", "D9", None, Some(0))
    );
    let later = told(&marked, p7(4, 4).epoch(3));
    assert_eq!(later, ("out_of_order", "D10", None, Some(0)));

    let mut open = Log::new(STRICT);
    open.send(p7(0, 1).transactional());
    assert_eq!(
        told(&open, p7(2, 2)),
        ("transaction_open", "D15", None, Some(2))
    );

    let mut old = log(STRICT);
    old.table.expire(1_000, 1_000);
    assert_eq!(
        told(&old, p7(0, 1).epoch(1)),
        ("forgotten", "I18", None, None)
    );

    let mut fenced = log(STRICT);
    fenced.table.sources_mut().fence(7, 5);
    assert_eq!(
        told(&fenced, p7(14, 14).epoch(1)),
        ("fenced", "D4", None, None)
    );
}

#[test]
fn under_kafka_a_stranger_may_begin_anywhere() {
    let kafka = log(KAFKA);
    assert_eq!(told(&kafka, p7(9, 9).of(8)), ("append", "D6", None, None));
}

#[test]
fn asking_says_what_sending_then_gets() {
    let mut compared = 0;
    for config in [STRICT, KAFKA] {
        for start in [0, MAX - 9] {
            let mut log = Log::new(config);
            log.send(p7(0, 0));
            log.replay(p7(start, start));
            for step in 0..4_000_u32 {
                // Around the next sequence, which moves on with every append.
                let next = log.window(7).last().map_or(0, |batch| batch.1);
                let jump = i64::from(step % 13) - 8;
                let first = (i64::from(next) + jump).rem_euclid(1 << 31);
                let first = i32::try_from(first).unwrap();
                let last = (i64::from(first) + i64::from(step % 3)).rem_euclid(1 << 31);
                let epoch = i16::try_from(step / 997).unwrap() - i16::from(step % 17 == 0);
                let batch = p7(first, i32::try_from(last).unwrap()).epoch(epoch);
                let end = log.end;
                let (name, _, offset, _) = told(&log, batch);
                let decision = ask(&log, batch).decision;
                match log.send(batch) {
                    Answer::Ok(at, _) => assert_eq!((decision, at), (Decision::Append, end)),
                    Answer::Dup(at, _) => assert_eq!((name, offset), ("duplicate", Some(at))),
                    Answer::Refused(_) => {
                        assert!(!matches!(decision, Decision::Append | Decision::Duplicate));
                    }
                }
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 16_000);
}
