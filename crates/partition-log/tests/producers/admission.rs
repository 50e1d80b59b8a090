//! Idempotent appends within one epoch: rows 20 to 50.

use partition_log::{
    Admission, OutOfOrderKind, ProducerConfig, Rejection, SequenceReusePolicy,
    UnknownProducerPolicy,
};

use crate::harness::Answer::{Dup, Ok, Refused};
use crate::harness::{KAFKA, Log, MAX, STRICT, p7};

fn kind(rejection: Rejection) -> (OutOfOrderKind, i32, i32) {
    match rejection {
        Rejection::OutOfOrder {
            kind,
            expected,
            got,
            ..
        } => (kind, expected, got),
        other => panic!("expected an out-of-order answer, got {other:?}"),
    }
}

/// Six batches of one record, s0 to s5, then s6..8: row 23's given.
fn row_23(config: ProducerConfig) -> Log {
    let mut log = Log::new(config);
    for s in 0..6_u32 {
        let at = u64::from(s);
        let s = i32::try_from(s).unwrap();
        assert_eq!(log.send(p7(s, s)), Ok(at, at));
    }
    assert_eq!(log.send(p7(6, 8)), Ok(6, 8));
    log
}

#[test]
fn case_020_consecutive_batches_are_appended() {
    let mut log = Log::new(STRICT);
    assert_eq!(log.send(p7(0, 0)), Ok(0, 0));
    assert_eq!(log.send(p7(1, 1)), Ok(1, 1));
}

#[test]
fn case_021_a_gap_is_refused_and_leaves_no_trace() {
    let mut log = Log::new(STRICT);
    log.send(p7(0, 0));
    log.send(p7(1, 1));
    assert_eq!(log.send(p7(5, 5)), Refused(45));
    assert_eq!(kind(log.refusal(p7(5, 5))), (OutOfOrderKind::Gap, 2, 5));
    assert_eq!(log.send(p7(2, 2)), Ok(2, 2));
}

#[test]
fn case_022_a_retry_gets_the_first_offsets() {
    let mut log = Log::new(STRICT);
    assert_eq!(log.send(p7(0, 2)), Ok(0, 2));
    assert_eq!(log.send(p7(0, 2)), Dup(0, 2));
    assert_eq!(log.end, 3);
}

#[test]
fn case_023_the_newest_of_seven_is_recognised() {
    let mut log = row_23(STRICT);
    assert_eq!(log.send(p7(6, 8)), Dup(6, 8));
    let header = p7(6, 8).header();
    let admission = log.table.admit(&header, p7(6, 8).fingerprint).unwrap();
    assert!(matches!(admission, Admission::Duplicate(original) if original.newest));
}

#[test]
fn case_024_the_fifth_newest_is_recognised() {
    let mut log = row_23(STRICT);
    assert_eq!(log.window(7), [(2, 2), (3, 3), (4, 4), (5, 5), (6, 8)]);
    assert_eq!(log.send(p7(2, 2)), Dup(2, 2));
    let header = p7(2, 2).header();
    let admission = log.table.admit(&header, p7(2, 2).fingerprint).unwrap();
    assert!(matches!(admission, Admission::Duplicate(original) if !original.newest));
}

#[test]
fn case_025_what_left_the_window_is_refused() {
    let mut log = row_23(STRICT);
    assert_eq!(log.send(p7(1, 1)), Refused(45));
    assert_eq!(
        kind(log.refusal(p7(1, 1))),
        (OutOfOrderKind::OlderThanWindow, 9, 1)
    );
    // A wider window still knows it.
    let mut wide = row_23(ProducerConfig {
        window: 7,
        ..STRICT
    });
    assert_eq!(wide.send(p7(1, 1)), Dup(1, 1));
    assert_eq!(wide.send(p7(0, 0)), Dup(0, 0));
}

#[test]
fn case_026_a_suffix_of_the_newest_is_refused() {
    let mut log = row_23(STRICT);
    assert_eq!(log.send(p7(7, 8)), Refused(45));
    assert_eq!(kind(log.refusal(p7(7, 8))), (OutOfOrderKind::Overlap, 9, 7));
}

#[test]
fn case_027_a_prefix_is_refused() {
    let mut log = Log::new(STRICT);
    assert_eq!(log.send(p7(0, 4)), Ok(0, 4));
    assert_eq!(log.send(p7(0, 2)), Refused(45));
    assert_eq!(kind(log.refusal(p7(0, 2))), (OutOfOrderKind::Overlap, 5, 0));
}

#[test]
fn case_028_overlap_with_new_records_appends_nothing() {
    let mut log = Log::new(STRICT);
    log.send(p7(0, 4));
    assert_eq!(log.send(p7(3, 7)), Refused(45));
    assert_eq!(kind(log.refusal(p7(3, 7))), (OutOfOrderKind::Overlap, 5, 3));
    assert_eq!(log.end, 5);
}

