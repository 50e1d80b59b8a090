//! How far long work is: a bar on a terminal, a line every ten seconds elsewhere.

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{
    HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};

use crate::output::{grouped, note};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Records,
    Bytes,
}

impl Unit {
    fn show(self, amount: u64) -> String {
        match self {
            Unit::Records => grouped(amount),
            Unit::Bytes => HumanBytes(amount).to_string(),
        }
    }
}

const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shown until dropped.
pub(crate) struct Progress {
    done: Arc<AtomicU64>,
    bar: Option<ProgressBar>,
    lines: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Nothing is shown when `shown` is false. `total` is `None` where the end is not known.
    pub(crate) fn start(what: &str, unit: Unit, total: Option<u64>, shown: bool) -> Progress {
        let mut progress = Progress {
            done: Arc::new(AtomicU64::new(0)),
            bar: None,
            lines: None,
        };
        if !shown {
            return progress;
        }
        if io::stderr().is_terminal() {
            progress.bar = Some(bar(what, unit, total));
        } else {
            let (stop, stopped) = mpsc::channel();
            let (done, what) = (Arc::clone(&progress.done), what.to_owned());
            let lines = move || {
                let begun = Instant::now();
                while stopped.recv_timeout(LINE_EVERY) == Err(RecvTimeoutError::Timeout) {
                    note(&line(
                        &what,
                        unit,
                        done.load(Ordering::Relaxed),
                        total,
                        begun.elapsed(),
                    ));
                }
            };
            // Work goes on without lines where no thread can be had.
            progress.lines = thread::Builder::new().spawn(lines).ok().map(|t| (stop, t));
        }
        progress
    }

    /// Counts `amount` more.
    pub(crate) fn add(&self, amount: u64) {
        self.done.fetch_add(amount, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc(amount);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if let Some((stop, thread)) = self.lines.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

fn bar(what: &str, unit: Unit, total: Option<u64>) -> ProgressBar {
    let template = match (unit, total) {
        (Unit::Records, Some(_)) => {
            "{msg} [{bar:30}] {human_pos} of {human_len} records, {rate}, {eta} left"
        }
        (Unit::Records, None) => "{msg} {human_pos} records, {rate}",
        (Unit::Bytes, Some(_)) => {
            "{msg} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left"
        }
        (Unit::Bytes, None) => "{msg} {bytes}, {bytes_per_sec}",
    };
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{:.0}/s", state.per_sec());
        };
        bar.set_style(style.with_key("rate", rate).progress_chars("=> "));
    }
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn line(what: &str, unit: Unit, done: u64, total: Option<u64>, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs().max(1);
    let rate = done / seconds;
    let mut text = format!("{what}: {}", unit.show(done));
    if let Some(total) = total {
        text.push_str(&format!(" of {}", unit.show(total)));
    }
    if unit == Unit::Records {
        text.push_str(" records");
    }
    text.push_str(&format!(", {}/s", unit.show(rate)));
    if let Some(left) = total.map(|total| total.saturating_sub(done))
        && rate > 0
    {
        let left = HumanDuration(Duration::from_secs(left / rate));
        text.push_str(&format!(", {left} left"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let ten = Duration::from_secs(10);
        assert_eq!(
            line("demo", Unit::Records, 20_000, Some(50_000), ten),
            "demo: 20,000 of 50,000 records, 2,000/s, 15 seconds left"
        );
        assert_eq!(
            line("demo", Unit::Records, 0, None, ten),
            "demo: 0 records, 0/s"
        );
        assert_eq!(
            line("read", Unit::Bytes, 10 << 20, Some(30 << 20), ten),
            "read: 10.00 MiB of 30.00 MiB, 1.00 MiB/s, 20 seconds left"
        );
    }
}
