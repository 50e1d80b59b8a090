//! What an append would be answered, without appending.

use std::sync::Arc;

use partition_log::{Decision, Explanation, Now, ProducerTable};
use record_batch::ProducerIdentity;

use crate::error::ReadError;
use crate::handle::Partition;
use crate::partition::{PartitionState, Source};

impl Partition {
    /// What a batch with this identity and `count` records would be answered, and by which rule
    /// (rows D0 to D15 of the sequence check, or invariant I18). Appends nothing. The
    /// offset is the first answer's for a duplicate, and the next one for what would be appended.
    /// Where another process writes, that is what the durable part of the log says.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn explain(
        &self,
        identity: ProducerIdentity,
        count: u32,
    ) -> Result<Explanation, ReadError> {
        let state = &self.state;
        let end = self.log_end_offset();
        let mut explanation = match &state.source {
            Source::Damaged(corruption) => return Err(ReadError::Damaged(corruption.clone())),
            Source::Writer(_) => explain_live(state, identity, count, self.now())?,
            Source::Follower(_) => self.rebuilt_producers()?.explain(identity, count),
        };
        finish(&mut explanation, state.config.partition().idempotence, end);
        Ok(explanation)
    }

    /// The producers as the durable part of the log says, where another process writes it.
    pub(crate) fn rebuilt_producers(&self) -> Result<ProducerTable, ReadError> {
        let config = self.state.config.partition();
        let Source::Follower(follower) = &self.state.source else {
            return Ok(ProducerTable::new(config.producers));
        };
        follower
            .refresh()
            .map_err(|e| Arc::new(partition_log::OpenError::from(e)))?;
        let view = follower.view();
        let (end, now) = (view.published(), self.engine.core.time.now());
        let place = follower.place();
        let (mut table, _) = partition_log::rebuild(place, view, &config, end, now.elapsed_ms)?;
        let names = self.engine.core.names.iter().flat_map(|names| names.all());
        names.for_each(|(_, producer_id)| table.keep(producer_id));
        Ok(table)
    }
}

fn explain_live(
    state: &PartitionState,
    identity: ProducerIdentity,
    count: u32,
    now: Now,
) -> Result<Explanation, ReadError> {
    // Above the budget a producer is on disk, and judged when it is back.
    let log = state.log_with(identity.producer_id, now);
    let Some(log) = log.map_err(|e| state.read_error(e))? else {
        return Err(ReadError::Closed);
    };
    Ok(log.producers().explain(identity, count))
}

fn finish(explanation: &mut Explanation, is_checked: bool, end: u64) {
    if !is_checked {
        // A topic without the check appends whatever comes.
        explanation.decision = Decision::Append;
        explanation.rule = "D0";
        explanation.expected_sequence = None;
        explanation.rejection = None;
    }
    if explanation.decision == Decision::Append {
        explanation.offset = Some(end);
    }
}
