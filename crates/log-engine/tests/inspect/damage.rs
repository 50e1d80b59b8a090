//! Damage of every kind, and the invariant that it is reported under.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use log_engine::inspect::{Depth, verify_to};
use log_engine::{Engine, TopicConfig};
use segment_storage::{Disk, Marks, OsDisk, StableMark};
use tempfile::TempDir;

use crate::directory::{
    RECORDS, about, append_below_mark, batch, check, closed, copy, fill, mark, send_named, small,
    stored, with_extension,
};

const LOG: &str = "orders-0";

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn swap(a: &Path, b: &Path) {
    let (left, right) = (fs::read(a).unwrap(), fs::read(b).unwrap());
    fs::write(a, right).unwrap();
    fs::write(b, left).unwrap();
}

#[test]
fn damaged_batch_is_named_with_its_position() {
    let directory = closed();
    let segments = with_extension(&directory.path().join(LOG), "log");
    for path in [&segments[1], segments.last().unwrap()] {
        let damaged = copy(directory.path());
        let path = damaged
            .path()
            .join(path.strip_prefix(directory.path()).unwrap());
        flip(&path, 70);
        let report = check(damaged.path());
        let problems = about(&report, &path);
        assert_eq!(problems.len(), 1, "{report:?}");
        assert_eq!(
            (problems[0].invariant, problems[0].position),
            ("I24", Some(0))
        );
        assert!(problems[0].what.contains("CRC"), "{problems:?}");
        // Nothing else is wrong, and what is whole is counted.
        assert_eq!(report.problems.len(), 1, "{report:?}");
        assert!(report.batches > 100, "{report:?}");
    }
}

#[test]
fn missing_segments_are_found_wherever_they_were() {
    let directory = closed();
    let segments = with_extension(&directory.path().join(LOG), "log");
    for (at, with_footer) in [(0, true), (1, true), (1, false), (segments.len() - 1, true)] {
        let damaged = copy(directory.path());
        let path = damaged
            .path()
            .join(segments[at].strip_prefix(directory.path()).unwrap());
        fs::remove_file(&path).unwrap();
        if with_footer {
            let _ = fs::remove_file(path.with_extension("footer"));
            let _ = fs::remove_file(path.with_extension("index"));
        }
        let report = check(damaged.path());
        assert!(
            report
                .problems
                .iter()
                .any(|p| p.invariant == "I24" && p.what.contains("missing")),
            "segment {at}: {report:?}"
        );
        if at + 1 == segments.len() || !with_footer {
            assert_eq!(about(&report, &path).len(), 1, "{report:?}");
        }
    }
}

#[test]
fn files_of_another_log_are_told_apart() {
    let directory = closed();
    let sealed = "00000000000000000000";
    for (file, invariant) in [
        ("marks".to_owned(), "I26"),
        (format!("{sealed}.footer"), "I26"),
        (format!("{sealed}.index"), "I25"),
        (format!("{sealed}.log"), "R12"),
    ] {
        let damaged = copy(directory.path());
        let [left, right] =
            ["orders-0", "orders-1"].map(|log| damaged.path().join(log).join(&file));
        swap(&left, &right);
        let report = check(damaged.path());
        for path in [left, right] {
            let problems = about(&report, &path);
            assert!(
                problems.iter().any(|p| p.invariant == invariant),
                "{file}: {report:?}"
            );
        }
    }
    // The folders as a whole.
    let [left, right, aside] = ["orders-0", "orders-1", "aside"].map(|d| directory.path().join(d));
    fs::rename(&left, &aside).unwrap();
    fs::rename(&right, &left).unwrap();
    fs::rename(&aside, &right).unwrap();
    let report = check(directory.path());
    assert_eq!(about(&report, &left.join("marks"))[0].invariant, "I26");
    assert_eq!(about(&report, &right.join("marks"))[0].invariant, "I26");
}

/// A closed log of one producer, id and batches, and the path of its segment.
fn one_producer(config: &TopicConfig) -> (TempDir, i64, std::path::PathBuf) {
    let directory = TempDir::new().unwrap();
    let engine = Engine::open(directory.path()).unwrap();
    let topic = engine.create_topic("orders", 1, config.clone()).unwrap();
    let id = engine.session().unwrap().producer_id();
    let partition = topic.partition(0).unwrap();
    for sequence in [0, 2, 4, 6] {
        partition
            .blocking_append(&batch(id, 0, sequence, 2))
            .unwrap();
    }
    engine.close().unwrap();
    let path = directory.path().join(LOG).join("00000000000000000000.log");
    (directory, id, path)
}

