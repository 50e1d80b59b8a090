//! The column that holds the key.

use crate::exit::Stop;

/// Finds the key in a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyColumn {
    /// From 0.
    index: usize,
    delimiter: Vec<u8>,
}

impl KeyColumn {
    /// A column by its number, from 1.
    pub(crate) fn by_number(column: &str, delimiter: &str) -> Result<KeyColumn, Stop> {
        match column.parse::<usize>() {
            Ok(number) if number > 0 => Ok(KeyColumn {
                index: number - 1,
                delimiter: delimiter.into(),
            }),
            _ => Err(Stop::Usage(format!(
                "--key-column {column}: allowed without --header-line: the number of a column, \
                 from 1"
            ))),
        }
    }

    /// A column by the name that the first line gives it.
    pub(crate) fn by_name(column: &str, header: &[u8], delimiter: &str) -> Result<KeyColumn, Stop> {
        let header = header.strip_prefix("\u{feff}".as_bytes()).unwrap_or(header);
        let names: Vec<&[u8]> = split(without_return(header), delimiter.as_bytes()).collect();
        match names.iter().position(|name| *name == column.as_bytes()) {
            Some(index) => Ok(KeyColumn {
                index,
                delimiter: delimiter.into(),
            }),
            None => {
                let names: Vec<_> = names.into_iter().map(String::from_utf8_lossy).collect();
                Err(Stop::Usage(format!(
                    "--key-column {column}: the header line has no such column; allowed: {}",
                    names.join(", ")
                )))
            }
        }
    }

    /// The key of the line with that number.
    pub(crate) fn of<'a>(&self, number: u64, line: &'a [u8]) -> Result<&'a [u8], Stop> {
        let mut columns = split(without_return(line), &self.delimiter);
        columns.nth(self.index).ok_or_else(|| {
            let count = split(line, &self.delimiter).count();
            Stop::Failed(format!(
                "line {number} has {count} columns, the key is column {}; the lines before it \
                 were sent. See whether --delimiter {:?} is right",
                self.index + 1,
                String::from_utf8_lossy(&self.delimiter)
            ))
        })
    }
}

/// The carriage return of a CRLF file belongs to no column.
fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The parts between the delimiters; at least one.
fn split<'a>(line: &'a [u8], delimiter: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let at = match delimiter {
            [byte] => line.iter().position(|b| b == byte),
            _ => line
                .windows(delimiter.len())
                .position(|part| part == delimiter),
        };
        rest = at.map(|at| &line[at + delimiter.len()..]);
        Some(at.map_or(line, |at| &line[..at]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_their_column() {
        let second = KeyColumn::by_number("2", ",").unwrap();
        assert_eq!(second.of(1, b"a,b,c").unwrap(), b"b");
        assert_eq!(second.of(1, b"a,b\r").unwrap(), b"b");
        assert_eq!(second.of(1, b"a,").unwrap(), b"");
        let error = second.of(17, b"a").unwrap_err().to_string();
        assert!(
            error.starts_with("line 17 has 1 columns, the key is column 2"),
            "{error}"
        );
        let named = KeyColumn::by_name("origin", b"\xef\xbb\xbfyear::origin\r", "::").unwrap();
        assert_eq!(named.of(1, b"2013::EWR").unwrap(), b"EWR");
    }

    #[test]
    fn a_column_that_is_not_there_is_wrong_usage() {
        for bad in ["0", "-1", "origin", ""] {
            let error = KeyColumn::by_number(bad, ",").unwrap_err();
            assert!(matches!(error, Stop::Usage(text) if text.contains("--key-column")));
        }
        let error = KeyColumn::by_name("orign", b"year,origin", ",").unwrap_err();
        assert!(matches!(error, Stop::Usage(text) if text.ends_with("allowed: year, origin")));
    }
}
