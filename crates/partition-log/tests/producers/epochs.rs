//! Epochs: rows 51 to 58.

use partition_log::{OutOfOrderKind, Rejection};

use crate::harness::Answer::{Ok, Refused};
use crate::harness::{KAFKA, Log, STRICT, p7};

/// Epoch 0 wrote s0..3, epoch 1 wrote s0: row 51.
fn row_51() -> Log {
    let mut log = Log::new(STRICT);
    assert_eq!(log.send(p7(0, 3)), Ok(0, 3));
    assert_eq!(log.send(p7(0, 0).epoch(1)), Ok(4, 4));
    log
}

#[test]
fn case_051_a_higher_epoch_begins_anew() {
    let log = row_51();
    assert_eq!(log.view(7).unwrap().epoch, 1);
    assert_eq!(log.window(7), [(0, 0)]);
}

#[test]
fn case_052_a_lower_epoch_is_fenced() {
    let mut log = row_51();
    assert_eq!(log.send(p7(4, 4)), Refused(47));
    let fenced = Rejection::Fenced {
        producer_id: 7,
        given: 0,
        current: 1,
    };
    assert_eq!(log.refusal(p7(4, 4)), fenced);
}

#[test]
fn case_053_a_duplicate_of_a_lower_epoch_is_fenced() {
    assert_eq!(row_51().send(p7(0, 3)), Refused(47));
    // The same sequences in both epochs, too.
    assert_eq!(row_51().send(p7(0, 0)), Refused(47));
}

#[test]
fn case_054_a_higher_epoch_must_begin_at_zero() {
    let mut log = Log::new(STRICT);
    log.send(p7(0, 3));
    let rejection = log.refusal(p7(4, 4).epoch(1));
    let kind = OutOfOrderKind::EpochBump;
    let expected = Rejection::OutOfOrder {
        producer_id: 7,
        epoch: 1,
        expected: 0,
        got: 4,
        kind,
    };
    assert_eq!(rejection, expected);
    assert_eq!(rejection.kafka_code(), 45);
}

#[test]
fn case_055_epochs_may_jump() {
    let mut log = Log::new(STRICT);
    log.send(p7(0, 0));
    assert_eq!(log.send(p7(0, 0).epoch(3)), Ok(1, 1));
    assert_eq!(log.send(p7(1, 1).epoch(2)), Refused(47));
    assert_eq!(log.send(p7(0, 0).epoch(i16::MAX)), Ok(2, 2));
}

#[test]
fn case_056_a_follower_takes_a_lower_epoch() {
    let mut log = Log::new(STRICT);
    log.replay(p7(0, 0).epoch(3));
    log.replay(p7(1, 1).epoch(1));
    let view = log.view(7).unwrap();
    assert_eq!((view.epoch, log.window(7)), (1, vec![(1, 1)]));
}

#[test]
fn case_057_first_contact_with_any_epoch() {
    for config in [STRICT, KAFKA] {
        let mut log = Log::new(config);
        assert_eq!(log.send(p7(0, 0).epoch(9)), Ok(0, 0));
        assert_eq!(log.view(7).unwrap().epoch, 9);
        assert_eq!(log.send(p7(1, 1).epoch(8)), Refused(47));
    }
}

#[test]
fn case_058_a_refused_batch_does_not_raise_the_epoch() {
    let mut log = Log::new(STRICT);
    log.send(p7(0, 3));
    assert_eq!(log.send(p7(4, 4).epoch(1)), Refused(45));
    assert_eq!(log.send(p7(4, 4)), Ok(4, 4));
}
