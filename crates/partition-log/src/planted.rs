//! Mistakes put in on purpose, to show that the tests find them. Only there when built with
//! `--cfg oncelog_planted`; the environment variable `ONCELOG_PLANTED` then names the one that is
//! made. `tests/planted` runs them all.

use std::sync::OnceLock;

/// Whether that mistake is to be made.
pub fn is(mistake: &str) -> bool {
    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| std::env::var("ONCELOG_PLANTED").ok());
    chosen.as_deref() == Some(mistake)
}
