//! The seam between producers and the log, on which things get lost.
//!
//! Inside of one program an answer cannot get lost; across a network it can, and what producers do
//! about it is worth testing here, too. A transport stands where the network would.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::error::AppendError;
use crate::handle::{Appended, Partition};

/// The answer to one request, some time.
pub type Answer = Pin<Box<dyn Future<Output = Result<Appended, TransportError>> + Send>>;

/// Why there is no answer, or not a good one.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The request or its answer got lost; whether the batch was appended is not known.
    #[error("no answer")]
    NoAnswer,
    /// The log's answer.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Carries batches to partitions, and answers back.
pub trait Transport: Send + Sync + 'static {
    /// Carries one batch. The future is polled once at once, in the order of the calls for one
    /// partition; a transport that keeps that order writes then.
    fn append(&self, partition: Partition, batch: Bytes) -> Answer;
}

/// A call: nothing gets lost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Direct;

impl Transport for Direct {
    fn append(&self, partition: Partition, batch: Bytes) -> Answer {
        Box::pin(async move { Ok(partition.append(&batch).await?) })
    }
}
