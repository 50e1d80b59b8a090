//! Damage in the directory's own files, and directories that are not to be repaired.

use std::fs;

use log_engine::inspect::{Depth, RepairError, RepairOptions, repair, verify_to};
use log_engine::{Ack, Create, Engine, OpenError};

use crate::place::{
    APPLY, DRY, batch, closed, files, fill, flip, goes_on, numbers, repaired, segments,
};

#[test]
fn the_directorys_own_files_are_made_anew_from_the_rest() {
    let all: Vec<u64> = (0..1_001).collect();
    for (name, is_removed) in [
        ("generation", false),
        ("generation", true),
        ("topics", false),
        ("topics", true),
        ("format", false),
        ("format", true),
    ] {
        let place = closed(Ack::Synced);
        let path = place.path().join(name);
        if is_removed {
            fs::remove_file(&path).unwrap();
        } else if name == "generation" {
            flip(&path, 30);
            flip(&path, 542);
        } else {
            flip(&path, 12);
        }
        assert!(
            Engine::builder(place.path())
                .create(Create::Never)
                .open()
                .is_err()
        );
        let damaged = fs::read(&path).ok();
        let report = goes_on(place.path(), &all);
        assert!(report.given_up.is_empty(), "{report:?}");
        if let Some(damaged) = damaged {
            let aside = report.set_aside.iter().find(|aside| aside.contains(name));
            assert_eq!(fs::read(aside.unwrap()).unwrap(), damaged);
        }
    }
}

#[test]
fn one_damaged_slot_is_made_good() {
    let all: Vec<u64> = (0..1_001).collect();
    for name in ["generation", "producer-ids"] {
        for at in [30, 542] {
            let place = closed(Ack::Synced);
            flip(&place.path().join(name), at);
            goes_on(place.path(), &all);
        }
    }
}

#[test]
fn generations_are_never_repeated() {
    let place = closed(Ack::Synced);
    for _ in 0..5 {
        let engine = Engine::open(place.path()).unwrap();
        fill(&engine, 1_001, 1_002);
    }
    fs::remove_file(place.path().join("generation")).unwrap();
    repaired(place.path());
    let engine = Engine::open(place.path()).unwrap();
    fill(&engine, 1_001, 1_002);
    engine.close().unwrap();
    let last = segments(place.path()).pop().unwrap();
    let (position, ..) = batch(&last, -1);
    let bytes = fs::read(&last).unwrap();
    let generation = i32::from_be_bytes(bytes[position + 12..position + 16].try_into().unwrap());
    assert!(generation > 6, "{generation}");
}

#[test]
fn lost_producer_ids_are_asked_for_and_never_guessed() {
    for is_removed in [true, false] {
        let place = closed(Ack::Synced);
        let path = place.path().join("producer-ids");
        if is_removed {
            fs::remove_file(&path).unwrap();
        } else {
            flip(&path, 30);
            flip(&path, 542);
        }
        for options in [DRY, APPLY] {
            let report = repair(place.path(), &options).unwrap();
            assert_eq!(report.refused.len(), 1, "{report:?}");
            let what = &report.refused[0].what;
            assert!(what.contains("--producer-id-floor N"), "{what}");
        }
        assert!(Engine::open(place.path()).is_err());
        let too_low = RepairOptions {
            producer_id_floor: Some(0),
            ..APPLY
        };
        let error = repair(place.path(), &too_low).unwrap_err();
        assert!(
            matches!(error, RepairError::FloorTooLow { floor: 0, .. }),
            "{error}"
        );
        let floor = RepairOptions {
            producer_id_floor: Some(70_000),
            ..APPLY
        };
        let report = repair(place.path(), &floor).unwrap();
        assert!(report.refused.is_empty(), "{report:?}");
        assert!(verify_to(place.path(), Depth::Records).unwrap().ok);
        let engine = Engine::open(place.path()).unwrap();
        assert_eq!(engine.session().unwrap().producer_id(), 70_000);
    }
}

#[test]
fn lost_names_are_given_up_and_said() {
    let place = closed(Ack::Synced);
    fs::write(place.path().join("names"), "torn").unwrap();
    let report = goes_on(place.path(), &(0..1_001).collect::<Vec<_>>());
    assert_eq!((report.given_up.len(), report.given_up[0].to), (1, 4));
    assert!(report.steps[0].what.contains("begins anew"), "{report:?}");
    let aside = place.path().join("names.damaged.1");
    assert_eq!(fs::read(aside).unwrap(), b"torn");
}

#[test]
fn a_new_lineage_skips_ids_and_raises_the_generation() {
    let place = closed(Ack::Synced);
    let id = || {
        let engine = Engine::open(place.path()).unwrap();
        engine.session().unwrap().producer_id()
    };
    let before = (id(), fs::read(place.path().join("format")).unwrap());
    let options = RepairOptions {
        new_lineage: true,
        ..APPLY
    };
    let report = repair(place.path(), &options).unwrap();
    assert_eq!(report.steps.len(), 1, "{report:?}");
    assert!(verify_to(place.path(), Depth::Records).unwrap().ok);
    assert_ne!(fs::read(place.path().join("format")).unwrap(), before.1);
    let after = id();
    assert!(after - before.0 >= 1 << 32, "{after}");
    assert_eq!(numbers(&Engine::open(place.path()).unwrap()).len(), 1_001);
}

#[test]
fn a_directory_in_use_or_of_another_release_is_refused() {
    let place = closed(Ack::Synced);
    let engine = Engine::open(place.path()).unwrap();
    for options in [DRY, APPLY] {
        let error = repair(place.path(), &options).unwrap_err();
        assert!(
            matches!(error, RepairError::Open(OpenError::DirectoryInUse { .. })),
            "{error}"
        );
    }
    engine.close().unwrap();
    let format = place.path().join("format");
    let mut bytes = fs::read(&format).unwrap();
    bytes[5] = 9;
    let crc_at = bytes.len() - 4;
    let crc = crc32(&bytes[..crc_at]);
    bytes[crc_at..].copy_from_slice(&crc.to_be_bytes());
    fs::write(&format, &bytes).unwrap();
    let before = files(place.path());
    let error = repair(place.path(), &APPLY).unwrap_err();
    assert!(error.to_string().contains("newer"), "{error}");
    let mut after = files(place.path());
    after.insert(
        place.path().join("lock"),
        before[&place.path().join("lock")].clone(),
    );
    assert_eq!(after, before);
    let nothing = tempfile::tempdir().unwrap();
    for path in [nothing.path().to_owned(), nothing.path().join("x")] {
        let error = repair(&path, &APPLY).unwrap_err();
        assert!(
            matches!(error, RepairError::Open(OpenError::Missing { .. })),
            "{error}"
        );
    }
    assert_eq!(fs::read_dir(nothing.path()).unwrap().count(), 0);
}

/// CRC-32 (ISO-HDLC), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1));
        }
    }
    !crc
}
