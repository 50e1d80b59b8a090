//! A crash-safe event log inside your Rust program that stores every record once, however often it
//! is sent.
//!
//! This crate is the one name to add; everything comes from the crates below it. The `guide` module of
//! its documentation goes from opening to errors.

#![forbid(unsafe_code)]

#[cfg(any(doc, doctest))]
pub mod guide;
pub mod testing;

#[cfg(feature = "inbox")]
pub use consumer_inbox as inbox;
pub use log_engine::*;

/// The programs in the README compile, run and hold; one of them needs the feature.
#[cfg(all(doctest, feature = "inbox-runner"))]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
