//! Columns of a line: the one that holds the key, those that make up the business id.

use crate::exit::Stop;

/// Finds a part of a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Column {
    /// The option that named it.
    option: &'static str,
    /// From 0.
    index: usize,
    delimiter: Vec<u8>,
}

impl Column {
    /// A column by the name that the first line gives it, where there is one, else by its number,
    /// from 1.
    pub(crate) fn find(
        option: &'static str,
        column: &str,
        header: Option<&[u8]>,
        delimiter: &str,
    ) -> Result<Column, Stop> {
        let index = match header {
            Some(header) => by_name(option, column, header, delimiter)?,
            None => by_number(option, column)?,
        };
        Ok(Column {
            option,
            index,
            delimiter: delimiter.into(),
        })
    }

    /// What the line with that number has there.
    pub(crate) fn of<'a>(&self, number: u64, line: &'a [u8]) -> Result<&'a [u8], Stop> {
        let mut columns = split(without_return(line), &self.delimiter);
        columns.nth(self.index).ok_or_else(|| {
            let count = split(line, &self.delimiter).count();
            Stop::Failed(format!(
                "line {number} has {count} columns, {} is column {}; the lines before it were \
                 sent. See whether --delimiter {:?} is right",
                self.option,
                self.index + 1,
                String::from_utf8_lossy(&self.delimiter)
            ))
        })
    }
}

fn by_number(option: &str, column: &str) -> Result<usize, Stop> {
    match column.parse::<usize>() {
        Ok(number) if number > 0 => Ok(number - 1),
        _ => Err(Stop::Usage(format!(
            "{option} {column}: allowed without --header-line: the number of a column, from 1"
        ))),
    }
}

fn by_name(option: &str, column: &str, header: &[u8], delimiter: &str) -> Result<usize, Stop> {
    let header = header.strip_prefix("\u{feff}".as_bytes()).unwrap_or(header);
    let names: Vec<&[u8]> = split(without_return(header), delimiter.as_bytes()).collect();
    let found = names.iter().position(|name| *name == column.as_bytes());
    found.ok_or_else(|| {
        let names: Vec<_> = names.into_iter().map(String::from_utf8_lossy).collect();
        Stop::Usage(format!(
            "{option} {column}: the header line has no such column; allowed: {}",
            names.join(", ")
        ))
    })
}

/// Columns that make up the business id, joined by `-`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BizId {
    columns: Vec<Column>,
    joined: Vec<u8>,
}

impl BizId {
    /// `columns` are separated by commas.
    pub(crate) fn find(
        columns: &str,
        header: Option<&[u8]>,
        delimiter: &str,
    ) -> Result<BizId, Stop> {
        let find = |column| Column::find("--biz-id-column", column, header, delimiter);
        Ok(BizId {
            columns: columns.split(',').map(find).collect::<Result<_, _>>()?,
            joined: Vec::new(),
        })
    }

    /// The business id of the line with that number.
    pub(crate) fn of(&mut self, number: u64, line: &[u8]) -> Result<&[u8], Stop> {
        self.joined.clear();
        for (at, column) in self.columns.iter().enumerate() {
            if at > 0 {
                self.joined.push(b'-');
            }
            self.joined.extend_from_slice(column.of(number, line)?);
        }
        Ok(&self.joined)
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

    fn find(column: &str, header: Option<&[u8]>, delimiter: &str) -> Result<Column, Stop> {
        Column::find("--key-column", column, header, delimiter)
    }

    #[test]
    fn keys_come_from_their_column() {
        let second = find("2", None, ",").unwrap();
        assert_eq!(second.of(1, b"a,b,c").unwrap(), b"b");
        assert_eq!(second.of(1, b"a,b\r").unwrap(), b"b");
        assert_eq!(second.of(1, b"a,").unwrap(), b"");
        let error = second.of(17, b"a").unwrap_err().to_string();
        assert!(
            error.starts_with("line 17 has 1 columns, --key-column is column 2"),
            "{error}"
        );
        let header = b"\xef\xbb\xbfyear::origin\r";
        let named = find("origin", Some(header), "::").unwrap();
        assert_eq!(named.of(1, b"2013::EWR").unwrap(), b"EWR");
    }

    #[test]
    fn a_business_id_is_made_of_its_columns_in_the_order_given() {
        let mut id = BizId::find("c,a", Some(b"a,b,c"), ",").unwrap();
        assert_eq!(id.of(1, b"1,2,3\r").unwrap(), b"3-1");
        assert_eq!(id.of(2, b",,").unwrap(), b"-");
        assert!(id.of(3, b"1,2").is_err());
        let mut one = BizId::find("2", None, ";").unwrap();
        assert_eq!(one.of(1, b"x;y").unwrap(), b"y");
    }

    #[test]
    fn a_column_that_is_not_there_is_wrong_usage() {
        for bad in ["0", "-1", "origin", ""] {
            let error = find(bad, None, ",").unwrap_err();
            assert!(matches!(error, Stop::Usage(text) if text.contains("--key-column")));
        }
        let error = find("orign", Some(b"year,origin"), ",").unwrap_err();
        assert!(matches!(error, Stop::Usage(text) if text.ends_with("allowed: year, origin")));
        let error = BizId::find("1,,2", None, ",").unwrap_err();
        assert!(matches!(error, Stop::Usage(text) if text.contains("--biz-id-column")));
    }
}