#[test]
fn case_029_two_batches_merged_into_one_are_refused() {
    let mut log = Log::new(STRICT);
    log.send(p7(0, 1));
    log.send(p7(2, 3));
    assert_eq!(log.send(p7(0, 3)), Refused(45));
    // One that begins before the window and reaches into it is an overlap too.
    let mut log = row_23(STRICT);
    assert_eq!(kind(log.refusal(p7(1, 2))), (OutOfOrderKind::Overlap, 9, 1));
    assert_eq!(kind(log.refusal(p7(0, 8))), (OutOfOrderKind::Overlap, 9, 0));
}

#[test]
fn case_030_one_batch_split_into_two_is_refused() {
    let mut log = Log::new(STRICT);
    log.send(p7(0, 3));
    assert_eq!(log.send(p7(0, 1)), Refused(45));
    assert_eq!(log.send(p7(2, 3)), Refused(45));
}

#[test]
fn case_031_same_sequences_with_other_content() {
    let duplicate = ProducerConfig {
        reuse: SequenceReusePolicy::Duplicate,
        ..STRICT
    };
    let mut log = Log::new(duplicate);
    log.send(p7(0, 0));
    assert_eq!(log.send(p7(0, 0).other_content()), Dup(0, 0));
    assert_eq!(
        log.view(7).unwrap().window[0].fingerprint,
        p7(0, 0).fingerprint
    );

    // Refused unless asked for, in the newest batch and in an older one.
    let mut log = Log::new(STRICT);
    log.send(p7(0, 2));
    log.send(p7(3, 3));
    assert_eq!(log.send(p7(3, 3).other_content()), Refused(87));
    let reuse = Rejection::SequenceReuse {
        producer_id: 7,
        first: 0,
        last: 2,
        original_offset: 0,
    };
    assert_eq!(log.refusal(p7(0, 2).other_content()), reuse);
    assert_eq!(log.send(p7(0, 2)), Dup(0, 2));
}

#[test]
fn case_032_first_contact_at_another_sequence() {
    let mut log = Log::new(KAFKA);
    assert_eq!(log.send(p7(5, 5)), Ok(0, 0));
    assert_eq!(log.table.accepted_unknown(), 1);
    assert_eq!(log.send(p7(6, 6)), Ok(1, 1));
    assert_eq!(log.send(p7(0, 0)), Refused(45));
    assert_eq!(log.table.accepted_unknown(), 1);

    let mut log = Log::new(STRICT);
    assert_eq!(log.send(p7(5, 5)), Refused(45));
    assert_eq!(
        log.refusal(p7(5, 5)),
        Rejection::UnknownProducer {
            producer_id: 7,
            got: 5
        }
    );
    assert_eq!(log.send(p7(0, 0)), Ok(0, 0));
    assert_eq!(log.table.accepted_unknown(), 0);
}

#[test]
fn case_033_zero_follows_the_largest_sequence() {
    for config in [STRICT, KAFKA] {
        let mut log = Log::new(config);
        log.replay(p7(MAX, MAX).epoch(15));
        assert_eq!(log.send(p7(0, 0).epoch(15)), Ok(1, 1));
        assert_eq!(log.window(7), [(MAX, MAX), (0, 0)]);
    }
}

#[test]
fn case_034_one_does_not_follow_the_largest_sequence() {
    for config in [STRICT, KAFKA] {
        let mut log = Log::new(config);
        log.replay(p7(MAX, MAX).epoch(15));
        assert_eq!(log.send(p7(1, 1).epoch(15)), Refused(45));
        assert_eq!(
            kind(log.refusal(p7(1, 1).epoch(15))),
            (OutOfOrderKind::Gap, 0, 1)
        );
    }
}

/// A batch of 21 records over the wrap, at offsets 2000 to 2020: row 35's given.
fn row_35(config: ProducerConfig) -> Log {
    let mut log = Log::new(config);
    log.end = 2000;
    log.replay(p7(MAX - 10, 9));
    log
}

#[test]
fn case_035_a_batch_over_the_wrap_is_remembered() {
    let view = row_35(STRICT).view(7).unwrap();
    assert_eq!(view.window.len(), 1);
    let entry = view.window[0];
    assert_eq!((entry.first_sequence, entry.last_sequence), (MAX - 10, 9));
    assert_eq!((entry.base_offset, entry.count), (2000, 21));
}

#[test]
fn case_036_a_batch_over_the_wrap_is_recognised() {
    for config in [STRICT, KAFKA] {
        let mut log = row_35(config);
        assert_eq!(log.send(p7(MAX - 10, 9)), Dup(2000, 2020));
        assert_eq!(log.send(p7(0, 9)), Refused(45));
    }
}

