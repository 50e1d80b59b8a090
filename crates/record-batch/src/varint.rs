//! Zig-zag base-128 integers, least significant group first, as in Protocol Buffers.
//!
//! `varint` holds an `i32` in at most 5 bytes, `varlong` an `i64` in at most 10.

use std::ops::Range;

pub(crate) fn zigzag(value: i64) -> u64 {
    (value << 1).cast_unsigned() ^ (value >> 63).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Bytes that `value` takes, 1 to 10. An `i32` takes the same as varint and as varlong.
pub(crate) fn size(value: i64) -> usize {
    let bits = u64::BITS - (zigzag(value) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Writes `value` at `at` and gives the position behind it.
///
/// # Panics
/// If `buffer` ends before.
pub(crate) fn put(buffer: &mut [u8], at: usize, value: i64) -> usize {
    let mut rest = zigzag(value);
    let mut at = at;
    while rest >= 0x80 {
        buffer[at] = rest.to_be_bytes()[7] | 0x80;
        rest >>= 7;
        at += 1;
    }
    buffer[at] = rest.to_be_bytes()[7];
    at + 1
}

/// Reads through bytes, never behind their end.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Reads `bytes` from position `at` on.
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Cursor<'a> {
        Cursor {
            bytes,
            at: at.min(bytes.len()),
        }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn byte(&mut self) -> Result<u8, &'static str> {
        let byte = *self.bytes.get(self.at).ok_or("it ends within a field")?;
        self.at += 1;
        Ok(byte)
    }

    fn groups(&mut self, most: u32) -> Result<u64, &'static str> {
        let mut value = 0u64;
        for group in 0..most {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth group has room for one bit.
            if group == 9 && bits > 1 {
                return Err("a varlong exceeds 64 bits");
            }
            value |= bits << (7 * group);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a varint does not end")
    }

    pub(crate) fn varint(&mut self) -> Result<i32, &'static str> {
        let value = u32::try_from(self.groups(5)?).map_err(|_| "a varint exceeds 32 bits")?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    pub(crate) fn varlong(&mut self) -> Result<i64, &'static str> {
        Ok(unzigzag(self.groups(10)?))
    }

    /// Steps over `length` bytes and gives where they lie.
    pub(crate) fn take(&mut self, length: i32) -> Result<Range<usize>, &'static str> {
        let length = usize::try_from(length).map_err(|_| "a length is negative")?;
        if length > self.remaining() {
            return Err("a length exceeds the bytes left");
        }
        let start = self.at;
        self.at += length;
        Ok(start..self.at)
    }

    /// A length and that many bytes; -1 is null.
    pub(crate) fn nullable(&mut self) -> Result<Option<Range<usize>>, &'static str> {
        match self.varint()? {
            -1 => Ok(None),
            length => self.take(length).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(value: i64) -> Vec<u8> {
        let mut buffer = [0; 10];
        let end = put(&mut buffer, 0, value);
        buffer[..end].to_vec()
    }

    // Kafka's ByteUtilsTest.
    #[test]
    fn bytes_are_those_of_kafka() {
        assert_eq!(written(0), [0]);
        assert_eq!(written(-1), [1]);
        assert_eq!(written(1), [2]);
        assert_eq!(written(63), [0x7e]);
        assert_eq!(written(64), [0x80, 1]);
        assert_eq!(written(-8193), [0x81, 0x80, 0x01]);
        assert_eq!(written(i64::from(i32::MAX)), [0xfe, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(written(i64::from(i32::MIN)), [0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(
            written(i64::MIN),
            [255, 255, 255, 255, 255, 255, 255, 255, 255, 1]
        );
    }

    #[test]
    fn endless_cut_and_oversized_ones_are_refused() {
        assert!(Cursor::new(&[0xff; 6], 0).varint().is_err());
        assert!(Cursor::new(&[0xff; 11], 0).varlong().is_err());
        assert!(Cursor::new(&[0x80, 0x80], 0).varint().is_err());
        assert!(
            Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0x1f], 0)
                .varint()
                .is_err()
        );
        let mut wide = [0xff; 10];
        wide[9] = 2;
        assert!(Cursor::new(&wide, 0).varlong().is_err());
        assert!(Cursor::new(&[], 0).varint().is_err());
    }

    proptest! {
        #[test]
        fn longs_come_back(value: i64) {
            let bytes = written(value);
            prop_assert_eq!(bytes.len(), size(value));
            let mut cursor = Cursor::new(&bytes, 0);
            prop_assert_eq!(cursor.varlong(), Ok(value));
            prop_assert_eq!(cursor.remaining(), 0);
        }

        #[test]
        fn integers_come_back(value: i32) {
            let bytes = written(i64::from(value));
            prop_assert!(bytes.len() <= 5);
            prop_assert_eq!(Cursor::new(&bytes, 0).varint(), Ok(value));
        }
    }
}
