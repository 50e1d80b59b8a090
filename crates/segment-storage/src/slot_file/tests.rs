//! What survives torn writes, failed syncs and power cuts.

use proptest::prelude::*;

use super::*;
use crate::disk::memory::MemoryDisk;

const MAGIC: [u8; 4] = *b"TEST";

fn create(disk: &MemoryDisk) -> SlotFile {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    SlotFile::create(&shared, "", "slots", MAGIC, 2, |slots| {
        slots.write(0, &0_u64)?;
        slots.write(1, &"zero")
    })
    .unwrap()
}

fn open(disk: &MemoryDisk) -> Result<SlotFile, SlotError> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    SlotFile::open(&shared, "", "slots", MAGIC, 2)
}

fn number(disk: &MemoryDisk) -> Result<u64, SlotError> {
    open(disk)?.read(0)
}

#[test]
fn created_file_is_durable_and_whole() {
    let disk = MemoryDisk::new();
    create(&disk);
    let after = disk.after_power_cut();
    assert_eq!(after.read_file("slots").unwrap().len(), 2048);
    assert_eq!(number(&after).unwrap(), 0);
    assert_eq!(open(&after).unwrap().read::<String>(1).unwrap(), "zero");
    assert_eq!(after.list("").unwrap().len(), 1);
}

