//! What each file system keeps of what nobody synced.

use std::collections::BTreeSet;

use super::*;

const OLD: u8 = 1;
const NEW: u8 = 2;

// Which of a page's sectors are new.
fn new_sectors(page: &[u8]) -> String {
    let sector = |sector: &[u8]| match sector {
        all if all.iter().all(|byte| *byte == OLD) => '-',
        all if all.iter().all(|byte| *byte == NEW) => 'N',
        _ => panic!("a sector is torn"),
    };
    page.chunks(512).map(sector).collect()
}

#[test]
fn pages_are_kept_lost_or_torn_between_sectors() {
    for file_system in [FileSystem::Ordered, FileSystem::Loose] {
        let disk = SimulatedDisk::new(1).on(file_system);
        let file = durable(&disk, "a", &[OLD; 3 * 4096]);
        file.write_at(&[NEW; 3 * 4096], b"", 0).unwrap();
        let mut pages = BTreeSet::new();
        let mut pairs = BTreeSet::new();
        for seed in 0..500 {
            let left = disk.power_cut(seed).read_file("a").unwrap();
            assert_eq!(left.len(), 3 * 4096);
            let found: Vec<String> = left.chunks(4096).map(new_sectors).collect();
            let whole = |page: &String| page == "NNNNNNNN";
            pairs.insert((whole(&found[0]), whole(&found[1]), whole(&found[2])));
            pages.extend(found);
        }
        assert_eq!(pairs.len(), 8, "pages survive in any order");
        for wanted in [
            "--------", "NNNNNNNN", "N-------", "-------N", "NNNN----", "----NNNN",
        ] {
            assert!(pages.contains(wanted), "no page is {wanted}");
        }
        let counts = disk.power_cut(1).counts();
        assert_eq!(counts.pages_kept + counts.pages_lost + counts.pages_torn, 3);
    }
}

#[test]
fn strict_keeps_everything_or_nothing() {
    let disk = SimulatedDisk::new(1).on(FileSystem::Strict);
    let file = durable(&disk, "a", &[OLD; 3 * 4096]);
    file.write_at(&[NEW; 3 * 4096], b"", 0).unwrap();
    written(&disk, "b", b"b");
    let left = outcomes(&disk, 100, |disk| {
        (disk.read_file("a").unwrap(), names(disk, "").len())
    });
    let left: Vec<_> = left.into_keys().collect();
    assert_eq!(left, [(vec![OLD; 3 * 4096], 1), (vec![NEW; 3 * 4096], 2)]);
}

