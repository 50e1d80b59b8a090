//! How Redis is used.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use log_engine::Clock;

use crate::clock::millis;
use crate::error::StoreError;

/// How Redis is used.
#[derive(Clone)]
pub struct RedisOptions {
    pub(super) timeout: Duration,
    pub(super) longest_lease: Duration,
    pub(super) lossy: bool,
    forgets: Option<[Duration; 3]>,
    clock: Option<Arc<dyn Clock>>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        RedisOptions {
            timeout: Duration::from_secs(5),
            longest_lease: Duration::from_secs(3_600),
            lossy: false,
            forgets: None,
            clock: None,
        }
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("timeout", &self.timeout)
            .field("longest_lease", &self.longest_lease)
            .field("lossy", &self.lossy)
            .field("forgets", &self.forgets)
            .finish_non_exhaustive()
    }
}

impl RedisOptions {
    /// Answers within five seconds, leases up to an hour, ids that stay until they are swept, nothing that may lose marks.
    pub fn new() -> RedisOptions {
        RedisOptions::default()
    }

    /// How long a connection or an answer is waited for. An answer that comes later is as good as lost: `Unknown`.
    #[must_use]
    pub fn timeout(mut self, wait: Duration) -> RedisOptions {
        self.timeout = wait;
        self
    }

    /// The longest lease; longer ones are [`StoreError::Misuse`]. For so long after the server lost what it had, or another one took its place, a
    /// claim says that its predecessor crashed ([`Prior::Crashed`](crate::Prior::Crashed)): nobody knows who held the id.
    #[must_use]
    pub fn longest_lease(mut self, lease: Duration) -> RedisOptions {
        self.longest_lease = lease;
        self
    }

    /// Lets each id vanish by itself, `ttl` after it was settled; `sweep` has nothing to do then. What is older than that and unknown is
    /// [`Expired`](crate::Admission::Expired). For logs that delete by age: `ttl` must be at least `log_retention`, how long they keep a record, and
    /// `republish_window`, how long after that its fact may be published again, together. All stores of a scope must agree.
    #[must_use]
    pub fn forget_after(
        mut self,
        ttl: Duration,
        log_retention: Duration,
        republish_window: Duration,
    ) -> RedisOptions {
        self.forgets = Some([ttl, log_retention, republish_window]);
        self
    }

    /// Takes a server that may lose what it acknowledged: one that evicts, or does not sync each write to its append-only file (E13).
    #[must_use]
    pub fn lossy(mut self) -> RedisOptions {
        self.lossy = true;
        self
    }

    /// Judges leases and ages by this clock instead of the server's. For tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> RedisOptions {
        self.clock = Some(clock);
        self
    }

    /// The time for scripts: empty takes the server's.
    pub(super) fn now(&self) -> String {
        let wall = self.clock.as_ref().map(|clock| clock.wall_ms());
        wall.map_or_else(String::new, |ms| ms.to_string())
    }

    /// How long ids stay, for scripts: empty is for ever.
    pub(super) fn ttl(&self) -> String {
        let forgets = self.forgets.as_ref();
        forgets.map_or_else(String::new, |[ttl, ..]| millis(*ttl).to_string())
    }

    pub(super) fn forgets_by_itself(&self) -> bool {
        self.forgets.is_some()
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.forgets {
            Some([ttl, retention, window]) if ttl < retention.saturating_add(window) => {
                Err(StoreError::Unsafe(
                    "ids would vanish while the log can still deliver their records, or their facts may be published again: \
                     let them live longer, or sweep",
                ))
            }
            _ => Ok(()),
        }
    }
}