#[test]
fn forged_batches_are_reported_by_the_invariant_they_break() {
    let mut kafka = TopicConfig::default();
    kafka.set("producer.unknown", "kafka").unwrap();
    let strict = TopicConfig::default();
    // Config, producer id offset, epoch, first sequence; what it breaks.
    for (config, stranger, epoch, sequence, invariant) in [
        (&strict, 0, 0, 6, "I2"), // the newest batch again
        (&strict, 0, 0, 2, "I2"), // an older one
        (&kafka, 0, 0, 6, "I2"),
        (&kafka, 0, 0, 2, "I2"),
        (&strict, 0, 0, 10, "I3"), // a gap
        (&kafka, 0, 0, 10, ""),
        (&strict, 0, 1, 4, "I3"), // an epoch that does not begin at 0
        (&strict, 1, 0, 3, "I3"), // a producer that does not
        (&strict, 1, 0, 0, ""),
        (&strict, 1_000_000, 0, 0, "I15"), // an id that was never handed out
        (&kafka, 1_000_000, 0, 3, ""),
        (&strict, 0, 0, 8, ""), // what the producer would send next
    ] {
        let (directory, id, path) = one_producer(config);
        let mark = mark(directory.path(), LOG);
        assert_eq!(mark.next_offset, 8);
        let forged = stored(
            &batch(id + stranger, epoch, sequence, 2),
            8,
            mark.generation,
        );
        append_below_mark(directory.path(), LOG, &forged, 2);
        let report = check(directory.path());
        let case = format!("{stranger} {epoch} {sequence}: {report:?}");
        if invariant.is_empty() {
            assert!(report.ok, "{case}");
            assert_eq!(report.records, 10, "{case}");
        } else {
            let problems = about(&report, &path);
            assert_eq!(problems.len(), 1, "{case}");
            assert_eq!(problems[0].invariant, invariant, "{case}");
            assert_eq!(problems[0].position, Some(mark.position), "{case}");
            assert_eq!(report.problems.len(), 1, "{case}");
        }
    }
}

#[test]
fn without_idempotence_repeats_are_what_was_asked_for() {
    let (directory, id, _) = one_producer(&TopicConfig::default().with_idempotence(false));
    let generation = mark(directory.path(), LOG).generation;
    let again = stored(&batch(id, 0, 6, 2), 8, generation);
    append_below_mark(directory.path(), LOG, &again, 2);
    let report = check(directory.path());
    assert_eq!(report.problems, []);
    assert_eq!(report.records, 10);
}

#[test]
fn wrong_offsets_generations_and_marks_are_found() {
    let (directory, id, path) = one_producer(&TopicConfig::default());
    let mark = mark(directory.path(), LOG);
    let next = batch(id, 0, 8, 2);
    for (offset, generation, offsets, invariant, file) in [
        (9, mark.generation, 3, "I24", &path), // a hole in the offsets
        (7, mark.generation, 2, "I24", &path), // an offset twice
        (8, mark.generation + 1, 2, "I24", &path), // a generation from the future
        (8, mark.generation, 5, "R15", &path), // the mark promises more offsets
    ] {
        let damaged = copy(directory.path());
        append_below_mark(
            damaged.path(),
            LOG,
            &stored(&next, offset, generation),
            offsets,
        );
        let report = check(damaged.path());
        let file = damaged
            .path()
            .join(file.strip_prefix(directory.path()).unwrap());
        let problems = about(&report, &file);
        assert_eq!(problems[0].invariant, invariant, "{report:?}");
        assert_eq!(problems.len(), report.problems.len(), "{report:?}");
    }
    // The mark in the middle of a batch.
    let half = &stored(&next, 8, mark.generation)[..100];
    append_below_mark(directory.path(), LOG, half, 2);
    let report = check(directory.path());
    assert_eq!(about(&report, &path)[0].position, Some(mark.position));
}

#[test]
fn footers_that_are_missing_or_say_something_else_are_found() {
    let directory = closed();
    let footer = with_extension(&directory.path().join(LOG), "footer").remove(0);
    let missing = copy(directory.path());
    let path = missing
        .path()
        .join(footer.strip_prefix(directory.path()).unwrap());
    fs::remove_file(&path).unwrap();
    let report = check(missing.path());
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert_eq!(about(&report, &path)[0].invariant, "R12");
    // The leader epoch is covered by no CRC, only by the footer.
    let segment = footer.with_extension("log");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[15] = 0;
    fs::write(&segment, bytes).unwrap();
    let report = check(directory.path());
    assert_eq!(about(&report, &segment)[0].invariant, "R12", "{report:?}");
    assert_eq!(report.problems.len(), 1, "{report:?}");
}

