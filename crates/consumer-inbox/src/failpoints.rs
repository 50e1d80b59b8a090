//! Places at which tests let a process die, hang, or lose an answer. Without the feature `failpoints` they are nothing.
//!
//! The environment variable `ONCELOG_FAILPOINT` names place and deed: `C3:abort`, `C1:hang`, `C4:unknown`, `C3:error`, and with a number the
//! n-th time the place is passed: `C3:abort:2`.

use crate::error::StoreError;

/// A moment at which a consumer may die.
#[cfg_attr(
    not(feature = "failpoints"),
    allow(
        dead_code,
        unreachable_pub,
        reason = "not every place is in every build"
    )
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "failpoints"),
    expect(unreachable_pub, reason = "public with the feature")
)]
pub enum Point {
    /// Received, nothing written.
    C0,
    /// The id is written, the effect not begun.
    C1,
    /// The effect is partly there. Only handlers know where that is.
    C2,
    /// The effect is done, its end not written: before the commit.
    C3,
    /// The end is durable, nothing is acknowledged.
    C4,
    /// The acknowledgement is sent, its answer not there.
    C5,
    /// Outgoing records are in their topics, and the inbox does not know yet.
    Sent,
}

/// Does what the environment says for this place.
///
/// # Errors
/// [`StoreError::Unavailable`] for `error`, [`StoreError::Unknown`] for `unknown`.
#[cfg(feature = "failpoints")]
pub async fn hit(point: Point) -> Result<(), StoreError> {
    use std::sync::atomic::{AtomicU32, Ordering};

    static PASSED: AtomicU32 = AtomicU32::new(0);
    let Ok(armed) = std::env::var("ONCELOG_FAILPOINT") else {
        return Ok(());
    };
    let mut parts = armed.split(':');
    if parts.next() != Some(&format!("{point:?}")) {
        return Ok(());
    }
    let deed = parts.next().unwrap_or_default();
    let nth = parts.next().and_then(|n| n.parse().ok()).unwrap_or(1);
    if PASSED.fetch_add(1, Ordering::SeqCst) + 1 != nth {
        return Ok(());
    }
    match deed {
        "abort" => std::process::abort(),
        "hang" => std::future::pending().await,
        "unknown" => Err(StoreError::Unknown),
        _ => Err(StoreError::Unavailable),
    }
}

#[cfg(not(feature = "failpoints"))]
#[allow(dead_code, reason = "not every build has a place")]
pub(crate) async fn hit(_point: Point) -> Result<(), StoreError> {
    Ok(())
}
