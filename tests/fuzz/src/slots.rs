//! Slot files: marks, generation, producer ids.

use std::sync::Arc;

use pid_allocator::PidAllocator;
use segment_storage::{Disk, Marks, MemoryDisk};

use crate::canonical::CLOSED;
use crate::input::{Input, slot};
use crate::machine::Machine;

/// Six slots at most, each raw or a frame with a right CRC around what is given.
pub fn marks_slots(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.u8() % 4;
    let (magic, pairs) = match kind {
        0 | 1 => (*b"OLMK", 3),
        2 => (*b"OLPI", 1),
        _ => (*b"OLGN", 1),
    };
    let mut bytes = Vec::new();
    for _ in 0..2 * pairs {
        let choice = input.u8();
        let piece = input.piece();
        let mut one = match choice % 4 {
            0 => piece.to_vec(),
            1 => Vec::new(),
            _ => slot(magic, piece),
        };
        one.resize(512, 0);
        bytes.extend(one);
    }
    let cut = usize::from(input.u16());
    if cut > 0 {
        bytes.truncate(cut);
    }
    match kind {
        0 => marks(&bytes),
        1 => in_directory("synced-0/marks", &bytes),
        2 => ids(&bytes),
        _ => in_directory("generation", &bytes),
    }
}

fn marks(bytes: &[u8]) {
    let disk = Arc::new(MemoryDisk::new());
    disk.create_directory("log-0").unwrap();
    disk.write_file("log-0/marks", bytes).unwrap();
    let shared: Arc<dyn Disk> = disk.clone();
    let Ok(marks) = Marks::open(&shared, "log-0") else {
        return;
    };
    let _ = marks.damaged_slots();
    let Ok(mark) = marks.mark() else { return };
    let (ceiling, start) = (marks.ceiling(), marks.start());
    if marks.write_mark(&mark).is_err() {
        return;
    }
    marks.sync().unwrap();
    assert_eq!(marks.mark().unwrap(), mark);
    assert_eq!(marks.synced_mark().unwrap(), mark);
    assert_eq!(marks.ceiling().ok(), ceiling.ok());
    assert_eq!(marks.start().ok(), start.ok());
}

fn ids(bytes: &[u8]) {
    let disk = Arc::new(MemoryDisk::new());
    disk.write_file("producer-ids", bytes).unwrap();
    let shared: Arc<dyn Disk> = disk.clone();
    let before = pid_allocator::inspect(&shared);
    let Ok(first) = PidAllocator::open(shared.clone()) else {
        return;
    };
    let (bound, _) = before.expect("what opens can be looked at");
    let Ok(id) = first.allocate() else { return };
    assert!(id >= bound.max(0), "I15: {id}, bound {bound}");
    let second = PidAllocator::open(Arc::new(disk.after_power_cut()));
    if let Ok(next) = second.expect("it opens again").allocate() {
        assert!(next > id, "I15: {next} after {id}");
    }
}

fn in_directory(name: &str, bytes: &[u8]) {
    let disk = CLOSED.disk();
    disk.write_file(name, bytes).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let _ = oncelog::inspect::verify_disk(&disk, Default::default());
    let Ok(machine) = Machine::start(&disk, 60) else {
        return;
    };
    crate::directories::use_it(&machine);
    let _ = machine.engine.close();
}
