"""In what consumers remember."""

from .kinds import (
    CLAIMS,
    CLAIMS_MODEL,
    EMBEDDED,
    EMBEDDED_MODEL,
    INBOXES,
    OF_STORE,
    POSTGRES_MODEL,
    SIMULATOR,
    SQLITE_MODEL,
    TIERED_MODEL,
    Mistake,
)

ROWS = "consumer-inbox/src/id_row.rs"

MISTAKES = [
    Mistake(
        "consumer-that-never-asks",
        "I48",
        [
            (
                "consumer-inbox/src/embedded/inbox.rs",
                "        None => work.find(key)?.row.map(|(_, row)| row),\n",
                "        None => work.find(key)?.row.map(|(_, row)| row).filter(|_| false),\n",
            )
        ],
        [(SIMULATOR, r"I48 line \d of order \d+ has its effect twice")],
    ),
    Mistake(
        "released-with-its-effect",
        "I48",
        [
            (
                "consumer-inbox/src/embedded/inbox.rs",
                "        if !matches!(how, Settlement::Done(_)) {\n",
                "        if matches!(how, Settlement::Parked) {\n",
            )
        ],
        [(SIMULATOR, r"I48 line \d of order \d+ has its effect twice")],
    ),
    Mistake(
        "position-covers-its-own-record",
        "I46",
        [
            (
                "consumer-inbox/src/embedded/inbox.rs",
                "    if delivery.offset() < owned.next {\n",
                "    if owned.next > 0 && delivery.offset() <= owned.next {\n",
            )
        ],
        [(SIMULATOR, r"LIVE .* order without effect: Some")],
    ),
    Mistake(
        "zombie-releases",
        "E4",
        [
            (
                ROWS,
                "_ if self.token != token => Err(StoreError::Lost(token)),",
                """_ if self.token != token && how != Settlement::Released => {
                Err(StoreError::Lost(token))
            }""",
            )
        ],
        [
            (CLAIMS, r"dedup::case_06 \.\.\. FAILED"),
            # What all stores but Redis judge by.
            (CLAIMS_MODEL, OF_STORE),
            (EMBEDDED_MODEL, OF_STORE),
            (SQLITE_MODEL, OF_STORE),
            (POSTGRES_MODEL, OF_STORE),
            (TIERED_MODEL, OF_STORE),
        ],
    ),
    Mistake(
        "done-like-a-lease",
        "E5",
        [
            (
                ROWS,
                "            IdState::Done { result, .. } => {\n                let receipt",
                """            IdState::Done { at_ms, .. } if at_ms + 250 < now_ms => {
                grant(next, Prior::Crashed, newest)
            }
            IdState::Done { result, .. } => {
                let receipt""",
            )
        ],
        [(CLAIMS, r"dedup::case_07 \.\.\. FAILED")],
    ),
    Mistake(
        "release-forgives-attempts",
        "E7",
        [(ROWS, "IdState::Free { .. } => grant(next,", "IdState::Free { .. } => grant(1,")],
        [(CLAIMS, r"dedup::case_10 \.\.\. FAILED")],
    ),
    Mistake(
        "forgotten-without-a-floor",
        "E11",
        [
            (
                "consumer-inbox/src/memory/rows.rs",
                "*floor = origin_ms.max(*floor);",
                "*floor = origin_ms.min(*floor);",
            )
        ],
        [(CLAIMS, r"dedup::case_72 \.\.\. FAILED")],
    ),
    Mistake(
        "commit-of-a-former-owner",
        "E10",
        [
            (
                "consumer-inbox/src/memory/inbox.rs",
                "        shared.owned_at(&tx.part, tx.epoch)?;\n        let moved",
                "        let moved",
            )
        ],
        [(INBOXES, r"inbox::case_37 \.\.\. FAILED")],
    ),
    Mistake(
        "digest-is-identity",
        "E14",
        [
            (
                "consumer-inbox/src/embedded/ledger.rs",
                "if *stored.0 == key {",
                "if !stored.0.is_empty() {",
            )
        ],
        [(EMBEDDED, r"special::case_51_keys_of_one_digest_are_told_apart \.\.\. FAILED")],
    ),
    Mistake(
        "answered-before-the-disk",
        "E1",
        [
            (
                "consumer-inbox/src/embedded/ledger.rs",
                """let durable = self.events.durable(needs).await;
                    durable.map_err(|_| StoreError::Unknown)?;""",
                "let _ = needs;",
            )
        ],
        [(EMBEDDED, r"crashes::case_48_a_transaction_is_there_whole_or_not_at_all \.\.\. FAILED")],
    ),
    Mistake(
        "floor-cleaned-away",
        "E11",
        [
            (
                "consumer-inbox/src/embedded/state.rs",
                "self.floors.get(scope).is_some_and(|f| f.at == offset)",
                "scope.group.is_empty()",
            )
        ],
        [(EMBEDDED, r"growth::what_cleaning_deletes_is_not_missed \.\.\. FAILED")],
    ),
]
