//! Random numbers, each purpose with its own stream: changing one does not disturb the others.

/// A stream of numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of a purpose in the run of a seed.
    pub fn of(seed: u64, purpose: &str) -> Random {
        let mut random = Random(seed);
        for byte in purpose.bytes() {
            random.0 = mix(random.0 ^ u64::from(byte));
        }
        random
    }

    /// The stream of one step of a purpose.
    pub fn of_step(seed: u64, purpose: &str, step: u64) -> Random {
        let mut random = Random::of(seed, purpose);
        random.0 = mix(random.0 ^ step);
        random
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.any().checked_rem(bound).unwrap_or(0)
    }

    /// A number of a range, both ends included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// A place in something of `len` parts.
    pub fn place(&mut self, len: usize) -> usize {
        // Below a usize, so it is one.
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// Whether something happens whose chance is so many thousandths.
    pub fn chance(&mut self, thousandths: u64) -> bool {
        self.below(1_000) < thousandths
    }

    /// One of several values.
    pub fn one_of(&mut self, values: &[u64]) -> u64 {
        values.get(self.place(values.len())).copied().unwrap_or(0)
    }
}

// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
