//! CRC-32C (Castagnoli, RFC 3720), the checksum of every batch.

use crate::header::at;

/// The CRC-32C of `bytes`.
///
/// ```
/// assert_eq!(record_batch::crc32c(b"123456789"), 0xe306_9283);
/// ```
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The CRC-32C of the bytes that gave `crc`, followed by `bytes`. The CRC of nothing is 0.
///
/// ```
/// let whole = record_batch::crc32c(b"123456789");
/// assert_eq!(record_batch::crc32c_append(record_batch::crc32c(b"1234"), b"56789"), whole);
/// ```
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    let state = u64::from(!crc);
    let mut digest =
        crc_fast::Digest::new_with_init_state(crc_fast::CrcAlgorithm::Crc32Iscsi, state);
    digest.update(bytes);
    // A 32-bit algorithm: the upper half is zero.
    let [_, _, _, _, rest @ ..] = digest.finalize().to_be_bytes();
    u32::from_be_bytes(rest)
}

/// Computes the CRC of a batch, writes it into its header, and returns it.
///
/// # Panics
/// If the bytes are fewer than a header's.
pub(crate) fn seal(batch: &mut [u8]) -> u32 {
    let crc = crc32c(&batch[at::ATTRIBUTES..]);
    batch[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit, from the polynomial.
    fn slow(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |c, _| {
                if c & 1 == 1 {
                    (c >> 1) ^ 0x82f6_3b78
                } else {
                    c >> 1
                }
            })
        })
    }

    // RFC 3720, appendix B.4.
    #[test]
    fn values_of_the_rfc() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let up: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&up), 0x46dd_794e);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn every_length_and_every_split_agree_with_the_polynomial() {
        let bytes: Vec<u8> = (0..2000u32)
            .map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0])
            .collect();
        for length in (0..300).chain([511, 512, 513, 1023, 1024, 2000]) {
            let expected = slow(&bytes[..length]);
            assert_eq!(crc32c(&bytes[..length]), expected, "{length}");
            let half = length / 3;
            let crc = crc32c_append(crc32c(&bytes[..half]), &bytes[half..length]);
            assert_eq!(crc, expected, "{length}, split at {half}");
        }
    }
}