#[test]
fn names_survive_as_in_a_journal_or_each_for_itself() {
    let lists = |file_system| {
        let disk = SimulatedDisk::new(1).on(file_system);
        for name in ["a", "b", "c"] {
            disk.create(name, 0).unwrap();
        }
        let left = outcomes(&disk, 300, |disk| names(disk, "").concat());
        left.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(lists(FileSystem::Ordered), ["", "a", "ab", "abc"]);
    let loose = ["", "a", "ab", "abc", "ac", "b", "bc", "c"];
    assert_eq!(lists(FileSystem::Loose), loose);
    assert_eq!(lists(FileSystem::Strict), ["", "abc"]);
}

#[test]
fn rename_survives_whole_or_not() {
    for file_system in [FileSystem::Ordered, FileSystem::Loose] {
        let disk = SimulatedDisk::new(1).on(file_system);
        durable(&disk, "old", b"old");
        durable(&disk, "new", b"new");
        disk.rename("new", "old").unwrap();
        let look =
            |disk: &SimulatedDisk| (names(disk, "").join(" "), disk.read_file("old").unwrap());
        let left: Vec<_> = outcomes(&disk, 100, look).into_keys().collect();
        let before = ("new old".to_owned(), b"old".to_vec());
        assert_eq!(left, [before, ("old".to_owned(), b"new".to_vec())]);
        disk.sync_names("").unwrap();
        let left: Vec<_> = outcomes(&disk, 100, look).into_keys().collect();
        assert_eq!(left, [("old".to_owned(), b"new".to_vec())]);
    }
}

#[test]
fn appended_length_brings_its_bytes_along_unless_the_file_system_is_loose() {
    let tails = |file_system| {
        let disk = SimulatedDisk::new(1).on(file_system);
        let file = durable(&disk, "a", b"old");
        file.write_at(&[NEW; 10_000], b"", 3).unwrap();
        outcomes(&disk, 500, |disk| {
            let left = disk.read_file("a").unwrap();
            let missing = left[3..].iter().filter(|byte| **byte != NEW).count();
            (left.len(), missing > 0)
        })
    };
    let ordered = tails(FileSystem::Ordered);
    assert!(
        ordered.keys().all(|(_, is_missing)| !is_missing),
        "{ordered:?}"
    );
    let lens: Vec<usize> = ordered.keys().map(|(len, _)| *len).collect();
    assert_eq!(lens, [3, 4096, 8192, 10_003]);
    let loose = tails(FileSystem::Loose);
    assert!(loose.contains_key(&(10_003, true)), "{loose:?}");
    assert!(loose.contains_key(&(3, false)), "{loose:?}");
}

#[test]
fn reserved_length_survives_without_what_was_stored() {
    for file_system in [FileSystem::Ordered, FileSystem::Loose] {
        let disk = SimulatedDisk::new(1).on(file_system);
        durable(&disk, "a", b"");
        let file = disk.extend("a", 8192).unwrap();
        file.write_at(&[NEW; 8192], b"", 0).unwrap();
        let left = outcomes(&disk, 300, |disk| {
            let left = disk.read_file("a").unwrap();
            let new = left
                .chunks(4096)
                .map(|page| page.iter().all(|byte| *byte == NEW));
            (left.len(), new.collect::<Vec<_>>())
        });
        for wanted in [
            (0, vec![]),
            (8192, vec![false, true]),
            (8192, vec![true, false]),
        ] {
            assert!(left.contains_key(&wanted), "{wanted:?} of {left:?}");
        }
    }
}

#[test]
fn cut_that_was_not_synced_may_come_undone() {
    let disk = SimulatedDisk::new(1);
    let file = durable(&disk, "a", &[OLD; 5000]);
    file.cut(10).unwrap();
    let left = outcomes(&disk, 100, |disk| {
        let left = disk.read_file("a").unwrap();
        // Behind the cut the last page is zeros, which may survive without it.
        let is_old = |byte: &u8| *byte == OLD;
        (
            left.len(),
            left[..10].iter().all(is_old),
            left[4096.min(left.len())..].iter().all(is_old),
        )
    });
    let left: Vec<_> = left.into_keys().collect();
    assert_eq!(left, [(10, true, true), (5000, true, true)]);
    file.sync().unwrap();
    assert_eq!(
        outcomes(&disk, 100, |disk| disk.read_file("a").unwrap().len()).len(),
        1
    );
}

#[test]
fn what_was_cut_away_never_comes_back_behind_a_longer_end() {
    for seed in 0..100 {
        let disk = SimulatedDisk::new(seed);
        let file = durable(&disk, "a", &[OLD; 9000]);
        file.cut(10).unwrap();
        let file = disk.extend("a", 9000).unwrap();
        let mut expected = vec![OLD; 10];
        expected.resize(9000, 0);
        assert_eq!(disk.read_file("a").unwrap(), expected);
        file.sync().unwrap();
        let left = disk.power_cut(seed).read_file("a").unwrap();
        assert_eq!(left, expected, "seed {seed}");
    }
}

#[test]
fn system_writes_back_pages_lengths_and_names_by_itself() {
    let (mut pages, mut listed) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..300 {
        let disk = SimulatedDisk::new(seed).on(FileSystem::Ordered);
        let file = durable(&disk, "a", &[OLD; 2 * 4096]);
        disk.set_faults(Faults {
            write_back: 0.5,
            ..Faults::NONE
        });
        file.write_at(&[NEW; 2 * 4096], b"", 0).unwrap();
        for name in ["b", "c"] {
            disk.create(name, 100).unwrap();
        }
        // A cut that keeps nothing else.
        let worst = (0..20).map(|cut| disk.power_cut(cut));
        let kept = |disk: &SimulatedDisk| disk.counts().pages_kept + disk.counts().pages_torn;
        let left = worst
            .min_by_key(|disk| (kept(disk), names(disk, "").len()))
            .unwrap();
        let bytes = left.read_file("a").unwrap();
        pages.insert((bytes[0], bytes[4096]));
        listed.insert(names(&left, "").concat());
        let pages_written_back = disk.counts().pages_written_back;
        assert!(pages_written_back <= 2, "{pages_written_back}");
    }
    assert_eq!(pages.len(), 4, "{pages:?}");
    assert!(listed.contains("a") && listed.contains("ab"), "{listed:?}");
}
