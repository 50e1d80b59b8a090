//! Files that are one frame, in a directory that is whole but for one of them.

use std::sync::Arc;

use oncelog::storage::Disk;

use crate::canonical::CLOSED;
use crate::directories::{check_records, use_it};
use crate::input::{Input, framed};
use crate::machine::{Machine, open_reader};

/// One of the files, as it is given or framed.
pub fn state_files(data: &[u8]) {
    let mut input = Input(data);
    let choice = input.u8();
    let is_patched = choice >= 128;
    let files = [
        ("topics", *b"OLTP"),
        ("names", *b"OLNM"),
        ("format", *b"OLFM"),
        ("synced-0/*.footer", *b"OLFT"),
        ("front-0/*.snapshot", *b"OLPS"),
    ];
    let (name, magic) = files[usize::from(choice) % files.len()];
    let (before, after) = name.split_once('*').unwrap_or((name, ""));
    let is_it = |file: &&String| file.starts_with(before) && file.ends_with(after);
    let name = CLOSED.files.keys().find(is_it).unwrap();
    let bytes = if is_patched {
        patched(&mut input, name, magic)
    } else {
        framed(&mut input, magic)
    };
    let disk = CLOSED.disk();
    disk.write_file(name, &bytes).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let _ = oncelog::inspect::verify_disk(&disk, oncelog::inspect::Depth::Records);
    if let Ok(engine) = open_reader(&disk) {
        check_records(&engine);
        drop(engine.close());
    }
    let Ok(machine) = Machine::start(&disk, 60) else {
        return;
    };
    check_records(&machine.engine);
    use_it(&machine);
    let _ = machine.engine.close();
}

// A good file with some bytes of its body changed, and a right CRC.
fn patched(input: &mut Input<'_>, name: &str, magic: [u8; 4]) -> Vec<u8> {
    let Some(good) = CLOSED.files.get(name) else {
        return framed(input, magic);
    };
    let mut body = good[10..good.len() - 4].to_vec();
    while !input.is_empty() {
        let at = usize::from(input.u16());
        let count = usize::from(input.u8() % 16) + 1;
        let at = at.min(body.len());
        let end = (at + count).min(body.len());
        let with = input.bytes(count);
        match input.u8() % 3 {
            0 => drop(body.splice(at..end, with.iter().copied())),
            1 => drop(body.splice(at..at, with.iter().copied())),
            _ => drop(body.drain(at..end)),
        }
    }
    crate::input::frame(magic, 1, &body)
}
