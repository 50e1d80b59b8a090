//! What the end-to-end tests share.

#![forbid(unsafe_code)]

pub mod history;
pub mod hooked_disk;
pub mod random;
pub mod sources;
