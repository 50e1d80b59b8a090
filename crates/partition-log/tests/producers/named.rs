//! Producers with a name: never forgotten while the name is theirs, fenced by a number, and with a
//! source position (I18).

use partition_log::Rejection;
use record_batch::SourcePosition;

use crate::harness::Answer::{Dup, Ok};
use crate::harness::{Log, STRICT, p7};

const PERIOD: u64 = 86_400_000;

#[test]
fn kept_producer_does_not_expire_until_it_is_released() {
    let mut log = Log::new(STRICT);
    log.table.keep(7);
    log.send(p7(0, 0));
    log.send(p7(0, 0).of(9));
    assert_eq!(log.table.expire(10 * PERIOD, PERIOD), 1);
    assert_eq!(log.table.forgotten_below(), 9);
    assert_eq!(log.send(p7(0, 0)), Dup(0, 0));
    assert_eq!(log.send(p7(1, 1)), Ok(2, 2));
    log.table.release(7);
    assert_eq!(log.table.expire(10 * PERIOD, PERIOD), 1);
    assert!(log.view(7).is_none());
}

#[test]
fn kept_producer_begins_at_0_below_ids_that_were_forgotten() {
    let mut log = Log::new(STRICT);
    log.send(p7(0, 0).of(9));
    log.table.expire(PERIOD, PERIOD);
    let forgotten = Rejection::Forgotten {
        producer_id: 7,
        forgotten_below: 9,
    };
    assert_eq!(log.refusal(p7(0, 0)), forgotten);
    log.table.keep(7);
    // Only at 0: in the middle it would leave a gap.
    assert_eq!(
        log.refusal(p7(1, 1)),
        Rejection::UnknownProducer {
            producer_id: 7,
            got: 1
        }
    );
    assert_eq!(log.send(p7(0, 0)), Ok(1, 1));
    for id in [0, 1] {
        log.table.keep(id);
        let end = log.end;
        assert_eq!(log.send(p7(0, 0).of(id)), Ok(end, end));
    }
    log.table.release(7);
    assert_eq!(log.send(p7(0, 0)), Dup(1, 1));
    assert_eq!(log.refusal(p7(0, 0).of(6)), {
        Rejection::Forgotten {
            producer_id: 6,
            forgotten_below: 9,
        }
    });
}

#[test]
fn who_has_a_source_position_is_kept() {
    let mut log = Log::new(STRICT);
    for id in [7, 8] {
        log.send(p7(0, 0).of(id));
    }
    let position = SourcePosition { last: 4, floor: 2 };
    log.table.sources_mut().apply(7, position);
    log.table.keep_named();
    assert_eq!(log.table.sources().position(7), Some(position));
    assert_eq!(log.table.sources().position(8), None);
    assert_eq!(
        log.table.sources().positions().collect::<Vec<_>>(),
        [(7, position)]
    );
    assert_eq!(log.table.expire(PERIOD, PERIOD), 1);
    assert!(log.view(7).is_some() && log.view(8).is_none());
    // Names that were given up take their positions along.
    log.table.sources_mut().apply(8, position);
    log.table.sources_mut().retain(|id| id == 8);
    assert_eq!(
        log.table.sources().positions().collect::<Vec<_>>(),
        [(8, position)]
    );
}

#[test]
fn fence_refuses_lower_epochs_of_one_producer_before_anybody_wrote_with_a_higher_one() {
    let mut log = Log::new(STRICT);
    log.send(p7(0, 0).epoch(1));
    log.send(p7(0, 0).of(8));
    log.table.sources_mut().fence(7, 2);
    let fenced = Rejection::Fenced {
        producer_id: 7,
        given: 1,
        current: 2,
    };
    // A repeat, too: its holder is no longer who has the name.
    for batch in [p7(1, 1).epoch(1), p7(0, 0).epoch(1)] {
        assert_eq!(log.refusal(batch), fenced);
    }
    assert_eq!(log.send(p7(1, 1).of(8)), Ok(2, 2));
    assert_eq!(log.send(p7(0, 0).epoch(2)), Ok(3, 3));
}
