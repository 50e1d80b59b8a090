//! Takes the fuzzer's bytes apart; a part that is missing is zero.

/// The bytes that are left.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.bytes(N);
        let mut array = [0; N];
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    /// At most so many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    /// A number below `end`, which is at most 65,536 and not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let drawn = if end <= 256 {
            u16::from(self.u8())
        } else {
            self.u16()
        };
        usize::from(drawn) % end
    }

    /// A number of any size, mostly a small one.
    pub(crate) fn number(&mut self) -> u64 {
        let kind = self.u8();
        match kind {
            0..=199 => u64::from(kind),
            200..=227 => u64::from(self.u16()),
            228..=240 => u64::MAX - u64::from(self.u8()),
            _ => u64::from_be_bytes(self.array()),
        }
    }

    /// Bytes with their length before them.
    pub(crate) fn piece(&mut self) -> &'a [u8] {
        let count = usize::from(self.u16());
        self.bytes(count)
    }
}

/// CRC-32 (ISO-HDLC), a bit at a time.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// A frame as all files but segments are made of, with a right length and a right CRC.
pub(crate) fn frame(magic: [u8; 4], version: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = magic.to_vec();
    frame.extend(version.to_be_bytes());
    frame.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(body);
    let crc = crc32(&frame);
    frame.extend(crc.to_be_bytes());
    frame
}

/// The contents of a file: raw bytes where the first is even, else one frame around the rest.
pub(crate) fn framed(input: &mut Input<'_>, magic: [u8; 4]) -> Vec<u8> {
    match input.u8() {
        kind if kind.is_multiple_of(2) => input.bytes(usize::MAX).to_vec(),
        255 => {
            let version = input.u16();
            frame(magic, version, input.bytes(usize::MAX))
        }
        _ => frame(magic, 1, input.bytes(usize::MAX)),
    }
}

/// A slot of 512 bytes with a frame in it.
pub(crate) fn slot(magic: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut slot = frame(magic, 1, &body[..body.len().min(480)]);
    slot.resize(512, 0);
    slot
}