#[test]
fn create_without_a_value_for_each_pair_is_refused() {
    let disk = MemoryDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let made = SlotFile::create(&shared, "", "slots", MAGIC, 2, |slots| {
        slots.write(0, &0_u64)
    });
    assert_eq!(made.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(disk.list("").unwrap(), []);
}

#[test]
fn repeated_value_survives_damage_to_either_slot() {
    let disk = MemoryDisk::new();
    let slots = create(&disk);
    slots.write(0, &1_u64).unwrap();
    slots.repeat::<u64>(0).unwrap();
    // Unsynced: the slot that holds the synced value is not touched.
    assert_eq!(number(&disk.after_power_cut()).unwrap(), 0);
    slots.sync().unwrap();
    slots.repeat::<u64>(0).unwrap();
    let writes = disk.bytes_written();
    slots.repeat::<u64>(0).unwrap();
    assert_eq!(disk.bytes_written(), writes, "both hold it");
    for slot in [0, 512] {
        let damaged = disk.after_kill();
        damaged.corrupt("slots", slot + 12, 1).unwrap();
        assert_eq!(number(&damaged).unwrap(), 1);
        let slots = open(&damaged).unwrap();
        assert_eq!((slots.damaged_slots(0).unwrap()), 1);
        slots.repeat::<u64>(0).unwrap();
        assert_eq!(slots.damaged_slots(0).unwrap(), 0, "mended");
        assert_eq!(number(&damaged).unwrap(), 1);
    }
    slots.write(0, &2_u64).unwrap();
    assert_eq!(number(&disk.after_power_cut()).unwrap(), 1);
    slots.sync().unwrap();
    assert_eq!(number(&disk.after_power_cut()).unwrap(), 2);
}

#[test]
fn undamaged_slot_without_a_value_is_not_written_over() {
    let disk = MemoryDisk::new();
    let slots = create(&disk);
    slots.write(0, &1_u64).unwrap();
    slots.sync().unwrap();
    let mut empty = codec::frame(MAGIC, VERSION, &[]);
    empty.resize(512, 0);
    for slot in [0, 512] {
        let other = disk.after_kill();
        let mut bytes = other.read_file("slots").unwrap();
        bytes[slot..slot + 512].copy_from_slice(&empty);
        other.write_file("slots", &bytes).unwrap();
        let slots = open(&other).unwrap();
        slots.repeat::<u64>(0).unwrap_err();
        assert_eq!(other.read_file("slots").unwrap(), bytes);
        assert!(matches!(
            number(&other),
            Err(SlotError::Codec { pair: 0, .. })
        ));
    }
}

#[test]
fn of_two_values_under_one_number_the_one_that_is_read_is_repeated() {
    let disk = MemoryDisk::new();
    create(&disk);
    let mut bytes = disk.read_file("slots").unwrap();
    for (slot, value) in [(0, 7_u64), (512, 8)] {
        let mut frame = codec::encode(MAGIC, VERSION, &Slot { sequence: 5, value });
        frame.resize(512, 0);
        bytes[slot..slot + 512].copy_from_slice(&frame);
    }
    disk.write_file("slots", &bytes).unwrap();
    let slots = open(&disk).unwrap();
    let read = slots.read::<u64>(0).unwrap();
    slots.repeat::<u64>(0).unwrap();
    assert_eq!(slots.read::<u64>(0).unwrap(), read);
    assert_eq!(slots.damaged_slots(0).unwrap(), 0);
}

#[test]
fn slot_that_is_a_copy_of_the_other_one_is_damaged() {
    let disk = MemoryDisk::new();
    let slots = create(&disk);
    slots.write(0, &1_u64).unwrap();
    slots.sync().unwrap();
    assert_eq!(
        (
            slots.valid_slots(0).unwrap(),
            slots.damaged_slots(0).unwrap()
        ),
        (2, 0)
    );
    for (from, to) in [(0, 512), (512, 0)] {
        let mut bytes = disk.read_file("slots").unwrap();
        bytes.copy_within(from..from + 512, to);
        let damaged = disk.after_kill();
        damaged.write_file("slots", &bytes).unwrap();
        let slots = open(&damaged).unwrap();
        assert_eq!(
            (
                slots.valid_slots(0).unwrap(),
                slots.damaged_slots(0).unwrap()
            ),
            (1, 1)
        );
        slots.repeat::<u64>(0).unwrap();
        assert_eq!(
            (
                slots.valid_slots(0).unwrap(),
                slots.damaged_slots(0).unwrap()
            ),
            (2, 0)
        );
    }
}

#[test]
fn newest_value_is_read_and_survives_after_sync() {
    let disk = MemoryDisk::new();
    let slots = create(&disk);
    for value in 1..=7_u64 {
        slots.write(0, &value).unwrap();
        assert_eq!(slots.read::<u64>(0).unwrap(), value);
        assert_eq!(number(&disk.after_kill()).unwrap(), value);
        assert_eq!(number(&disk.after_power_cut()).unwrap(), 0);
    }
    slots.sync().unwrap();
    assert_eq!(number(&disk.after_power_cut()).unwrap(), 7);
    assert_eq!(slots.read::<String>(1).unwrap(), "zero");
}

/// Two handles: the second goes on after what the first wrote, and the other way round.
#[test]
fn nothing_is_remembered_that_is_not_in_the_file() {
    let disk = MemoryDisk::new();
    let first = create(&disk);
    let second = open(&disk).unwrap();
    for value in 1..6_u64 {
        let (writer, reader) = if value % 2 == 0 {
            (&first, &second)
        } else {
            (&second, &first)
        };
        writer.write(0, &value).unwrap();
        assert_eq!(reader.read::<u64>(0).unwrap(), value);
    }
}

/// Every byte of the slot that is being written, torn or flipped: the value before it is there.
#[test]
fn torn_slot_leaves_the_value_before() {
    let disk = MemoryDisk::new();
    let slots = create(&disk);
    slots.write(0, &1_u64).unwrap();
    slots.sync().unwrap();
    let before = disk.read_file("slots").unwrap();
    slots.write(0, &2_u64).unwrap();
    let after = disk.read_file("slots").unwrap();
    let changed: Vec<usize> = (0..before.len())
        .filter(|at| before[*at] != after[*at])
        .collect();
    assert!(changed.last().unwrap() - changed[0] < SLOT_BYTES);
    for torn_at in changed[0]..=*changed.last().unwrap() {
        let mut torn = after.clone();
        torn[torn_at..].copy_from_slice(&before[torn_at..]);
        let disk = MemoryDisk::new();
        disk.write_file("slots", &torn).unwrap();
        assert_eq!(number(&disk).unwrap(), 1, "torn at {torn_at}");
        disk.write_file("slots", &after).unwrap();
        disk.corrupt("slots", torn_at as u64, 0x10).unwrap();
        assert_eq!(number(&disk).unwrap(), 1, "flipped at {torn_at}");
        // The next write takes the damaged slot and not the good one.
        open(&disk).unwrap().write(0, &3_u64).unwrap();
        assert_eq!(number(&disk).unwrap(), 3);
        assert_eq!(
            disk.read_file("slots").unwrap()[512..1024],
            after[512..1024]
        );
    }
}

/// After a failed sync the page cache shows a value that the device does not have. The write
/// after it may be torn; the last synced value must survive both.
#[test]
fn last_synced_value_survives_a_failed_sync_and_a_torn_write() {
    let disk = MemoryDisk::new();
    let slots = create(&disk);
    slots.write(0, &1_u64).unwrap();
    slots.sync().unwrap();
    slots.write(0, &2_u64).unwrap();
    disk.fail_syncs(1);
    slots.sync().unwrap_err();
    let before = disk.read_file("slots").unwrap();
    slots.write(0, &3_u64).unwrap();
    assert_eq!(slots.read::<u64>(0).unwrap(), 3);

    let live = disk.read_file("slots").unwrap();
    let changed: Vec<usize> = (0..1024).filter(|at| live[*at] != before[*at]).collect();
    for torn_at in 1..changed.len() {
        let after = disk.after_power_cut();
        let mut torn = after.read_file("slots").unwrap();
        changed[..torn_at]
            .iter()
            .for_each(|at| torn[*at] = live[*at]);
        after.write_file("slots", &torn).unwrap();
        assert_eq!(number(&after).unwrap(), 1, "torn after {torn_at} bytes");
    }
    slots.sync().unwrap();
    assert_eq!(number(&disk.after_power_cut()).unwrap(), 3);
}

#[test]
fn what_a_failed_sync_lost_is_not_synced_by_the_next_one() {
    let disk = MemoryDisk::new();
    let slots = create(&disk);
    slots.write(0, &1_u64).unwrap();
    slots.sync().unwrap();
    slots.write(0, &2_u64).unwrap();
    disk.fail_syncs(1);
    slots.sync().unwrap_err();
    // Another pair's write and sync say nothing about this one.
    slots.write(1, &10_u64).unwrap();
    slots.sync().unwrap();
    assert_eq!(slots.read_synced::<u64>(0).unwrap(), 1);
    assert_eq!(number(&disk.after_power_cut()).unwrap(), 1);
    // Written again it counts.
    slots.write(0, &3_u64).unwrap();
    slots.sync().unwrap();
    assert_eq!(slots.read_synced::<u64>(0).unwrap(), 3);
    assert_eq!(number(&disk.after_power_cut()).unwrap(), 3);
}

#[test]
fn slot_written_again_during_a_sync_is_not_relied_on() {
    let disk = MemoryDisk::new();
    let slots = create(&disk);
    slots.write(0, &1_u64).unwrap();
    let gate = disk.hold_syncs();
    std::thread::scope(|scope| {
        let sync = scope.spawn(|| slots.sync());
        gate.wait_until_syncs_wait(1);
        slots.write(0, &2_u64).unwrap();
        drop(gate);
        sync.join().unwrap().unwrap();
    });
    let first = disk.read_file("slots").unwrap()[..512].to_vec();
    slots.write(0, &3_u64).unwrap();
    assert_eq!(
        disk.read_file("slots").unwrap()[..512],
        first,
        "value 0 is the synced one"
    );
    assert_eq!(slots.read::<u64>(0).unwrap(), 3);
}

#[test]
fn settled_file_shows_what_the_device_has() {
    let disk = MemoryDisk::new();
    let slots = create(&disk);
    slots.write(0, &1_u64).unwrap();
    disk.fail_syncs(1);
    slots.sync().unwrap_err();
    let disk = disk.after_kill();
    let slots = open(&disk).unwrap();
    assert_eq!(slots.read::<u64>(0).unwrap(), 1);
    slots.settle().unwrap();
    assert_eq!(slots.read::<u64>(0).unwrap(), 0);
}

#[test]
fn both_slots_damaged_is_an_error_and_nothing_is_written_over_them() {
    let disk = MemoryDisk::new();
    let slots = create(&disk);
    slots.write(0, &1_u64).unwrap();
    for slot in 0..2 {
        disk.corrupt("slots", slot * 512 + 20, 1).unwrap();
    }
    let error = number(&disk).unwrap_err();
    assert!(
        matches!(error, SlotError::Damaged { pair: 0, .. }),
        "{error}"
    );
    assert!(
        error.to_string().starts_with("memory:slots is damaged"),
        "{error}"
    );
    assert_eq!(
        slots.write(0, &2_u64).unwrap_err().kind(),
        io::ErrorKind::InvalidData
    );
    assert_eq!(slots.read::<String>(1).unwrap(), "zero");

    disk.write_file("slots", &[0; 2048]).unwrap();
    assert!(matches!(
        number(&disk),
        Err(SlotError::Damaged { pair: 0, .. })
    ));
    let zeros = open(&disk).unwrap().write(0, &2_u64).unwrap_err();
    assert_eq!(zeros.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn short_or_missing_file_is_an_error() {
    let disk = MemoryDisk::new();
    assert!(matches!(open(&disk), Err(SlotError::Io { .. })));
    disk.write_file("slots", &[0; 2047]).unwrap();
    assert!(matches!(
        open(&disk),
        Err(SlotError::Damaged { pair: 1, .. })
    ));
}

#[test]
fn value_too_large_for_a_slot_is_refused() {
    let disk = MemoryDisk::new();
    let slots = create(&disk);
    let fits = "x".repeat(512 - codec::OVERHEAD - 8 - 8);
    slots.write(1, &fits).unwrap();
    assert_eq!(slots.read::<String>(1).unwrap(), fits);
    let larger = format!("{fits}x");
    assert_eq!(
        slots.write(1, &larger).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
    assert_eq!(slots.read::<String>(1).unwrap(), fits);
}

#[test]
fn other_type_is_an_error_and_not_damage() {
    let disk = MemoryDisk::new();
    let slots = create(&disk);
    assert!(matches!(
        slots.read::<u16>(0),
        Err(SlotError::Codec { pair: 0, .. })
    ));
}

#[test]
fn full_disk_does_not_matter() {
    let disk = MemoryDisk::new();
    let slots = create(&disk);
    disk.set_free_bytes(0);
    slots.write(0, &5_u64).unwrap();
    slots.sync().unwrap();
    assert_eq!(number(&disk.after_power_cut()).unwrap(), 5);
}

#[test]
fn readers_and_writers_side_by_side_see_whole_rising_values() {
    let disk = MemoryDisk::new();
    let slots = create(&disk);
    std::thread::scope(|scope| {
        scope.spawn(|| (1..500_u64).for_each(|value| slots.write(0, &value).unwrap()));
        scope.spawn(|| (0..100).for_each(|_| slots.write(1, &"more").unwrap()));
        let mut last = 0;
        while last < 499 {
            let value = slots.read::<u64>(0).unwrap();
            assert!(value >= last);
            last = value;
        }
    });
}

proptest! {
    /// Writes, syncs, failed syncs and power cuts in any order: what is read after a power cut is
    /// never older than the last synced value, and never one that was not written.
    #[test]
    fn power_cut_never_goes_back_before_the_last_sync(steps in proptest::collection::vec(0..5, 1..60)) {
        let mut disk = MemoryDisk::new();
        let mut slots = create(&disk);
        let (mut written, mut synced) = (0_u64, 0_u64);
        for step in steps {
            match step {
                0..=1 => {
                    written += 1;
                    slots.write(0, &written).unwrap();
                }
                2 => {
                    slots.sync().unwrap();
                    synced = slots.read(0).unwrap();
                }
                3 => {
                    disk.fail_syncs(1);
                    slots.sync().unwrap_err();
                    // What was lost is still visible: it only counts when written again.
                    written += 1;
                    slots.write(0, &written).unwrap();
                    slots.sync().unwrap();
                    synced = written;
                }
                _ => {
                    disk = disk.after_power_cut();
                    slots = open(&disk).unwrap();
                    let found: u64 = slots.read(0).unwrap();
                    prop_assert!(synced <= found && found <= written);
                }
            }
        }
    }
}
