//! Which partition a key goes to: the default partitioner of Kafka's clients, so that keys written
//! by them and by us meet in the same partition.

/// Kafka's variant of MurmurHash2 (`Utils.murmur2`): 32 bits, seed 0x9747b28c.
pub(crate) fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const FACTOR: u32 = 0x5bd1_e995;
    // Keys have less than 2^31 bytes; of longer ones the hash would see the low 32 bits, as in C.
    let length = u32::try_from(bytes.len() & 0xffff_ffff).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        // Least significant byte first.
        let word = word
            .iter()
            .rev()
            .fold(0u32, |sum, byte| (sum << 8) | u32::from(*byte));
        let mixed = word.wrapping_mul(FACTOR);
        let mixed = (mixed ^ (mixed >> 24)).wrapping_mul(FACTOR);
        hash = hash.wrapping_mul(FACTOR) ^ mixed;
    }
    if !rest.is_empty() {
        hash ^= rest
            .iter()
            .rev()
            .fold(0, |sum, byte| (sum << 8) | u32::from(*byte));
        hash = hash.wrapping_mul(FACTOR);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(FACTOR);
    hash ^ (hash >> 15)
}

/// The partition, 0 to `partitions` - 1, of a record with that key. Of 0 partitions it is 0.
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    // Kafka clears the sign bit instead of taking the absolute value.
    (murmur2(key) & (u32::MAX >> 1)) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number behind `"name": ` in a line of the fixture.
    fn field<'a>(object: &'a str, name: &str) -> &'a str {
        let start = object.find(&format!("\"{name}\": ")).unwrap() + name.len() + 4;
        let rest = &object[start..];
        rest[..rest.find([',', '\n', '}']).unwrap()].trim_matches('"')
    }

    /// Made by kafka-python.
    #[test]
    fn hashes_and_partitions_are_those_of_kafka() {
        let fixture = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fixtures/murmur2.json"
        ));
        let mut compared = 0;
        for object in fixture.split('{').skip(1) {
            let hex = field(object, "key");
            let digit = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
            let key: Vec<u8> = (0..hex.len()).step_by(2).map(digit).collect();
            let number = |name| field(object, name).parse::<u32>().unwrap();
            assert_eq!(murmur2(&key), number("murmur2"), "{hex}");
            assert_eq!(
                partition_for_key(&key, 3),
                number("partition_of_3"),
                "{hex}"
            );
            assert_eq!(
                partition_for_key(&key, 64),
                number("partition_of_64"),
                "{hex}"
            );
            compared += 1;
        }
        assert_eq!(compared, 17);
    }

    /// Kafka's `UtilsTest.testMurmur2`.
    #[test]
    fn values_of_the_java_client() {
        assert_eq!(murmur2(b"21").cast_signed(), -973_932_308);
        assert_eq!(murmur2(b"foobar").cast_signed(), -790_332_482);
        assert_eq!(
            murmur2(b"a-little-bit-long-string").cast_signed(),
            -985_981_536
        );
        assert_eq!(partition_for_key(b"foobar", 1), 0);
        assert_eq!(partition_for_key(b"foobar", 0), 0);
    }
}