#[test]
fn case_037_a_batch_over_the_wrap_is_continued() {
    for config in [STRICT, KAFKA] {
        let mut log = row_35(config);
        assert_eq!(log.send(p7(10, 10)), Ok(2021, 2021));
        assert_eq!(log.send(p7(MAX - 10, 9)), Dup(2000, 2020));
    }
}

#[test]
fn first_contact_close_to_the_wrap_under_both_policies() {
    for (first, last_offset) in [(MAX, 10), (MAX - 10, 20)] {
        let mut log = Log::new(KAFKA);
        assert_eq!(log.send(p7(first, 9)), Ok(0, last_offset));
        assert_eq!(log.table.accepted_unknown(), 1);
        let refused = Rejection::UnknownProducer {
            producer_id: 7,
            got: first,
        };
        assert_eq!(Log::new(STRICT).refusal(p7(first, 9)), refused);
    }
}

/// After 2^31 records the sequences come again. The window then no longer holds the first ones, or
/// new records would be taken for a retry.
#[test]
fn a_window_never_spans_all_sequences() {
    const HALF: i32 = 1 << 30;
    for config in [
        STRICT,
        ProducerConfig {
            window: 100,
            ..STRICT
        },
    ] {
        let mut log = Log::new(config);
        log.send(p7(0, HALF - 1));
        log.send(p7(HALF, MAX - 1));
        assert_eq!(
            log.send(p7(0, HALF - 1)),
            Dup(0, u64::from(HALF.cast_unsigned()) - 1)
        );
        let end = log.end;
        assert_eq!(log.send(p7(MAX, MAX)), Ok(end, end));
        assert_eq!(log.window(7), [(HALF, MAX - 1), (MAX, MAX)]);
        assert_eq!(
            log.send(p7(0, HALF - 1)),
            Ok(end + 1, end + u64::from(HALF.cast_unsigned()))
        );
        assert_eq!(log.window(7), [(MAX, MAX), (0, HALF - 1)]);
    }
}

#[test]
fn case_038_producers_do_not_meet() {
    let mut log = Log::new(STRICT);
    for (s, at) in [(0, 0), (1, 2)] {
        assert_eq!(log.send(p7(s, s)), Ok(at, at));
        assert_eq!(log.send(p7(s, s).of(8)), Ok(at + 1, at + 1));
    }
    assert_eq!(log.send(p7(0, 0)), Dup(0, 0));
    assert_eq!(log.send(p7(0, 0).of(8)), Dup(1, 1));
}

#[test]
fn case_039_partitions_do_not_meet() {
    let (mut a, mut b) = (Log::new(STRICT), Log::new(STRICT));
    assert_eq!(a.send(p7(0, 0)), Ok(0, 0));
    assert_eq!(b.send(p7(0, 0)), Ok(0, 0));
}

#[test]
fn case_040_plain_records_lie_in_between() {
    let mut log = Log::new(STRICT);
    let plain = p7(-1, 1).of(-1);
    assert_eq!(log.send(p7(0, 0)), Ok(0, 0));
    assert_eq!(log.send(plain), Ok(1, 3));
    assert_eq!(log.send(plain), Ok(4, 6));
    assert_eq!(log.send(p7(1, 1)), Ok(7, 7));
    assert_eq!(log.send(p7(0, 0)), Dup(0, 0));
    assert_eq!(log.table.len(), 1);
}

#[test]
fn case_041_a_follower_takes_repeated_ranges() {
    let mut log = Log::new(STRICT);
    log.send(p7(0, 0));
    log.replay(p7(0, 1));
    log.replay(p7(0, 1));
    assert_eq!(log.window(7), [(0, 1)]);
    assert_eq!(log.view(7).unwrap().window[0].base_offset, 3);
    assert_eq!(log.send(p7(2, 2)), Ok(5, 5));
}

#[test]
fn case_042_a_follower_takes_a_chunk_of_two_producers_with_a_repeat() {
    let mut log = Log::new(STRICT);
    for (producer_id, s) in [(1, 0), (2, 0), (1, 1), (2, 1), (1, 1)] {
        log.replay(p7(s, s).of(producer_id));
    }
    assert_eq!(log.end, 5);
    assert_eq!(log.window(1), [(1, 1)]);
    assert_eq!(log.window(2), [(0, 0), (1, 1)]);
    assert_eq!(log.send(p7(2, 2).of(1)), Ok(5, 5));
    assert_eq!(log.send(p7(1, 1).of(2)), Dup(3, 3));
}

