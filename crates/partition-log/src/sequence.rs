//! Sequence numbers and their arithmetic, which wraps at 2^31 - 1.

/// A record's place in its producer's stream to one partition: 0 to 2^31 - 1, and after the
/// largest comes 0 again (Kafka's rule: not 1, and never negative).
///
/// There is no order: on a circle each value lies before and after every other. What can be asked
/// is how far it is from one to the next ([`Sequence::distance`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Sequence(i32);

impl Sequence {
    /// Where every epoch of a producer begins.
    pub const ZERO: Sequence = Sequence(0);
    /// 2147483647, followed by 0.
    pub const MAX: Sequence = Sequence(i32::MAX);
    /// How many sequences there are, 2^31.
    pub const COUNT: u32 = 1 << 31;

    /// The sequence with that number; `None` when negative (Kafka writes -1 for "no sequence").
    pub const fn new(value: i32) -> Option<Sequence> {
        if value < 0 {
            None
        } else {
            Some(Sequence(value))
        }
    }

    /// The number, 0 to 2^31 - 1.
    pub const fn get(self) -> i32 {
        self.0
    }

    /// The sequence `delta` steps on.
    #[must_use]
    pub const fn advance(self, delta: u32) -> Sequence {
        Sequence::wrap(self.0.cast_unsigned().wrapping_add(delta))
    }

    /// The sequence `delta` steps back.
    #[must_use]
    pub const fn retreat(self, delta: u32) -> Sequence {
        Sequence::wrap(self.0.cast_unsigned().wrapping_sub(delta))
    }

    /// Whether `next` comes directly after this one.
    pub const fn follows(self, next: Sequence) -> bool {
        self.advance(1).0 == next.0
    }

    /// Steps from this one on to `to`, 0 to 2^31 - 1.
    pub const fn distance(self, to: Sequence) -> u32 {
        Sequence::wrap(to.0.cast_unsigned().wrapping_sub(self.0.cast_unsigned()))
            .0
            .cast_unsigned()
    }

    /// 2^31 divides 2^32, so a sum or difference that wrapped as `u32` is still right after the
    /// highest bit is dropped.
    const fn wrap(value: u32) -> Sequence {
        Sequence((value % Sequence::COUNT).cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(value: i32) -> Sequence {
        Sequence::new(value).unwrap()
    }

    #[test]
    fn case_005_arithmetic_over_the_wrap() {
        assert_eq!(Sequence::MAX.advance(1), at(0));
        assert_eq!(at(0).retreat(1), Sequence::MAX);
        assert_eq!(at(i32::MAX - 10).advance(20), at(9));
        assert_eq!(at(9).retreat(20), at(i32::MAX - 10));
    }

    #[test]
    fn agrees_with_arithmetic_in_64_bits() {
        const COUNT: i64 = 1 << 31;
        let values = [0, 1, 2, 1 << 30, (1 << 30) + 1, i32::MAX - 1, i32::MAX];
        for a in values {
            for b in values {
                let (x, y) = (i64::from(a), i64::from(b));
                let delta = u32::try_from(b).unwrap();
                assert_eq!(
                    i64::from(at(a).advance(delta).get()),
                    (x + y).rem_euclid(COUNT)
                );
                assert_eq!(
                    i64::from(at(a).retreat(delta).get()),
                    (x - y).rem_euclid(COUNT)
                );
                assert_eq!(i64::from(at(a).distance(at(b))), (y - x).rem_euclid(COUNT));
                assert_eq!(at(a).follows(at(b)), (x + 1) % COUNT == y, "{a} then {b}");
            }
        }
    }

    #[test]
    fn negative_numbers_are_no_sequences() {
        assert_eq!(Sequence::new(-1), None);
        assert_eq!(Sequence::new(i32::MIN), None);
        assert_eq!(Sequence::new(0), Some(Sequence::ZERO));
    }
}
