//! Numbers as people read them: three digits that count.

/// `1.07 M`, `593 k`, `12.3`.
pub(crate) fn count(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{} M", digits(n / 1e6)),
        n if n >= 1e4 => format!("{} k", digits(n / 1e3)),
        n => digits(n),
    }
}

/// Three digits, and no more after the point than that leaves.
pub(crate) fn digits(number: f64) -> String {
    match number {
        n if n >= 99.95 => format!("{n:.0}"),
        n if n >= 9.995 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_count() {
        assert_eq!(count(1_074_000.0), "1.07 M");
        assert_eq!(count(593_400.0), "593 k");
        assert_eq!(count(7_300.0), "7300");
        assert_eq!(digits(12.34), "12.3");
        assert_eq!(digits(0.061), "0.06");
    }
}
