//! Lines of a file or of standard input, read by a thread so that a slow source neither delays a
//! signal nor the batch that waits for more.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::Context;

use crate::exit::Stop;

const CHUNK_BYTES: usize = 256 << 10;
const CHUNKS_AHEAD: usize = 4;

/// Bytes on their way from the reading thread.
pub(crate) struct Input {
    chunks: Receiver<io::Result<Vec<u8>>>,
    name: String,
    /// Bytes of a regular file.
    pub(crate) size: Option<u64>,
    pub(crate) is_stdin: bool,
}

/// What came next.
pub(crate) enum Next {
    Chunk(Vec<u8>),
    /// Nothing within the time.
    Idle,
    End,
}

impl Input {
    /// `-` is standard input.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Input> {
        let is_stdin = path == Path::new("-");
        let name = if is_stdin {
            "standard input".to_owned()
        } else {
            path.display().to_string()
        };
        let mut size = None;
        let source: Box<dyn Read + Send> = if is_stdin {
            Box::new(io::stdin())
        } else {
            let file = File::open(path).with_context(|| format!("--file: cannot open {name}"))?;
            let about = file.metadata()?;
            if about.is_dir() {
                let text = format!(
                    "--file: {name} is a directory; allowed: a file, or - for standard input"
                );
                return Err(Stop::Usage(text).into());
            }
            size = about.is_file().then_some(about.len());
            Box::new(file)
        };
        let (sender, chunks) = mpsc::sync_channel(CHUNKS_AHEAD);
        thread::Builder::new()
            .name("input".to_owned())
            .spawn(move || {
                read_all(source, |chunk| sender.send(chunk).is_ok());
            })?;
        Ok(Input {
            chunks,
            name,
            size,
            is_stdin,
        })
    }

    /// Waits for at most `time`.
    pub(crate) fn next(&self, time: Duration) -> anyhow::Result<Next> {
        match self.chunks.recv_timeout(time) {
            Ok(Ok(chunk)) => Ok(Next::Chunk(chunk)),
            Ok(Err(error)) => Err(error).with_context(|| format!("cannot read {}", self.name)),
            Err(RecvTimeoutError::Timeout) => Ok(Next::Idle),
            Err(RecvTimeoutError::Disconnected) => Ok(Next::End),
        }
    }
}

/// Reads until the end, an error, or nobody wants more.
fn read_all(mut source: impl Read, mut hand_over: impl FnMut(io::Result<Vec<u8>>) -> bool) {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let more = match source.read(&mut chunk) {
            Ok(0) => return,
            Ok(read) => {
                chunk.truncate(read);
                hand_over(Ok(chunk))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) => {
                hand_over(Err(error));
                return;
            }
        };
        if !more {
            return;
        }
    }
}

/// Cuts chunks into lines. Keeps at most one line, of at most `limit` bytes.
pub(crate) struct Lines {
    /// Beginning of a line whose end has not come.
    begun: Vec<u8>,
    limit: usize,
    /// Lines so far.
    number: u64,
}

impl Lines {
    pub(crate) fn new(limit: usize) -> Lines {
        Lines {
            begun: Vec::new(),
            limit,
            number: 0,
        }
    }

    /// Calls `each` with the number (from 1) and the bytes of each line that ends in `chunk`,
    /// without its line feed.
    pub(crate) fn feed(
        &mut self,
        mut chunk: &[u8],
        mut each: impl FnMut(u64, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        while !chunk.is_empty() {
            let before = chunk;
            let length = chunk.skip_until(b'\n')?;
            let line = &before[..length];
            match line.strip_suffix(b"\n") {
                Some(line) if self.begun.is_empty() => {
                    self.number += 1;
                    self.check(line.len())?;
                    each(self.number, line)?;
                }
                Some(rest) => {
                    self.number += 1;
                    self.check(self.begun.len() + rest.len())?;
                    self.begun.extend_from_slice(rest);
                    each(self.number, &self.begun)?;
                    self.begun.clear();
                }
                None => {
                    if self.begun.len() + line.len() > self.limit {
                        self.number += 1;
                    }
                    self.check(self.begun.len() + line.len())?;
                    self.begun.extend_from_slice(line);
                }
            }
        }
        Ok(())
    }

    /// The last line, where no line feed ends it.
    pub(crate) fn finish(
        &mut self,
        each: impl FnOnce(u64, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if self.begun.is_empty() {
            return Ok(());
        }
        self.number += 1;
        let line = std::mem::take(&mut self.begun);
        each(self.number, &line)
    }

    fn check(&self, bytes: usize) -> anyhow::Result<()> {
        if bytes <= self.limit {
            return Ok(());
        }
        let text = format!(
            "line {}: at least {bytes} bytes exceed max.message.bytes {}; the lines before it \
             were sent. Raise it when creating the topic (--config max.message.bytes=N), or cut \
             the line",
            self.number, self.limit
        );
        Err(Stop::Failed(text).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]], limit: usize) -> anyhow::Result<Vec<(u64, Vec<u8>)>> {
        let mut lines = Lines::new(limit);
        let mut out = Vec::new();
        let mut each = |number, line: &[u8]| {
            out.push((number, line.to_vec()));
            Ok(())
        };
        for chunk in chunks {
            lines.feed(chunk, &mut each)?;
        }
        lines.finish(&mut each)?;
        Ok(out)
    }

    #[test]
    fn lines_are_the_same_however_the_chunks_fall() {
        let text = b"one\n\ntwo\r\n\xff\x00\nlast";
        let expected: Vec<(u64, Vec<u8>)> = [&b"one"[..], b"", b"two\r", b"\xff\x00", b"last"]
            .iter()
            .zip(1..)
            .map(|(line, number)| (number, line.to_vec()))
            .collect();
        for size in 1..=text.len() {
            let chunks: Vec<&[u8]> = text.chunks(size).collect();
            assert_eq!(cut(&chunks, 100).unwrap(), expected, "chunks of {size}");
        }
        assert_eq!(cut(&[b"a\n"], 100).unwrap().len(), 1);
        assert_eq!(cut(&[], 100).unwrap().len(), 0);
    }

    #[test]
    fn a_line_above_the_limit_is_named() {
        for chunks in [
            &[&b"ab\nabcdef\n"[..]][..],
            &[b"ab\nabc", b"def\n"],
            &[b"ab\nabc", b"def"],
        ] {
            let error = cut(chunks, 5).unwrap_err().to_string();
            assert!(error.starts_with("line 2: at least 6 bytes"), "{error}");
            assert!(cut(chunks, 6).is_ok());
        }
    }
}