#[test]
fn stable_numbers_that_are_lost_are_found() {
    let directory = closed();
    for (file, slots, invariant) in [
        ("orders-0/marks", 0..1_024, "R14"),
        ("orders-0/marks", 1_024..2_048, "R14"),
        ("orders-0/marks", 2_048..3_072, "R14"),
        ("generation", 0..1_024, "R14"),
        ("producer-ids", 0..1_024, "R18"),
        ("topics", 0..14, "I26"),
        ("format", 0..14, "I26"),
    ] {
        let damaged = copy(directory.path());
        let path = damaged.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        for byte in &mut bytes[slots] {
            *byte ^= 0x5a;
        }
        fs::write(&path, bytes).unwrap();
        let report = check(damaged.path());
        assert_eq!(
            about(&report, &path)[0].invariant,
            invariant,
            "{file}: {report:?}"
        );
        fs::remove_file(&path).unwrap();
        let report = check(damaged.path());
        assert!(!about(&report, &path).is_empty(), "{file}: {report:?}");
    }
}

#[test]
fn logs_without_a_topic_and_topics_without_a_log_are_found() {
    let directory = closed();
    let before = fs::read(directory.path().join("topics")).unwrap();
    let engine = Engine::open(directory.path()).unwrap();
    let topic = engine.create_topic("later", 1, small()).unwrap();
    fill(&engine, &topic.partition(0).unwrap(), 3);
    engine.close().unwrap();
    assert_eq!(check(directory.path()).problems, []);
    let older = copy(directory.path());
    fs::write(older.path().join("topics"), before).unwrap();
    let report = check(older.path());
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert_eq!(
        about(&report, &older.path().join("later-0"))[0].invariant,
        "I26"
    );
    fs::remove_dir_all(directory.path().join("later-0")).unwrap();
    let report = check(directory.path());
    assert!(!report.ok && report.problems.iter().all(|p| p.file.contains("later-0")));
    // A partition that was being added when a crash came is no stray; another topic's would be.
    for (log, id) in [("orders-2", "orders-0"), ("orders-3", "later-0")] {
        let of = mark(older.path(), id).log_id;
        let log_id = if id == "orders-0" { of ^ 2 } else { of };
        let disk: Arc<dyn Disk> = Arc::new(OsDisk::open(older.path().to_owned()).unwrap());
        disk.create_directory(log).unwrap();
        Marks::create(&disk, log, log_id).unwrap();
    }
    let report = check(older.path());
    assert_eq!(
        about(&report, &older.path().join("orders-2")).len(),
        0,
        "{report:?}"
    );
    assert_eq!(
        about(&report, &older.path().join("orders-3")).len(),
        1,
        "{report:?}"
    );
    assert!(
        report.notes[0].contains("orders-2: a partition"),
        "{report:?}"
    );
    // What is somebody else's is a note.
    fs::write(older.path().join("orders-0/notes.txt"), "mine").unwrap();
    fs::create_dir(older.path().join("lost+found")).unwrap();
    let notes = check(older.path()).notes;
    assert_eq!(notes.len(), 3, "{notes:?}");
}

#[test]
fn malformed_records_under_a_right_crc_show_when_records_are_read() {
    let (directory, id, path) = one_producer(&TopicConfig::default());
    let mark = mark(directory.path(), LOG);
    let mut forged = stored(&batch(id, 0, 8, RECORDS), 8, mark.generation);
    forged[61] ^= 0x02; // length of the first record
    let crc = crc32c(&forged[21..]);
    forged[17..21].copy_from_slice(&crc.to_be_bytes());
    append_below_mark(directory.path(), LOG, &forged, RECORDS);
    assert!(check(directory.path()).ok);
    let report = verify_to(directory.path(), Depth::Records).unwrap();
    assert_eq!(about(&report, &path)[0].invariant, "R10");
    assert_eq!(about(&report, &path)[0].position, Some(mark.position));
}

/// CRC-32C bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn segments_that_are_cut_or_extended_are_found() {
    let directory = closed();
    let segments = with_extension(&directory.path().join(LOG), "log");
    for segment in [&segments[1], segments.last().unwrap()] {
        let whole = fs::read(segment).unwrap();
        let extended = [whole.as_slice(), &[0; 100]].concat();
        for (bytes, at) in [
            (&whole[..whole.len() - 1], whole.len() - 1),
            (&extended, whole.len()),
        ] {
            fs::write(segment, bytes).unwrap();
            let report = check(directory.path());
            let problems = about(&report, segment);
            let position = u64::try_from(at).unwrap();
            assert!(
                problems
                    .iter()
                    .any(|p| (p.invariant, p.position) == ("R12", Some(position))),
                "{report:?}"
            );
            assert_eq!(problems.len(), report.problems.len(), "{report:?}");
        }
        fs::write(segment, whole).unwrap();
    }
}

