//! The offset ceiling of a log whose appends are visible before they are durable (I9).

/// How far ahead of use the ceiling is raised, in offsets. A step is to last about a second, so that
/// a busy log waits for the disk no more than once a second, and an idle one skips few offsets
/// after a crash.
const STEP_MIN: u64 = 1_024;
const STEP_MAX: u64 = 1 << 32;
/// What a step is multiplied by at most: a log that is suddenly busy has its step after three or
/// four raises and not after eleven, each of which holds up its appends.
const GROWTH_MAX: u64 = 16;

/// The offset that no offset shown to anybody reaches, and when it must be raised.
#[derive(Debug)]
pub(crate) struct Ceiling {
    offset: u64,
    step: u64,
    raised_ms: u64,
    /// The value that is being made durable, and the end of the last batch below it.
    asked: (u64, u64),
}

impl Ceiling {
    pub(crate) fn at(offset: u64) -> Ceiling {
        Ceiling {
            offset,
            step: STEP_MIN,
            raised_ms: 0,
            asked: (offset, 0),
        }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes note that a batch was appended that ends at `end`; whether it may be shown. A batch
    /// is shown whole or not at all, so one that reaches over the ceiling waits.
    pub(crate) fn note_append(&mut self, end: u64) -> bool {
        if end <= self.asked.0 {
            self.asked.1 = end;
        }
        end <= self.offset
    }

    /// Whether half of the last step is used.
    pub(crate) fn is_due(&self, next_offset: u64) -> bool {
        next_offset.saturating_add(self.step / 2) > self.offset
    }

    /// What to raise the ceiling to, ahead of `next_offset`.
    pub(crate) fn ask(&mut self, next_offset: u64, now_ms: u64) -> u64 {
        let lasted_ms = now_ms.saturating_sub(self.raised_ms);
        self.step = if lasted_ms < 1_000 && self.offset > 0 {
            let growth = (1_000 / lasted_ms.max(1)).clamp(2, GROWTH_MAX);
            self.step.saturating_mul(growth).min(STEP_MAX)
        } else {
            (self.step / 2).max(STEP_MIN)
        };
        self.raised_ms = now_ms;
        let asked = next_offset.saturating_add(self.step);
        self.asked = (asked, next_offset);
        asked
    }

    /// Raises the ceiling; returns the end of the last batch that may be shown now, as far as it
    /// is known.
    pub(crate) fn raise(&mut self, offset: u64, next_offset: u64) -> u64 {
        self.offset = self.offset.max(offset);
        if next_offset <= self.offset {
            next_offset
        } else if self.asked.0 <= self.offset {
            self.asked.1
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_grow_while_raises_come_soon_and_halve_else() {
        let mut ceiling = Ceiling::at(0);
        let mut asked = Vec::new();
        for now_ms in [5_000, 5_500, 6_499, 6_499, 6_699, 7_699, 9_000, 20_000] {
            let next = ceiling.offset();
            let ask = ceiling.ask(next, now_ms);
            asked.push(ask - next);
            ceiling.raise(ask, next);
        }
        assert_eq!(
            asked,
            [
                1_024, 2_048, 4_096, 65_536, 327_680, 163_840, 81_920, 40_960
            ]
        );
    }

    #[test]
    fn due_when_half_of_the_step_is_used() {
        let mut ceiling = Ceiling::at(0);
        assert!(ceiling.is_due(0));
        let ask = ceiling.ask(0, 9_000);
        ceiling.raise(ask, 0);
        assert!(!ceiling.is_due(512));
        assert!(ceiling.is_due(513));
    }

    #[test]
    fn batch_that_reaches_over_the_ceiling_is_shown_only_after_the_raise() {
        let mut ceiling = Ceiling::at(1_024);
        assert!(ceiling.note_append(1_000));
        assert!(!ceiling.note_append(1_100));
        let ask = ceiling.ask(1_100, 0);
        assert!(!ceiling.note_append(1_200));
        // While the new value was being made durable, the log went on above it.
        assert!(!ceiling.note_append(ask + 1));
        assert_eq!(ceiling.raise(ask, ask + 1), 1_200);
        assert_eq!(ceiling.raise(ask + 1, ask + 1), ask + 1);
    }
}
