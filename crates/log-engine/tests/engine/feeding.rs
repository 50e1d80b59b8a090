//! The segment feeder's one thread: what waits for it, and for how long.

use std::io;
use std::sync::Arc;

use log_engine::{Ack, AppendError};
use parking_lot::Mutex;

use crate::hooked_disk::{Hook, Op};
use crate::world::{World, config, plain};

/// Files that were written or made, in order, but for marks.
#[derive(Default)]
struct Written(Mutex<Vec<String>>);

impl Hook for Written {
    fn before(&self, op: Op, name: &str) -> io::Result<()> {
        let mut names = self.0.lock();
        let is_new = names.last().is_none_or(|last| last != name);
        if [Op::Create, Op::Write].contains(&op) && is_new && !name.ends_with("/marks") {
            names.push(name.to_owned());
        }
        Ok(())
    }
}

/// Neither ids nor the elapsed time wait for more than the preparation that is under way, however
/// many logs want a segment.
#[test]
fn ids_and_time_come_before_the_next_segment() {
    let world = World::new();
    let written = Arc::new(Written::default());
    let engine = world.hooked(written.clone()).driven().open().unwrap();
    while engine.step(0) {}
    let logs = ["a", "b", "c"];
    for name in logs {
        let topic = engine.create_topic(name, 1, config(Ack::Synced)).unwrap();
        let refused = topic.partition(0).unwrap().try_append(&plain("x"));
        assert!(matches!(refused, Err(AppendError::NotReady { .. })));
    }
    world.clock.advance(60_000);
    engine.look_at_clock();
    for _ in 0..950 {
        engine.session().unwrap();
    }
    written.0.lock().clear();
    while engine.step(0) {}
    let segments = logs.map(|name| format!("{name}-0/next-1.segment"));
    let mut expected = vec!["producer-ids".to_owned(), "generation".to_owned()];
    expected.extend(segments);
    assert_eq!(*written.0.lock(), expected);
}
