//! One name, opened very often: what is stored of it does not grow, nor does opening take longer.

use std::time::{Duration, Instant};

use log_engine::{Ack, Record};

use crate::ways::{sorted, topic};
use crate::world::World;

/// Highest epoch of an id plus one: after so many openings a name gets another id.
const EPOCHS: u64 = 32_767;

#[test]
fn restarts_of_one_name_leave_nothing_behind() {
    let restarts = std::env::var("ONCELOG_NAME_RESTARTS");
    let restarts: u64 = restarts.map_or(40_000, |text| text.parse().unwrap());
    let world = World::new();
    let engine = world.open();
    topic(&engine, 2, Ack::Memory);
    let mut ids = std::collections::BTreeSet::new();
    let mut sizes = Vec::new();
    let mut times = Vec::new();
    let mut sent: u64 = 0;
    let part = restarts / 10;
    for round in 0..10 {
        let begun = Instant::now();
        for restart in 0..part {
            let producer = engine.producer().name("feed").open().unwrap();
            ids.insert(producer.identity().0);
            // Every hundredth run sends its source again, and one line more.
            if restart % 100 == 0 {
                assert_eq!(producer.resume_from(), sent.saturating_sub(1));
                let from = producer.resume_from();
                for position in from..=sent {
                    let value = format!("{position:06}");
                    let record = Record::to("t").value(&value).position(position);
                    let at = producer.blocking_append(record).unwrap();
                    assert_eq!(at.duplicate, position < sent, "{position}");
                }
                sent += 1;
            }
        }
        times.push(begun.elapsed());
        sizes.push(world.disk.read_file("names").unwrap().len());
        // A whole restart, too.
        if round == 4 {
            engine.topic("t").unwrap();
        }
    }
    println!(
        "{restarts} restarts, {} ids, {} bytes at first, {} at last, {:?} a restart at first, {:?} at last",
        ids.len(),
        sizes[0],
        sizes[9],
        times[0] / u32::try_from(part).unwrap(),
        times[9] / u32::try_from(part).unwrap(),
    );
    assert_eq!(ids.len() as u64, restarts.div_ceil(EPOCHS));
    // With the second id comes a list of how far the first one got; it does not grow after that.
    assert!(sizes[9] < sizes[0] + 300, "{sizes:?}");
    let (first, last) = (times[0].min(times[1]), times[8].min(times[9]));
    assert!(last < first * 3 + Duration::from_millis(50), "{times:?}");
    let count = usize::try_from(sent).unwrap();
    assert_eq!(sorted(&engine, "t"), crate::ways::numbered(count));
    drop(engine);
    let begun = Instant::now();
    let engine = world.after_power_cut().open();
    let producer = engine.producer().name("feed").open().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(producer.resume_from() <= sent);
}

#[test]
fn a_name_whose_epochs_are_used_up_goes_on_under_another_id() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 3, Ack::Synced);
    let record = |position: u64| Record::to("t").value("v").position(position);
    let producer = engine.producer().name("feed").open().unwrap();
    let id = producer.identity().0;
    for position in 0..10 {
        producer.blocking_append(record(position)).unwrap();
    }
    drop(producer);
    for epoch in 1..EPOCHS {
        let producer = engine.producer().name("feed").open().unwrap();
        assert_eq!(producer.identity(), (id, i16::try_from(epoch).unwrap()));
    }
    let producer = engine.producer().name("feed").open().unwrap();
    let (new, epoch) = producer.identity();
    assert!(new != id && epoch == 0);
    assert_eq!(producer.resume_from(), 9);
    for position in 0..12 {
        let at = producer.blocking_append(record(position)).unwrap();
        assert_eq!(at.duplicate, position < 10, "{position}");
    }
    drop(producer);
    engine.close().unwrap();
    // Also where the file of names alone still knows the first ten.
    let engine = world.after_power_cut().open();
    let producer = engine.producer().name("feed").open().unwrap();
    assert_eq!(producer.identity(), (new, 1));
    for position in 0..14 {
        let at = producer.blocking_append(record(position)).unwrap();
        assert_eq!(at.duplicate, position < 12, "{position}");
    }
    assert_eq!(engine.topic("t").unwrap().describe().records, 14);
}
