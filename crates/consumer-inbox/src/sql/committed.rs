//! Reading what is committed, for what stands before a database.

use super::ids::{DONE, Key, PARKED, fingerprint, signed, stored_scope};
use super::inbox::position;
use super::session::{Cells, Kind, Session, unexpected};
use super::value::Value;
use crate::committed::{CommittedId, Known};
use crate::error::StoreError;
use crate::id_row::Origin;
use crate::identity::{BizId, DedupKey, Part, Position, Scope};

const COMMITTED: &str = "select id, fingerprint, origin_ms, topic, topic_partition, record_offset, result from oncelog_id \
                         where scope = $1 and state = 2 and at_ms >= $2 and id > $3 order by id limit $4";

const COLUMNS: [Kind; 7] = [
    Kind::Bytes,
    Kind::Bytes,
    Kind::Int,
    Kind::Text,
    Kind::Int,
    Kind::Int,
    Kind::Bytes,
];

pub(crate) async fn committed<S: Session>(
    session: &mut S,
    scope: &Scope,
    since_ms: u64,
    after: Option<&BizId>,
    max: usize,
) -> Result<Vec<CommittedId>, StoreError> {
    let scope = stored_scope(scope);
    let args: [Value<'_>; 4] = [
        scope.as_str().into(),
        signed(since_ms)?.into(),
        after.map_or(&[][..], BizId::as_bytes).into(),
        i64::try_from(max).unwrap_or(i64::MAX).into(),
    ];
    let rows = session.rows(COMMITTED, &args, &COLUMNS).await?;
    rows.into_iter().map(decode).collect()
}

fn decode(mut cells: Cells) -> Result<CommittedId, StoreError> {
    let id = BizId::stored(cells.maybe_bytes()?.ok_or_else(unexpected)?);
    let fingerprint = fingerprint(cells.maybe_bytes()?.as_deref())?;
    let ms = cells.maybe_int()?;
    let record = (cells.maybe_text()?, cells.maybe_int()?, cells.maybe_int()?);
    let position = match record {
        (Some(topic), Some(partition), Some(offset)) => {
            let partition = u32::try_from(partition).map_err(|_| unexpected())?;
            let offset = u64::try_from(offset).map_err(|_| unexpected())?;
            Some((topic.into(), partition, offset))
        }
        _ => None,
    };
    Ok(CommittedId {
        id,
        fingerprint,
        origin: Origin {
            ms: ms.and_then(|ms| u64::try_from(ms).ok()),
            position,
        },
        result: cells.maybe_bytes()?.map(Into::into),
    })
}

pub(crate) async fn look_up<S: Session>(
    session: &mut S,
    key: &DedupKey,
    at: Position<'_>,
) -> Result<Known, StoreError> {
    let stored = Key::new(key);
    let find_id = S::DIALECT.statements().find_id;
    let found = session.query_row(find_id, &stored.args()).await?;
    match found.and_then(|row| row.number) {
        Some(DONE) => return Ok(Known::Done),
        Some(PARKED) => return Ok(Known::Parked),
        _ => {}
    }
    let part = Part::new(&*key.scope.group, at.topic, at.partition);
    let find = S::DIALECT.statements().find_position;
    let position = position(session, find, &part).await?;
    Ok(match position.and_then(|(_, next)| next) {
        Some(next) if at.offset < next => Known::Passed,
        _ => Known::Absent,
    })
}
