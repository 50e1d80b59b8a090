//! File names inside of a log's directory, made from offsets and back.

/// The segment whose first offset is `base_offset`: 20 digits and `.log`, as Kafka's.
pub fn segment(base_offset: u64) -> String {
    format!("{base_offset:020}.log")
}

/// The offset and time index of that segment; a cache.
pub fn index(base_offset: u64) -> String {
    format!("{base_offset:020}.index")
}

/// What the sealed segment must hash to.
pub fn footer(base_offset: u64) -> String {
    format!("{base_offset:020}.footer")
}

/// The producer snapshot that reflects everything below `offset`; a cache.
pub fn snapshot(offset: u64) -> String {
    format!("{offset:020}.snapshot")
}

/// A segment that was prepared but may hold nothing yet; `number` tells several apart.
pub fn prepared(number: u64) -> String {
    format!("next-{number}.segment")
}

/// Whether the name is one that [`prepared`] makes.
pub fn is_prepared(name: &str) -> bool {
    name.strip_prefix("next-")
        .and_then(|n| n.strip_suffix(".segment"))
        .is_some_and(|n| n.parse::<u64>().is_ok())
}

/// The offset in a name of exactly 20 digits and `.extension`.
pub fn offset_of(name: &str, extension: &str) -> Option<u64> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    if digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()) {
        digits.parse().ok()
    } else {
        None
    }
}

/// `directory/name`, or the name alone in the root.
pub fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() {
        name.to_owned()
    } else {
        format!("{directory}/{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_offsets_do_and_come_back() {
        let offsets = [0, 9, 10, 4711, u64::from(u32::MAX), i64::MAX.unsigned_abs()];
        let names: Vec<_> = offsets.iter().map(|&o| segment(o)).collect();
        assert!(names.is_sorted());
        for (name, offset) in names.iter().zip(offsets) {
            assert_eq!(offset_of(name, "log"), Some(offset));
        }
    }

    #[test]
    fn foreign_names_have_no_offset() {
        for name in [
            "1.log",
            "0000000000000000000x.log",
            "00000000000000000001.logs",
            "marks",
        ] {
            assert_eq!(offset_of(name, "log"), None, "{name}");
        }
        assert!(is_prepared(&prepared(7)));
        assert!(!is_prepared("next-x.segment"));
    }
}
