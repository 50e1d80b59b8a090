//! How messages for people name files and times.

use std::fmt;

use crate::env::Clock;

/// What stands in the lock's text between the seconds; without a clock it is shown as it is.
const SINCE: &str = " since ";
const EPOCH: &str = " (seconds since 1970)";

/// The text that a holder leaves in the lock.
pub(crate) fn holder(process: u32, host: &str, clock: &dyn Clock) -> String {
    let since = clock.wall_ms() / 1_000;
    format!("process {process} on host {host}{SINCE}{since}{EPOCH}")
}

/// The lock's text, with how long its holder has had it.
pub(crate) fn holder_now(text: &str, clock: &dyn Clock) -> String {
    let parts = text
        .strip_suffix(EPOCH)
        .and_then(|text| text.rsplit_once(SINCE));
    match parts.map(|(who, since)| (who, since.parse::<i64>())) {
        Some((who, Ok(since))) => {
            let seconds = (clock.wall_ms() / 1_000).saturating_sub(since);
            format!("{who}, for {}", Span(u64::try_from(seconds).unwrap_or(0)))
        }
        // Another release may say it in another way.
        _ => text.to_owned(),
    }
}

/// Seconds, as `3 min 12 s`.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (minutes, hours, days) = (self.0 / 60, self.0 / 3_600, self.0 / 86_400);
        match self.0 {
            0..60 => write!(f, "{} s", self.0),
            60..3_600 => write!(f, "{minutes} min {} s", self.0 % 60),
            3_600..86_400 => write!(f, "{hours} h {} min", minutes % 60),
            _ => write!(f, "{days} d {} h", hours % 24),
        }
    }
}

/// A message about a file, or a file in a directory, without that name in front, for where it is
/// said already.
pub(crate) fn without_file(file: &str, message: String) -> String {
    const ENDS: [char; 3] = [':', ' ', '/'];
    match message.strip_prefix(file) {
        Some(rest) if rest.starts_with(ENDS) => rest.trim_start_matches(ENDS).to_owned(),
        _ => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::ManualClock;

    #[test]
    fn a_holder_is_shown_with_how_long_it_has_the_lock() {
        let clock = ManualClock::at(1_700_000_000_999);
        let text = holder(7, "here", &clock);
        assert_eq!(
            text,
            "process 7 on host here since 1700000000 (seconds since 1970)"
        );
        for (pass_ms, shown) in [
            (0, "0 s"),
            (59_000, "59 s"),
            (133_000, "3 min 12 s"),
            (3_600_000, "1 h 3 min"),
            (100_000_000, "1 d 4 h"),
        ] {
            clock.advance(pass_ms);
            let expected = format!("process 7 on host here, for {shown}");
            assert_eq!(holder_now(&text, &clock), expected);
        }
        let before = ManualClock::at(0);
        let expected = "process 7 on host here, for 0 s";
        assert_eq!(holder_now(&text, &before), expected, "a clock that jumped");
        assert_eq!(holder_now("process 7", &clock), "process 7");
    }

    #[test]
    fn a_file_is_named_once() {
        for (message, rest) in [
            ("d/f: no", "no"),
            ("d/f is missing", "is missing"),
            ("d/f/g, byte 1", "g, byte 1"),
            ("d/ff: no", "d/ff: no"),
            ("no", "no"),
        ] {
            assert_eq!(without_file("d/f", message.to_owned()), rest);
        }
    }
}
