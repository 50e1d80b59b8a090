//! The names of keys: all of an inbox begin alike and are on one server of many.

use crate::identity::{DedupKey, Part, Scope};
use crate::sql::stored_scope;

#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) prefix: String,
    pub(super) meta: String,
    pub(super) stream: String,
}

impl Keys {
    pub(super) fn new(name: &str) -> Keys {
        let digest = blake3::hash(name.as_bytes()).to_hex();
        let prefix = format!("oncelog:{{behind:{}}}:", &digest[..32]);
        Keys {
            meta: format!("{prefix}meta"),
            stream: format!("{prefix}stream"),
            prefix,
        }
    }

    pub(super) fn entity(&self, id: &[u8]) -> Vec<u8> {
        joined(&format!("{}entity:", self.prefix), id)
    }

    pub(super) fn position(&self, part: &Part) -> String {
        let (prefix, group, topic) = (&self.prefix, &part.group, &part.topic);
        let lengths = format!("{}:{}", group.len(), topic.len());
        format!(
            "{prefix}position:{lengths}:{group}{topic}:{}",
            part.partition
        )
    }

    /// What the ids of a scope begin with; their lengths and bytes follow.
    pub(super) fn ids(&self, stored_scope: &str) -> String {
        let length = stored_scope.len();
        format!("{}id:{length}:{stored_scope}:", self.prefix)
    }

    /// The scope whose ids begin so.
    pub(super) fn scope_of<'k>(&self, ids: &'k str) -> Option<&'k str> {
        let rest = ids.strip_prefix(&self.prefix)?.strip_prefix("id:")?;
        rest.split_once(':')?.1.strip_suffix(':')
    }

    pub(super) fn id(&self, key: &DedupKey) -> Vec<u8> {
        self.stored_id(&stored_scope(&key.scope), key.id.as_bytes())
    }

    pub(super) fn stored_id(&self, stored_scope: &str, id: &[u8]) -> Vec<u8> {
        joined(&format!("{}{}:", self.ids(stored_scope), id.len()), id)
    }

    pub(super) fn lock(&self, key: &DedupKey) -> Vec<u8> {
        let mut lock = format!("{}lock:", self.prefix).into_bytes();
        lock.extend(self.id(key));
        lock
    }

    pub(super) fn index(&self, scope: &Scope) -> String {
        self.stored_index(&stored_scope(scope))
    }

    pub(super) fn stored_index(&self, stored_scope: &str) -> String {
        format!("{}index:{stored_scope}", self.prefix)
    }

    pub(super) fn scope(&self, scope: &Scope) -> String {
        self.stored_floor(&stored_scope(scope))
    }

    pub(super) fn stored_floor(&self, stored_scope: &str) -> String {
        format!("{}scope:{stored_scope}", self.prefix)
    }
}

fn joined(prefix: &str, id: &[u8]) -> Vec<u8> {
    let mut name = prefix.as_bytes().to_vec();
    name.extend_from_slice(id);
    name
}