#[test]
fn damage_above_the_mark_is_no_torn_tail_when_a_later_generation_exists() {
    let (directory, id, path) = one_producer(&TopicConfig::default());
    Engine::open(directory.path()).unwrap().close().unwrap();
    let mark = mark(directory.path(), LOG);
    // The mark goes back by two batches of four, and the third is damaged.
    let bytes = fs::read(&path).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::open(directory.path().to_owned()).unwrap());
    let marks = Marks::open(&disk, LOG).unwrap();
    let earlier = StableMark {
        position: mark.position / 2,
        next_offset: 4,
        clean: false,
        ..mark
    };
    marks.write_mark(&earlier).unwrap();
    marks.sync().unwrap();
    let third = usize::try_from(earlier.position).unwrap();
    flip(&path, third + 70);
    let report = check(directory.path());
    assert_eq!(report.problems, []);
    assert_eq!(report.records, 4);
    assert!(
        report.notes.iter().any(|n| n.contains("no whole batches")),
        "{report:?}"
    );
    let later = path.with_file_name("00000000000000000008.log");
    for (generation, expected) in [(1, 0), (2, 1)] {
        fs::write(&later, stored(&batch(id, 0, 8, 2), 8, generation)).unwrap();
        let report = check(directory.path());
        assert_eq!(
            report.problems.len(),
            expected,
            "generation {generation}: {report:?}"
        );
        let problems = about(&report, &path);
        assert!(
            problems
                .iter()
                .all(|p| p.position == Some(earlier.position))
        );
        assert!(problems.iter().all(|p| p.invariant == "I24"), "{report:?}");
    }
    assert_eq!(bytes.len() as u64, mark.position);
}

#[test]
fn mark_inside_of_a_batch_of_a_sealed_segment_is_found() {
    let directory = closed();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::open(directory.path().to_owned()).unwrap());
    let marks = Marks::open(&disk, LOG).unwrap();
    let within = StableMark {
        segment_base: 0,
        position: 100,
        next_offset: 3,
        previous_end: 0,
        clean: false,
        ..marks.mark().unwrap()
    };
    marks.write_mark(&within).unwrap();
    marks.sync().unwrap();
    let report = check(directory.path());
    let problems = about(&report, &directory.path().join(LOG).join("marks"));
    assert_eq!(problems.len(), 1, "{report:?}");
    assert_eq!(problems[0].invariant, "R15");
    assert_eq!(report.problems.len(), 1, "{report:?}");
}

#[test]
fn generation_that_went_back_is_found() {
    let (directory, id, path) = one_producer(&TopicConfig::default());
    let before = fs::read(directory.path().join("generation")).unwrap();
    let engine = Engine::open(directory.path()).unwrap();
    let partition = engine.topic("orders").unwrap().partition(0).unwrap();
    partition.blocking_append(&batch(id, 0, 8, 2)).unwrap();
    engine.close().unwrap();
    assert_eq!(check(directory.path()).problems, []);
    fs::write(directory.path().join("generation"), before).unwrap();
    let report = check(directory.path());
    let marks = directory.path().join(LOG).join("marks");
    assert_eq!(about(&report, &marks)[0].invariant, "I22", "{report:?}");
    assert_eq!(about(&report, &path)[0].invariant, "I24", "{report:?}");
}

#[test]
fn names_that_are_damaged_or_from_another_time_are_found() {
    let directory = TempDir::new().unwrap();
    let engine = Engine::open(directory.path()).unwrap();
    engine.ensure_topic("orders", 1).unwrap();
    let early = copy(directory.path());
    // Past the first block of ids, so that an older allocator does not know the name's.
    for _ in 0..1_500 {
        engine.session().unwrap();
    }
    send_named(&engine, "orders", 0..3);
    engine.close().unwrap();
    let path = directory.path().join("names");
    let older = copy(directory.path());
    fs::copy(
        early.path().join("producer-ids"),
        older.path().join("producer-ids"),
    )
    .unwrap();
    let report = check(older.path());
    assert_eq!(
        about(&report, &older.path().join("names"))[0].invariant,
        "I15",
        "{report:?}"
    );
    flip(&path, 20);
    let report = check(directory.path());
    assert_eq!(about(&report, &path)[0].invariant, "I18", "{report:?}");
    assert_eq!(report.problems.len(), 1, "{report:?}");
}
