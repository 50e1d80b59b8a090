//! Who writes: each client is a few methods of the world beside the state it keeps.

mod embedded;
mod named;
mod remote;

pub(crate) use embedded::Embedded;
pub(crate) use named::Named;
pub(crate) use remote::Remote;
