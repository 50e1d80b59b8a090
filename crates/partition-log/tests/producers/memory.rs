//! What a million producers take (I17).

use partition_log::{Admission, ProducerConfig, ProducerTable};

use crate::harness::{STRICT, p7};

/// Appends batches of one record, and returns the most bytes per producer that there ever were
/// from the hundred thousandth on.
fn fill(table: &mut ProducerTable, producers: i64, batches: i32) -> usize {
    let mut worst = 0;
    for id in 0..producers {
        for s in 0..batches {
            let batch = p7(s, s).of(id);
            let header = batch.header();
            let Ok(Admission::Fresh(fresh)) = table.admit(&header, s.cast_unsigned()) else {
                panic!("producer {id} sequence {s} is new");
            };
            table.apply(fresh, &header, s.cast_unsigned(), 0, 0);
        }
        if id > 100_000 {
            worst = worst.max(table.memory_bytes().div_ceil(table.len()));
        }
    }
    worst
}

#[test]
fn a_million_full_windows_take_at_most_200_bytes_each() {
    let mut table = ProducerTable::new(STRICT);
    let worst = fill(&mut table, 1_000_000, 5);
    assert_eq!(table.len(), 1_000_000);
    assert!((128..=200).contains(&worst), "{worst} bytes each");

    assert_eq!(table.expire(10, 10), 1_000_000);
    assert!(
        table.memory_bytes() < 10_000,
        "{} bytes stay",
        table.memory_bytes()
    );
}

#[test]
fn a_producer_with_one_batch_takes_its_line_alone() {
    let mut table = ProducerTable::new(STRICT);
    let worst = fill(&mut table, 200_000, 1);
    assert!((64..=124).contains(&worst), "{worst} bytes each");
}

#[test]
fn a_wide_window_takes_room_as_it_fills() {
    let mut table = ProducerTable::new(ProducerConfig {
        window: 65_536,
        ..STRICT
    });
    let empty = table.memory_bytes();
    fill(&mut table, 10, 1);
    let few = table.memory_bytes();
    assert!(few - empty < 20_000, "{few} bytes");
    let mut wide = ProducerTable::new(ProducerConfig {
        window: 65_536,
        ..STRICT
    });
    fill(&mut wide, 1, 70_000);
    let full = wide.memory_bytes();
    assert!(
        (65_535 * 16..65_536 * 16 + 20_000).contains(&full),
        "{full} bytes"
    );
    assert_eq!(wide.get(0).unwrap().window.len(), 65_536);
    assert!(wide.retire(0));
    assert!(wide.memory_bytes() < 10_000);
}