#[test]
fn case_043_a_follower_takes_a_gap() {
    let mut log = Log::new(STRICT);
    log.send(p7(0, 0));
    log.replay(p7(3, 3));
    assert_eq!(log.window(7), [(3, 3)]);
    // What lies before the gap has left the window, so its size cannot be told wrongly.
    assert_eq!(log.send(p7(0, 0)), Refused(45));
    assert_eq!(log.send(p7(4, 4)), Ok(2, 2));
}

#[test]
fn case_044_five_in_flight_all_come_again() {
    let mut log = Log::new(STRICT);
    let batches: Vec<_> = (0..5).map(|n| p7(n * 3, n * 3 + 2)).collect();
    let first: Vec<_> = batches.iter().map(|batch| log.send(*batch)).collect();
    assert_eq!(first, [Ok(0, 2), Ok(3, 5), Ok(6, 8), Ok(9, 11), Ok(12, 14)]);
    let again: Vec<_> = batches.iter().map(|batch| log.send(*batch)).collect();
    assert_eq!(
        again,
        [Dup(0, 2), Dup(3, 5), Dup(6, 8), Dup(9, 11), Dup(12, 14)]
    );
    assert_eq!(log.end, 15);
}

#[test]
fn case_045_the_first_of_five_in_flight_is_lost() {
    for known_before in [false, true] {
        let mut log = Log::new(STRICT);
        let base = i32::from(known_before);
        if known_before {
            log.send(p7(0, 0));
        }
        for n in 1..5 {
            assert_eq!(log.send(p7(base + n, base + n)), Refused(45));
        }
        for n in 0..5 {
            let at = u64::try_from(base + n).unwrap();
            assert_eq!(log.send(p7(base + n, base + n)), Ok(at, at));
        }
    }
}

#[test]
fn case_047_what_was_admitted_but_not_written_is_new_again() {
    let mut log = Log::new(STRICT);
    log.send(p7(0, 0));
    for batch in [p7(1, 2), p7(0, 0).of(9)] {
        let admission = log.table.admit(&batch.header(), batch.fingerprint).unwrap();
        assert!(matches!(admission, Admission::Fresh(_)));
        drop(admission);
    }
    assert_eq!(log.send(p7(1, 2)), Ok(1, 2));
    assert_eq!(log.send(p7(0, 0).of(9)), Ok(3, 3));
}

#[test]
fn case_050_an_id_without_epoch_or_sequence_is_refused() {
    for config in [STRICT, KAFKA] {
        let mut log = Log::new(config);
        let refused = Rejection::Identity {
            producer_id: 7,
            epoch: -1,
            sequence: 0,
        };
        assert_eq!(log.refusal(p7(0, 0).epoch(-1)), refused);
        assert_eq!(log.send(p7(-1, -1)), Refused(87));
        assert_eq!(log.table.len(), 0);
    }
}

#[test]
#[should_panic(expected = "changed between admission and apply")]
fn a_batch_admitted_twice_is_applied_once() {
    let mut log = Log::new(STRICT);
    let batch = p7(0, 0);
    let admit = |log: &Log| match log.table.admit(&batch.header(), batch.fingerprint) {
        Result::Ok(Admission::Fresh(fresh)) => fresh,
        other => panic!("{other:?}"),
    };
    let (one, two) = (admit(&log), admit(&log));
    log.table
        .apply(one, &batch.header(), batch.fingerprint, 0, 0);
    log.table
        .apply(two, &batch.header(), batch.fingerprint, 1, 0);
}

#[test]
fn an_admitted_batch_survives_the_move_of_its_line() {
    let mut log = Log::new(STRICT);
    log.send(p7(0, 0));
    let batch = p7(1, 1);
    let Admission::Fresh(fresh) = log.table.admit(&batch.header(), batch.fingerprint).unwrap()
    else {
        panic!("the next batch is new")
    };
    for id in 100..20_000 {
        log.send(p7(0, 0).of(id));
    }
    log.table
        .apply(fresh, &batch.header(), batch.fingerprint, log.end, 0);
    assert_eq!(log.window(7), [(0, 0), (1, 1)]);
}

#[test]
fn refusals_say_what_was_expected_and_what_came() {
    let mut log = row_23(STRICT);
    let text = log.refusal(p7(12, 12)).to_string();
    assert!(text.contains("expected sequence 9, got 12"), "{text}");
    let kinds = [p7(12, 12), p7(7, 8), p7(0, 0), p7(1, 1).epoch(1)];
    let mut texts: Vec<_> = kinds
        .iter()
        .map(|batch| log.refusal(*batch).to_string())
        .collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 4);
    let kafka = ProducerConfig {
        unknown: UnknownProducerPolicy::Kafka,
        ..STRICT
    };
    assert_eq!(Log::new(kafka).send(p7(-1, -1)), Refused(87));
}
