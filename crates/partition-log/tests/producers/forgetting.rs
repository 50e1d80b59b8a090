//! How producers are forgotten: rows 107, 108 and 112, and what `strict` makes of it (I18).

use partition_log::{ProducerTable, Rejection};
use record_batch::BatchHeader;

use crate::harness::Answer::{Dup, Ok, Refused};
use crate::harness::{KAFKA, Log, STRICT, p7};

const PERIOD: u64 = 86_400_000;
const T0: u64 = 5_000;

/// P7 wrote s0 at `T0` and expired: the given of row 108.
fn row_107(config: partition_log::ProducerConfig) -> Log {
    let mut log = Log::new(config);
    log.now_ms = T0;
    log.send(p7(0, 0));
    assert_eq!(log.table.expire(T0 + PERIOD - 1, PERIOD), 0);
    assert!(log.view(7).is_some());
    assert!(!log.table.is_empty());
    assert_eq!(log.table.forgotten_below(), -1);
    assert_eq!(log.table.expire(T0 + PERIOD, PERIOD), 1);
    assert!(log.view(7).is_none());
    assert!(log.table.is_empty());
    log
}

#[test]
fn case_107_expires_after_the_period_to_the_millisecond() {
    assert_eq!(row_107(KAFKA).table.forgotten_below(), 7);
    assert_eq!(row_107(STRICT).table.forgotten_below(), 7);
}

#[test]
fn case_108_a_forgotten_producer_comes_back() {
    // Kafka's answer to the late retry is a second copy in the log, by design.
    assert_eq!(row_107(KAFKA).send(p7(1, 1)), Ok(1, 1));
    assert_eq!(row_107(KAFKA).send(p7(0, 0)), Ok(1, 1));
    // Strict takes neither: the retry at 0 would be stored twice.
    let forgotten = Rejection::Forgotten {
        producer_id: 7,
        forgotten_below: 7,
    };
    for batch in [p7(0, 0), p7(1, 1), p7(0, 0).epoch(1)] {
        assert_eq!(row_107(STRICT).refusal(batch), forgotten);
    }
    assert_eq!(row_107(STRICT).send(p7(0, 0).of(3)), Refused(45));
    assert_eq!(row_107(STRICT).send(p7(0, 0).of(8)), Ok(1, 1));
}

#[test]
fn case_112_timestamps_of_records_expire_nothing() {
    let mut log = Log::new(STRICT);
    log.now_ms = 3 * PERIOD;
    let batch = p7(0, 0);
    let header = BatchHeader {
        base_timestamp: -1,
        max_timestamp: 1_000,
        ..batch.header()
    };
    let Result::Ok(partition_log::Admission::Fresh(fresh)) =
        log.table.admit(&header, batch.fingerprint)
    else {
        panic!("the first batch is new")
    };
    log.table
        .apply(fresh, &header, batch.fingerprint, 0, log.now_ms);
    assert_eq!(log.table.expire(log.now_ms, PERIOD), 0);
    assert_eq!(log.send(batch), Dup(0, 0));
}

#[test]
fn appends_put_expiry_off_but_retries_do_not() {
    let mut log = Log::new(STRICT);
    log.send(p7(0, 0));
    log.now_ms = PERIOD - 1;
    log.send(p7(1, 1));
    assert_eq!(log.table.expire(PERIOD, PERIOD), 0);
    log.now_ms = 2 * PERIOD - 2;
    assert_eq!(log.send(p7(1, 1)), Dup(1, 1));
    assert_eq!(log.table.expire(2 * PERIOD - 1, PERIOD), 1);
}

#[test]
fn an_open_transaction_is_not_forgotten() {
    let mut log = Log::new(STRICT);
    log.send(p7(0, 0).transactional());
    assert_eq!(log.table.expire(100 * PERIOD, PERIOD), 0);
    assert!(!log.table.retire(7));
    log.now_ms = 100 * PERIOD;
    log.marker(7, 0, 0);
    assert_eq!(log.table.expire(101 * PERIOD - 1, PERIOD), 0);
    assert_eq!(log.table.expire(101 * PERIOD, PERIOD), 1);
}

#[test]
fn a_clean_end_does_not_count_as_forgotten() {
    let mut log = Log::new(STRICT);
    log.send(p7(0, 0));
    log.send(p7(0, 0).of(3));
    assert!(log.table.retire(7));
    assert!(!log.table.retire(7));
    assert_eq!((log.table.len(), log.table.forgotten_below()), (1, -1));
    assert_eq!(log.table.highest_id(), 7);
    assert_eq!(log.send(p7(0, 0).of(5)), Ok(2, 2));
}

#[test]
fn the_bound_only_rises() {
    let mut table = ProducerTable::new(STRICT);
    table.raise_forgotten_below(9);
    table.raise_forgotten_below(4);
    assert_eq!(table.forgotten_below(), 9);
}

#[test]
fn ids_below_the_bound_are_judged_strict_whatever_the_policy() {
    let mut log = Log::new(KAFKA);
    log.table.set_strict_below(8);
    log.table.raise_forgotten_below(5);
    assert_eq!(
        log.refusal(p7(1, 1)),
        Rejection::UnknownProducer {
            producer_id: 7,
            got: 1
        }
    );
    assert_eq!(log.send(p7(0, 0)), Ok(0, 0));
    let forgotten = Rejection::Forgotten {
        producer_id: 5,
        forgotten_below: 5,
    };
    assert_eq!(log.refusal(p7(0, 0).of(5)), forgotten);
    assert_eq!(log.send(p7(1, 1).of(8)), Ok(1, 1));
    assert_eq!(
        (log.table.strict_below(), log.table.accepted_unknown()),
        (8, 1)
    );
}

#[test]
fn a_stored_id_without_an_epoch_is_known_but_has_no_sequence() {
    for (config, answer) in [(STRICT, Refused(45)), (KAFKA, Ok(1, 1))] {
        let mut log = Log::new(config);
        log.table.raise_forgotten_below(100);
        log.replay(p7(0, 0).epoch(-1));
        assert_eq!(log.send(p7(4, 4)), answer);
        log.send(p7(0, 0));
        assert_eq!(log.view(7).unwrap().epoch, 0);
        // No id is too low for that.
        for id in [0, 1] {
            log.replay(p7(0, 0).of(id).epoch(-1));
            let end = log.end;
            assert_eq!(log.send(p7(0, 0).of(id)), Ok(end, end));
        }
    }
}
