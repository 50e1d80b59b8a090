//! One name, opened very often: what is stored of it does not grow, nor does opening take longer.
//!
//! ```sh
//! ONCELOG_NAME_RESTARTS=1000000 cargo test --release -p log-engine --test producer -- \
//!     --nocapture restarts_of_one_name
//! ```
//!
//! opens it a million times, on a disk in memory; with `ONCELOG_NAME_DIRECTORY=/dev/shm` on files
//! there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log_engine::inspect::{Depth, verify_disk};
use log_engine::storage::{Disk, OsDisk};
use log_engine::{Ack, AppendError, Engine, Env, Producer, Record, Resolution};

use crate::ways::{numbered, sorted, topic};
use crate::world::{World, in_epoch};

/// Highest epoch of an id plus one: after so many openings a name gets another id.
const EPOCHS: u64 = 32_767;
/// So often the sizes and times are looked at.
const POINTS: usize = 10;
/// Openings of the whole engine at each point.
const OPENINGS: u32 = 5;

// Bytes of the names' file; of all else that is known of producers and topics; and of the records.
fn bytes_on(disk: &dyn Disk) -> (u64, u64, u64) {
    let mut files: Vec<_> = disk.list("").unwrap();
    for partition in ["t-0", "t-1"] {
        files.extend(disk.list(partition).unwrap());
    }
    let is_of_records = |name: &str| {
        let ends = [".log", ".index", ".footer", ".segment"];
        ends.iter().any(|end| name.ends_with(end))
    };
    let sum = |of: &dyn Fn(&str) -> bool| files.iter().filter(|f| of(&f.name)).map(|f| f.len).sum();
    let names = sum(&|name| name == "names");
    let all_but_records = sum(&|name| !is_of_records(name));
    (names, all_but_records - names, sum(&is_of_records))
}

/// How it looks after a part of the restarts.
#[derive(Debug)]
struct Point {
    names: u64,
    state: u64,
    records: u64,
    /// Of the name, within one engine, on average.
    opening: Duration,
    /// Of the engine and the name, at best.
    reopening: Duration,
}

/// The name's runs.
struct Runs {
    ids: BTreeSet<i64>,
    openings: u64,
    /// Lines of its source that were sent.
    sent: u64,
}

impl Runs {
    fn open(&mut self, engine: &Engine) -> Producer {
        let producer = engine.producer().name("feed").open().unwrap();
        self.ids.insert(producer.identity().0);
        self.openings += 1;
        producer
    }

    // Sends the last line again, and one more.
    fn send(&mut self, producer: &Producer) {
        let from = producer.resume_from();
        assert_eq!(from, self.sent.saturating_sub(1));
        for position in from..=self.sent {
            let value = format!("{position:06}");
            let record = Record::to("t").value(&value).position(position);
            let at = producer.blocking_append(record).unwrap();
            assert_eq!(at.duplicate, position < self.sent, "{position}");
        }
        self.sent += 1;
    }
}

