//! What transaction markers in the log do to a producer (rows 59 to 63, 69, 71 and 72, as far as
//! the table decides).

use partition_log::{OutOfOrderKind, Rejection};

use crate::harness::Answer::{Dup, Ok, Refused};
use crate::harness::{Log, STRICT, control_header, p7};

#[test]
fn a_marker_makes_an_unknown_producer_known() {
    let mut log = Log::new(STRICT);
    log.marker(7, 2, 1);
    let view = log.view(7).unwrap();
    assert_eq!(
        (view.epoch, view.coordinator_epoch, view.window.len()),
        (2, 1, 0)
    );
    assert_eq!(log.send(p7(0, 0)), Refused(47));
    let kind = OutOfOrderKind::EmptyWindow;
    let refused = Rejection::OutOfOrder {
        producer_id: 7,
        epoch: 2,
        expected: 0,
        got: 17,
        kind,
    };
    assert_eq!(log.refusal(p7(17, 17).epoch(2)), refused);
    assert_eq!(log.send(p7(0, 0).epoch(2)), Ok(1, 1));
}

#[test]
fn a_marker_of_a_higher_epoch_empties_the_window() {
    let mut log = Log::new(STRICT);
    log.send(p7(0, 0).transactional());
    log.send(p7(1, 1).transactional());
    assert_eq!(log.view(7).unwrap().open_transaction_offset, Some(0));
    log.marker(7, 1, 0);
    let view = log.view(7).unwrap();
    assert_eq!(
        (view.epoch, view.window.len(), view.open_transaction_offset),
        (1, 0, None)
    );
    assert_eq!(log.send(p7(1, 1).transactional()), Refused(47));
    assert_eq!(log.send(p7(2, 2).epoch(1)), Refused(45));
    assert_eq!(log.send(p7(2, 2).epoch(2)), Refused(45));
    assert_eq!(log.send(p7(0, 0).epoch(1)), Ok(3, 3));
}

#[test]
fn a_marker_of_the_same_epoch_keeps_the_window() {
    let mut log = Log::new(STRICT);
    assert_eq!(log.send(p7(0, 4).transactional()), Ok(0, 4));
    log.marker(7, 0, 0);
    assert_eq!(log.send(p7(0, 4).transactional()), Dup(0, 4));
    assert_eq!(log.view(7).unwrap().open_transaction_offset, None);
    assert_eq!(log.send(p7(5, 5).transactional()), Ok(6, 6));
    assert_eq!(log.view(7).unwrap().open_transaction_offset, Some(6));
}

#[test]
fn the_last_coordinator_epoch_counts() {
    let mut log = Log::new(STRICT);
    for coordinator_epoch in [1, 1, 2, 5, 4] {
        log.marker(7, 0, coordinator_epoch);
        assert_eq!(log.view(7).unwrap().coordinator_epoch, coordinator_epoch);
    }
}

#[test]
fn plain_data_in_an_open_transaction_is_refused() {
    let mut log = Log::new(STRICT);
    log.send(p7(0, 0).transactional());
    let open = Rejection::TransactionOpen {
        producer_id: 7,
        first_offset: 0,
    };
    assert_eq!(log.refusal(p7(1, 1)), open);
    assert_eq!(open.kafka_code(), 48);
    // A higher epoch does not end it, and a retry is answered before it matters.
    assert_eq!(log.send(p7(0, 0).epoch(1)), Refused(48));
    assert_eq!(log.send(p7(0, 0)), Dup(0, 0));
    assert_eq!(log.send(p7(1, 1).transactional()), Ok(1, 1));
    assert_eq!(log.view(7).unwrap().open_transaction_offset, Some(0));
}

#[test]
fn an_emptied_control_batch_keeps_the_fence() {
    let mut log = Log::new(STRICT);
    log.send(p7(0, 0).transactional());
    log.table.replay(&control_header(7, 3, 0), 0, None, 1, 0);
    let view = log.view(7).unwrap();
    assert_eq!((view.epoch, view.coordinator_epoch), (3, -1));
    assert_eq!(view.open_transaction_offset, Some(0));
    log.table.replay(&control_header(7, 2, 0), 0, None, 2, 0);
    assert_eq!(log.view(7).unwrap().epoch, 3);
    log.table.replay(&control_header(8, 4, 0), 0, None, 3, 0);
    assert_eq!(log.view(8).unwrap().epoch, 4);
}

#[test]
fn data_without_sequences_is_continued_by_zero() {
    let mut log = Log::new(STRICT);
    log.replay(p7(-1, -1).transactional());
    log.replay(p7(-1, -1).transactional());
    let view = log.view(7).unwrap();
    assert_eq!((view.epoch, view.open_transaction_offset), (0, Some(0)));
    assert_eq!(log.send(p7(1, 1).transactional()), Refused(45));
    assert_eq!(log.send(p7(0, 0).transactional()), Ok(2, 2));
}
