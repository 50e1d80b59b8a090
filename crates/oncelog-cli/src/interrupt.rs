//! SIGINT and SIGTERM: a wish to end, which commands look at between two steps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

type Hook = Box<dyn FnOnce() + Send>;

/// Whether somebody asked the command to end.
#[derive(Clone)]
pub(crate) struct Interrupt {
    asked: Arc<AtomicBool>,
    /// Ends a wait that does not look at `asked`.
    hook: Arc<Mutex<Option<Hook>>>,
}

impl Interrupt {
    /// From here on the signals no longer kill the process. A second signal is like the first:
    /// `timeout` and shells send one to the process and one to its group.
    pub(crate) fn install() -> anyhow::Result<Interrupt> {
        let interrupt = Interrupt {
            asked: Arc::new(AtomicBool::new(false)),
            hook: Arc::new(Mutex::new(None)),
        };
        let mut signals =
            Signals::new([SIGINT, SIGTERM]).context("cannot listen for SIGINT and SIGTERM")?;
        let shared = interrupt.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for _ in signals.forever() {
                    shared.asked.store(true, Ordering::Release);
                    if let Some(hook) = shared.take_hook() {
                        hook();
                    }
                }
            })?;
        Ok(interrupt)
    }

    /// Whether to end.
    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Runs `hook` when the wish comes, at once when it came before.
    pub(crate) fn on_ask(&self, hook: impl FnOnce() + Send + 'static) {
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(hook));
        if self.asked()
            && let Some(hook) = self.take_hook()
        {
            hook();
        }
    }

    fn take_hook(&self) -> Option<Hook> {
        self.hook
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}
