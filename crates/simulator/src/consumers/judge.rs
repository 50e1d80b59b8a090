//! Each effect once: from what was ordered and what the log of effects holds, and nothing else.

use std::collections::BTreeMap;

use crate::violation::{Violation, violated};

/// Every order has two lines, which are one effect.
pub(super) const LINES: u64 = 2;

/// What a line's value begins with.
pub(super) fn line(order: u64, line: u64) -> u64 {
    order * LINES + line
}

/// No line twice, none that nobody ordered.
pub(super) fn once(
    effects: &[u64],
    is_ordered: impl Fn(u64) -> bool,
) -> Result<BTreeMap<u64, u64>, Violation> {
    let mut lines = BTreeMap::new();
    for effect in effects {
        let order = effect / LINES;
        if !is_ordered(order) {
            return violated(
                "I45",
                format!("nobody ordered {order}, which has an effect"),
            );
        }
        let mask = 1 << (effect % LINES);
        let seen: &mut u64 = lines.entry(order).or_default();
        if *seen & mask != 0 {
            let line = effect % LINES;
            return violated(
                "I48",
                format!("line {line} of order {order} has its effect twice"),
            );
        }
        *seen |= mask;
    }
    Ok(lines)
}

/// Whether each of the orders has its whole effect; which one has not.
pub(super) fn missing(
    lines: &BTreeMap<u64, u64>,
    orders: impl Iterator<Item = u64>,
) -> Option<u64> {
    let whole = (1 << LINES) - 1;
    let mut orders = orders;
    orders.find(|order| lines.get(order) != Some(&whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(effects: &[u64]) -> Result<Option<u64>, &'static str> {
        let lines = once(effects, |order| order < 3).map_err(|v| v.invariant)?;
        Ok(missing(&lines, 0..3))
    }

    #[test]
    fn twice_half_never_and_unasked_are_found() {
        assert_eq!(judged(&[0, 1, 2, 3, 5, 4]), Ok(None));
        assert_eq!(judged(&[0, 1, 2, 3, 4]), Ok(Some(2)));
        assert_eq!(judged(&[2, 3, 4, 5]), Ok(Some(0)));
        assert_eq!(judged(&[0, 1, 2, 3, 4, 5, 1]), Err("I48"));
        assert_eq!(judged(&[6]), Err("I45"));
    }
}
