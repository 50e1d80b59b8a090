//! Where a consumer of the demo keeps what it did.

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Embedded,
    Memory,
    Sqlite,
    Postgres,
    Redis,
}

const STORES: [Store; 5] = [
    Store::Embedded,
    Store::Memory,
    Store::Sqlite,
    Store::Postgres,
    Store::Redis,
];

impl Store {
    /// As it is typed.
    pub(crate) fn of(self) -> &'static str {
        match self {
            Store::Embedded => "embedded",
            Store::Memory => "memory",
            Store::Sqlite => "sqlite",
            Store::Postgres => "postgres",
            Store::Redis => "redis",
        }
    }

    /// How its URLs begin; none of one that is no server.
    pub(crate) fn schemes(self) -> &'static [&'static str] {
        match self {
            Store::Embedded | Store::Memory | Store::Sqlite => &[],
            Store::Postgres => &["postgres://", "postgresql://"],
            Store::Redis => &["redis://"],
        }
    }
}

/// A store, and its server if that was typed instead of the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreAt {
    pub(crate) store: Store,
    pub(crate) url: Option<String>,
}

pub(super) fn store(text: &str) -> Result<StoreAt, String> {
    for store in STORES {
        let mut schemes = store.schemes().iter();
        if store.of() == text {
            return Ok(StoreAt { store, url: None });
        }
        if schemes.any(|scheme| text.starts_with(scheme)) {
            let url = Some(text.to_owned());
            return Ok(StoreAt { store, url });
        }
    }
    Err("allowed: embedded, memory, sqlite, postgres, redis, postgres://… and redis://…".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_name_or_a_url() {
        for name in ["embedded", "memory", "sqlite", "postgres", "redis"] {
            let at = store(name).unwrap();
            assert_eq!((at.store.of(), at.url), (name, None));
        }
        for (url, name) in [
            ("postgres://u@h:1/d", "postgres"),
            ("postgresql://h/d", "postgres"),
            ("redis://h:1/", "redis"),
        ] {
            let at = store(url).unwrap();
            assert_eq!((at.store.of(), at.url.as_deref()), (name, Some(url)));
        }
        for wrong in ["", "tape", "Memory", "mysql://h/d", "redis:/h"] {
            assert!(store(wrong).is_err(), "{wrong}");
        }
    }
}
