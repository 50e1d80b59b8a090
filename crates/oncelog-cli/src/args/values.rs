//! What a value may be. Each text that refuses one names what is allowed.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::Offset;

/// A number in a range.
pub(super) fn number<T>(
    allowed: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| match text.parse() {
        Ok(number) if allowed.contains(&number) => Ok(number),
        _ => Err(format!("allowed: {} to {}", allowed.start(), allowed.end())),
    }
}

pub(super) fn partitions(text: &str) -> Result<u32, String> {
    number(1..=10_000)(text)
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=0.9).contains(&share) => Ok(share),
        _ => Err("allowed: a share from 0 to 0.9".to_owned()),
    }
}

pub(super) fn seed(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.map_err(|_| "allowed: 0 to 18446744073709551615, decimal or 0x…".to_owned())
}

pub(super) fn offset(text: &str) -> Result<Offset, String> {
    match text {
        "earliest" => Ok(Offset::Earliest),
        "latest" => Ok(Offset::Latest),
        _ => text
            .parse()
            .map(Offset::At)
            .map_err(|_| "allowed: earliest, latest, or an offset from 0".to_owned()),
    }
}

pub(super) fn delimiter(text: &str) -> Result<String, String> {
    match text {
        "" => Err("allowed: one character or more".to_owned()),
        "\\t" => Ok("\t".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outside_of_what_is_allowed_are_refused() {
        assert_eq!(number(1..=5)("5"), Ok(5));
        for bad in ["0", "6", "-1", "x", ""] {
            assert_eq!(number(1..=5)(bad), Err("allowed: 1 to 5".to_owned()));
        }
        assert_eq!(share("0.9"), Ok(0.9));
        for bad in ["1", "-0.1", "NaN", "0.91", "often"] {
            assert!(share(bad).is_err(), "{bad}");
        }
        assert_eq!(seed("0x10"), Ok(16));
        assert_eq!(seed("10"), Ok(10));
        assert!(seed("-1").is_err() && seed("x").is_err());
        assert_eq!(offset("7"), Ok(Offset::At(7)));
        assert!(offset("oldest").is_err());
    }
}
