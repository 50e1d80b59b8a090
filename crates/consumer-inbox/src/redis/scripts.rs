//! The scripts: what happens in one step in the server. Each reads and judges everything before it writes anything, since what a script wrote
//! stays when it fails.

use std::sync::LazyLock;

use redis::Script;

macro_rules! script {
    ($name:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                include_str!("scripts/common.lua"),
                include_str!(concat!("scripts/", $name, ".lua"))
            ))
        })
    };
}

pub(super) static CLAIM: LazyLock<Script> = script!("claim");
pub(super) static RENEW: LazyLock<Script> = script!("renew");
pub(super) static SETTLE: LazyLock<Script> = script!("settle");
pub(super) static SWEEP: LazyLock<Script> = script!("sweep");
pub(super) static PUT: LazyLock<Script> = script!("put");
pub(super) static FRONT_CLAIM: LazyLock<Script> = script!("front_claim");
pub(super) static FRONT_DONE: LazyLock<Script> = script!("front_done");
pub(super) static FRONT_RELEASE: LazyLock<Script> = script!("front_release");
#[cfg(feature = "postgres")]
pub(super) static BEHIND_ADMIT: LazyLock<Script> = script!("behind_admit");
#[cfg(feature = "postgres")]
pub(super) static BEHIND_ASSIGN: LazyLock<Script> = script!("behind_assign");
#[cfg(feature = "postgres")]
pub(super) static BEHIND_COMMIT: LazyLock<Script> = script!("behind_commit");
#[cfg(feature = "postgres")]
pub(super) static BEHIND_READ: LazyLock<Script> = script!("behind_read");
#[cfg(feature = "postgres")]
pub(super) static BEHIND_TRIM: LazyLock<Script> = script!("behind_trim");
pub(super) static TOLD_ASK: LazyLock<Script> = script!("told_ask");
pub(super) static TOLD_TELL: LazyLock<Script> = script!("told_tell");