#[test]
fn restarts_of_one_name_leave_nothing_behind() {
    let restarts = std::env::var("ONCELOG_NAME_RESTARTS");
    let restarts: u64 = restarts.map_or(40_000, |text| text.parse().unwrap());
    let world = World::new();
    let directory = std::env::var_os("ONCELOG_NAME_DIRECTORY");
    let directory = directory.map(|parent| tempfile::tempdir_in(parent).unwrap());
    let disk: Arc<dyn Disk> = match &directory {
        Some(directory) => Arc::new(OsDisk::open(directory.path().join("data")).unwrap()),
        None => Arc::new(world.disk.clone()),
    };
    let open = || {
        let env: Env = world.env_on(disk.clone());
        Engine::with_env(env).open().unwrap()
    };
    let mut engine = open();
    topic(&engine, 2, Ack::Memory);
    let mut runs = Runs {
        ids: BTreeSet::new(),
        openings: 0,
        sent: 0,
    };
    let mut points: Vec<Point> = Vec::new();
    let part = restarts / POINTS as u64;
    for _ in 0..POINTS {
        let begun = Instant::now();
        for restart in 0..part {
            let producer = runs.open(&engine);
            // Most runs have nothing to send.
            if restart % 100 == 0 {
                runs.send(&producer);
            }
        }
        let opening = begun.elapsed() / u32::try_from(part).unwrap();
        let mut reopening = Duration::MAX;
        for _ in 0..OPENINGS {
            engine.close().unwrap();
            drop(engine);
            let begun = Instant::now();
            engine = open();
            let producer = runs.open(&engine);
            reopening = reopening.min(begun.elapsed());
            runs.send(&producer);
        }
        engine.close().unwrap();
        drop(engine);
        let (names, state, records) = bytes_on(&*disk);
        let report = verify_disk(&disk, Depth::Batches).unwrap();
        assert!(report.ok && report.notes.is_empty(), "{report:?}");
        assert_eq!(report.records, runs.sent);
        engine = open();
        let point = Point {
            names,
            state,
            records,
            opening,
            reopening,
        };
        println!("{} restarts: {point:.1?}", runs.openings);
        points.push(point);
    }
    println!("{} restarts, {} ids", runs.openings, runs.ids.len());
    assert_eq!(runs.ids.len() as u64, runs.openings.div_ceil(EPOCHS));
    // With the second id comes a list of how far the first one got; it does not grow after that.
    let (first, last) = (&points[0], &points[POINTS - 1]);
    assert!(last.names < first.names + 300, "{points:?}");
    // Numbers in it may get longer.
    assert!(last.state < first.state + 60, "{points:?}");
    assert!(last.records > first.records, "nothing was measured");
    for time in [|p: &Point| p.opening, |p: &Point| p.reopening] {
        let best = |points: &[Point]| points.iter().map(time).min().unwrap();
        let (early, late) = (best(&points[..3]), best(&points[POINTS - 3..]));
        assert!(
            late < early * 3 + Duration::from_millis(1),
            "{early:?} {late:?}"
        );
    }
    let count = usize::try_from(runs.sent).unwrap();
    assert_eq!(sorted(&engine, "t"), numbered(count));
}

#[test]
fn a_name_whose_epochs_are_used_up_goes_on_under_another_id() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 3, Ack::Synced);
    let record = |position: u64| Record::to("t").value("v").position(position);
    let producer = engine.producer().name("feed").open().unwrap();
    let id = producer.identity().0;
    let stored: Vec<_> = (0..10)
        .map(|position| {
            let ticket = producer.blocking_send(record(position)).unwrap();
            (ticket.id().clone(), ticket.blocking_wait().unwrap())
        })
        .collect();
    drop(producer);
    for epoch in 1..EPOCHS {
        let producer = engine.producer().name("feed").open().unwrap();
        assert_eq!(producer.identity(), (id, i16::try_from(epoch).unwrap()));
    }
    let producer = engine.producer().name("feed").open().unwrap();
    let (new, epoch) = producer.identity();
    assert!(new != id && epoch == 0);
    assert_eq!(producer.resume_from(), 9);
    // The old one is over: no log has anything left of it to know, and none takes a batch of it.
    for partition in 0..3 {
        let partition = engine.topic("t").unwrap().partition(partition).unwrap();
        let known = partition.producers().unwrap();
        assert!(known.iter().all(|p| p.producer_id != id), "{known:?}");
        for sequence in [0, 1, 10] {
            let late = in_epoch(id, i16::MAX - 1, sequence, &["late"]);
            let error = partition.blocking_append(&late).unwrap_err();
            let is_fenced = matches!(&error, AppendError::Rejected { .. });
            assert!(
                is_fenced && error.to_string().contains("is fenced"),
                "{error}"
            );
        }
    }
    for (id, at) in &stored {
        let resolution = engine.blocking_resolve(id).unwrap();
        assert_eq!(resolution, Resolution::Written { offset: at.offset });
    }
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
