//! Where results and remarks go: results to stdout, everything else to stderr.

use std::io::{self, BufWriter, StdoutLock, Write};

use serde::Serialize;
use serde_json::{Value, json};

use crate::exit::Stop;

/// Standard output, locked and buffered. A reader that closed its end ends the command quietly
/// ([`Stop::StdoutClosed`]).
pub(crate) struct Out(BufWriter<StdoutLock<'static>>);

impl Out {
    pub(crate) fn new() -> Out {
        Out(BufWriter::with_capacity(64 << 10, io::stdout().lock()))
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.0.write_all(bytes).map_err(closed)
    }

    /// A line of text.
    pub(crate) fn line(&mut self, text: &str) -> anyhow::Result<()> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// One JSON document on a line of its own.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.0, value).map_err(|e| closed(e.into()))?;
        self.bytes(b"\n")
    }

    /// Hands over what is buffered.
    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        self.0.flush().map_err(closed)
    }
}

fn closed(error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Stop::StdoutClosed.into();
    }
    anyhow::Error::new(error).context("cannot write to standard output")
}

/// A line on stderr. That it cannot be shown stops nothing.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Bytes as JSON: a string where they are UTF-8, else `{"base64": …}`; null where there are none.
pub(crate) fn bytes_json(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Value::Null,
        Some((_, Ok(text))) => Value::from(text),
        Some((bytes, Err(_))) => json!({ "base64": base64(bytes) }),
    }
}

/// RFC 4648, the standard alphabet, padded.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = (at(0) << 16) | (at(1) << 8) | at(2);
        for digit in 0..4u32 {
            let index = usize::try_from((bits >> (18 - 6 * digit)) & 63).unwrap_or(0);
            let present = usize::try_from(digit).is_ok_and(|digit| digit <= group.len());
            text.push(if present {
                char::from(ALPHABET[index])
            } else {
                '='
            });
        }
    }
    text
}

/// A number with a comma between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things, by the name of one.
pub(crate) fn counted(number: u64, one: &str) -> String {
    let plural = match number {
        1 => "",
        _ if one.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{} {one}{plural}", grouped(number))
}

/// Columns under their heads: text to the left, what begins with a digit to the right.
pub(crate) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heads[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let right: [bool; N] = std::array::from_fn(|column| {
        let cell = rows.first().map_or("", |row| row[column].as_str());
        cell.starts_with(|c: char| c.is_ascii_digit() || c == '-')
    });
    let mut text = String::new();
    for row in std::iter::once(heads).chain(rows.iter().map(|row| row.each_ref().map(|c| &**c))) {
        let mut line = String::new();
        for (column, cell) in row.into_iter().enumerate() {
            if column > 0 {
                line.push_str("  ");
            }
            let pad = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            if right[column] {
                line.push_str(&pad);
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.push_str(&pad);
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0x00]), "//4A");
    }

    #[test]
    fn bytes_are_text_where_they_can_be() {
        assert_eq!(bytes_json(None), Value::Null);
        assert_eq!(bytes_json(Some(b"")), json!(""));
        assert_eq!(bytes_json(Some("é".as_bytes())), json!("é"));
        assert_eq!(bytes_json(Some(&[0xff])), json!({ "base64": "/w==" }));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn things_are_counted_in_their_plural() {
        let counts = [
            counted(0, "record"),
            counted(1, "batch"),
            counted(1_000, "batch"),
        ];
        assert_eq!(counts, ["0 records", "1 batch", "1,000 batches"]);
    }

    #[test]
    fn tables_align_numbers_to_the_right() {
        let rows = [
            ["a".to_owned(), "1".to_owned()],
            ["bcd".to_owned(), "1,000".to_owned()],
        ];
        assert_eq!(
            table(["name", "n"], &rows),
            "name      n\na         1\nbcd   1,000\n"
        );
    }
}
