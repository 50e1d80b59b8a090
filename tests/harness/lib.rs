//! What the end-to-end tests share.

#![forbid(unsafe_code)]

pub mod child;
pub mod history;
pub mod hooked_disk;
pub mod late;
pub mod ledger;
pub mod random;
pub mod sources;
