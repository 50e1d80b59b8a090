//! Forgetting ids in pieces.

use bytes::Bytes;

use super::options::RedisOptions;
use super::scripts::SWEEP;
use super::server::{NUMBER_MAX, Server, number};
use crate::clock::millis;
use crate::dedup_store::Horizon;
use crate::error::StoreError;

/// Ids that one script looks at: others wait for a millisecond or so.
const PIECE: usize = 500;

/// Sweeps a scope, whose ids have names that begin with `prefix`.
pub(super) async fn sweep(
    server: &Server,
    options: &RedisOptions,
    keys: &[String],
    prefix: &str,
    below: &Horizon,
    max: usize,
) -> Result<usize, StoreError> {
    let window = millis(below.republish_window).min(NUMBER_MAX);
    let parked = below.parked_longer_than;
    let parked = parked.map(|age| millis(age).clamp(window, NUMBER_MAX).to_string());
    let (mut forgotten, mut skip) = (0, 0);
    while forgotten < max {
        let mut call = SWEEP.key(keys);
        call.arg(options.now()).arg(prefix);
        call.arg(window).arg(parked.clone().unwrap_or_default());
        call.arg(below.origin_before_ms.min(NUMBER_MAX));
        call.arg(max - forgotten).arg(skip).arg(PIECE);
        for ((topic, partition), start) in &below.log_starts {
            let start = (*start).min(NUMBER_MAX);
            call.arg(&**topic).arg(*partition).arg(start);
        }
        let answer: Vec<Bytes> = server.run(&call).await?;
        let mut answer = answer.into_iter();
        forgotten += usize::try_from(number(answer.next())?).unwrap_or(usize::MAX);
        skip = number(answer.next())?;
        if number(answer.next())? == 1 {
            break;
        }
    }
    Ok(forgotten)
}
