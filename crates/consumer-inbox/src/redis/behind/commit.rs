//! A transaction as one call of the script that commits it.

use redis::ScriptInvocation;

use super::entry::Entry;
use super::tx::RedisTx;
use crate::entity::EntityRow;
use crate::error::StoreError;
use crate::id_row::Origin;
use crate::identity::DedupKey;
use crate::redis::scripts::BEHIND_COMMIT;
use crate::redis::server::exact;

/// Takes what the transaction would write.
pub(super) fn call(
    tx: &mut RedisTx,
    max_lag: u64,
    next: u64,
) -> Result<ScriptInvocation<'static>, StoreError> {
    let writes = std::mem::take(&mut tx.writes);
    let (shared, tx) = (tx.shared.clone(), &*tx);
    let keys = &shared.keys;
    let changed = |(_, (first, row)): &(&Vec<u8>, &(u64, EntityRow))| *first != row.version;
    let entities = writes.entities.iter().filter(changed);
    let entry = Entry {
        part: tx.part.clone(),
        next,
        entities: entities
            .map(|(id, (_, row))| (id.clone(), row.clone()))
            .collect(),
        ids: writes.ids.into_iter().collect(),
        seen: writes.seen,
        outgoing: writes.outgoing,
    };
    let changes = !(entry.entities.is_empty()
        && entry.ids.is_empty()
        && entry.seen.is_empty()
        && entry.outgoing.is_empty());
    let mut call = BEHIND_COMMIT.key(&keys.meta);
    call.key(keys.position(&tx.part)).key(&keys.stream);
    call.arg(shared.options.now()).arg(&tx.incarnation);
    call.arg(exact(tx.epoch)?).arg(exact(next)?);
    call.arg(max_lag).arg(entry.encode()?);
    call.arg(writes.entities.len()).arg(entry.ids.len());
    call.arg(entry.seen.len()).arg(tx.locks.len());
    call.arg(u8::from(changes));
    for (id, (first, row)) in &writes.entities {
        call.key(keys.entity(id));
        call.arg(exact(*first)?)
            .arg(exact(row.version)?)
            .arg(row.amount);
        call.arg(u8::from(row.value.is_some()));
        call.arg(row.value.as_deref().unwrap_or_default());
    }
    for (key, id) in &entry.ids {
        call.key(keys.id(key)).key(keys.index(&key.scope));
        call.arg(if id.was_parked { "p" } else { "" });
        call.arg(if id.is_done { "d" } else { "p" });
        call.arg(&id.fingerprint.0[..]);
        record(&mut call, key, &id.origin)?;
        call.arg(u8::from(id.result.is_some()));
        call.arg(id.result.as_deref().unwrap_or_default());
    }
    for (key, origin) in &entry.seen {
        call.key(keys.id(key)).key(keys.index(&key.scope));
        record(&mut call, key, origin)?;
    }
    for (key, owner) in &tx.locks {
        call.key(keys.lock(key)).arg(&owner.to_be_bytes()[..]);
    }
    Ok(call)
}

fn record(
    call: &mut redis::ScriptInvocation<'_>,
    key: &DedupKey,
    origin: &Origin,
) -> Result<(), StoreError> {
    call.arg(key.id.as_bytes());
    call.arg(origin.ms.map(exact).transpose()?.unwrap_or_default());
    // Every delivery has a position.
    let position = origin.position.as_ref();
    call.arg(position.map_or("", |at| &at.0));
    call.arg(position.map_or(0, |at| at.1));
    call.arg(exact(position.map_or(0, |at| at.2))?);
    Ok(())
}
