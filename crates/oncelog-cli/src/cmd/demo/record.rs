//! The records of the demo: which producer sent it, which record it is, and filling that follows
//! from both, so that every byte can be judged.

use crate::dice::mix;

/// Bytes of a value.
pub(super) const VALUE_BYTES: usize = 100;
/// The time in every record, so that the same seed gives the same bytes: 2026-01-01.
pub(super) const TIME_MS: i64 = 1_767_225_600_000;

const PRODUCER: (usize, usize) = (9, 5);
const NUMBER: (usize, usize) = (22, 10);
const FILLING: usize = 33;

/// The value of a record. `producer` has at most 5 digits, `record` at most 10.
pub(super) fn value(producer: u32, record: u64) -> [u8; VALUE_BYTES] {
    let mut value = [b' '; VALUE_BYTES];
    value[..FILLING].copy_from_slice(b"producer 00000 record 0000000000 ");
    digits(&mut value, PRODUCER, u64::from(producer));
    digits(&mut value, NUMBER, record);
    let mut state = mix((u64::from(producer) << 40) ^ record);
    for bytes in value[FILLING..].chunks_mut(8) {
        state = mix(state.wrapping_add(1));
        for (byte, random) in bytes.iter_mut().zip(state.to_be_bytes()) {
            *byte = b'a' + random % 26;
        }
    }
    value
}

fn digits(value: &mut [u8; VALUE_BYTES], (at, length): (usize, usize), mut number: u64) {
    for byte in value[at..at + length].iter_mut().rev() {
        *byte = b"0123456789"[usize::try_from(number % 10).unwrap_or(0)];
        number /= 10;
    }
}

/// Producer and record number; `None` where it is not, byte for byte, what they sent.
pub(super) fn parse(bytes: &[u8]) -> Option<(u32, u64)> {
    let number = |(at, length): (usize, usize)| {
        std::str::from_utf8(bytes.get(at..at + length)?)
            .ok()?
            .parse::<u64>()
            .ok()
    };
    let producer = u32::try_from(number(PRODUCER)?).ok()?;
    let record = number(NUMBER)?;
    (value(producer, record) == bytes).then_some((producer, record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_no_changed_byte_goes_unseen() {
        let value = value(9_999, 1_234_567_890);
        assert_eq!(parse(&value), Some((9_999, 1_234_567_890)));
        assert!(value.starts_with(b"producer 09999 record 1234567890 "));
        for at in 0..VALUE_BYTES {
            let mut changed = value;
            changed[at] ^= 1;
            assert_eq!(parse(&changed), None, "byte {at}");
        }
        assert_eq!(parse(&value[..99]), None);
        assert_eq!(parse(b""), None);
    }
}
