"""In the stores of ids: each has at least one that its random sequences find, and one that a case finds."""

from .kinds import (
    BEHIND,
    BEHIND_MODEL,
    INBOXES_MODEL,
    OF_INBOX,
    OF_STORE,
    POSTGRES_INBOX,
    POSTGRES_MODEL,
    REDIS,
    REDIS_MODEL,
    SQLITE_CLAIMS,
    SQLITE_INBOX,
    SQLITE_MODEL,
    TIERED_CLAIMS,
    TIERED_INBOX,
    TIERED_MODEL,
    Mistake,
)

MISTAKES = [
    Mistake(
        "parked-with-its-effect",
        "E8",
        [
            (
                "consumer-inbox/src/memory/inbox.rs",
                "        if !matches!(how, Settlement::Done(_)) {\n",
                "        if how == Settlement::Released {\n",
            )
        ],
        [(INBOXES_MODEL, OF_INBOX)],
    ),
    Mistake(
        "position-may-be-lowered",
        "I46",
        [
            (
                "consumer-inbox/src/sql/statements.rs",
                "next_offset = case when next_offset > $1 then next_offset else $1 end ",
                "next_offset = $1 ",
            ),
            (
                "consumer-inbox/src/sql/inbox.rs",
                "if next > self.next.unwrap_or(0) {",
                "if next > 0 {",
            ),
        ],
        [
            (SQLITE_INBOX, r"inbox::case_33 \.\.\. FAILED"),
            (SQLITE_MODEL, OF_INBOX),
            (POSTGRES_MODEL, OF_INBOX),
        ],
    ),
    Mistake(
        "swept-without-a-floor",
        "E11",
        [
            (
                "consumer-inbox/src/sql/sweep.rs",
                "newest = newest.max(cells.maybe_int()?);",
                "newest = newest.min(cells.maybe_int()?);",
            )
        ],
        [(SQLITE_CLAIMS, r"dedup::case_72 \.\.\. FAILED"), (SQLITE_MODEL, OF_STORE)],
    ),
    Mistake(
        "guard-without-the-epoch",
        "E10",
        [
            (
                "consumer-inbox/src/sql/statements.rs",
                "where consumers = $2 and topic = $3 and topic_partition = $4 and epoch = $5",
                "where consumers = $2 and topic = $3 and topic_partition = $4 and epoch >= $5",
            )
        ],
        [(POSTGRES_INBOX, r"inbox::case_37 \.\.\. FAILED"), (POSTGRES_MODEL, OF_INBOX)],
    ),
    Mistake(
        "redis-settles-without-the-token",
        "E4",
        [
            (
                "consumer-inbox/src/redis/scripts/settle.lua",
                "if found[2] ~= ARGV[2] or (found[1]",
                "if (found[1]",
            )
        ],
        [(REDIS, r"dedup::case_05 \.\.\. FAILED"), (REDIS_MODEL, OF_STORE)],
    ),
    Mistake(
        "redis-sweeps-without-a-floor",
        "E11",
        [
            (
                "consumer-inbox/src/redis/scripts/sweep.lua",
                "    floor = math.max(floor, origin)\n",
                "",
            )
        ],
        [(REDIS, r"dedup::case_72 \.\.\. FAILED"), (REDIS_MODEL, OF_STORE)],
    ),
    Mistake(
        "marked-before-it-is-committed",
        "E13",
        [
            (
                "consumer-inbox/src/redis/tiered.rs",
                "        match self.slow.commit(inner, next).await {\n",
                """        for mark in std::mem::take(&mut tx.marks) {
            mark.committed(&self.front).await;
        }
        match self.slow.commit(inner, next).await {
""",
            )
        ],
        [(TIERED_INBOX, r"inbox::suite::case_37 \.\.\. FAILED")],
    ),
    Mistake(
        "mark-nobody-else-has-is-kept",
        "E13",
        [
            (
                "consumer-inbox/src/redis/tiered.rs",
                "                    Known::Done => continue,\n",
                "                    Known::Done | Known::Absent => continue,\n",
            ),
            (
                "consumer-inbox/src/redis/tiered.rs",
                "                    Known::Absent => all.corrupt.push(key.id),\n",
                "",
            ),
        ],
        [(TIERED_INBOX, r"case_59\w+ \.\.\. FAILED")],
    ),
    Mistake(
        "told-before-the-sweep",
        "E11",
        [
            (
                "consumer-inbox/src/redis/scripts/told_ask.lua",
                "if found[6] ~= sweeps then",
                "if not found[6] then",
            )
        ],
        [(TIERED_CLAIMS, r"store::suite::case_72 \.\.\. FAILED"), (TIERED_MODEL, OF_STORE)],
    ),
    Mistake(
        "trimmed-before-the-database-commits",
        "M9",
        [
            (
                "consumer-inbox/src/redis/behind/writer.rs",
                """        let written = self.write(&mut session, max).await;
        hit(Point::C3).await?;
""",
                """        let written = self.write(&mut session, max).await;
        if let Ok(Some((incarnation, last, _))) = &written {
            let mut call = BEHIND_TRIM.key(&[&shared.keys.meta, &shared.keys.stream][..]);
            call.arg(incarnation).arg(*last);
            shared.server.run::<String>(&call).await?;
        }
        hit(Point::C3).await?;
""",
            )
        ],
        [(BEHIND, r"case_61_death\w+ \.\.\. FAILED")],
    ),
    Mistake(
        "commits-what-redis-has-lost",
        "M9",
        [
            (
                "consumer-inbox/src/redis/scripts/behind_commit.lua",
                "if redis.call('HGET', meta, 'incarnation') ~= ARGV[2] then",
                "if not redis.call('HGET', meta, 'incarnation') then",
            )
        ],
        [(BEHIND_MODEL, OF_INBOX)],
    ),
    Mistake(
        "entity-that-redis-lacks-is-absent",
        "M9",
        [
            (
                "consumer-inbox/src/redis/behind/inbox.rs",
                """            let tx = self.database.transaction().await?;
            let row = tables::entity(&mut Postgres::new(tx.client()?), id).await;
            return tx.end(row).await;
""",
                "            return Ok(EntityRow::default());\n",
            )
        ],
        [(BEHIND, r"case_63\w+ \.\.\. FAILED"), (BEHIND_MODEL, OF_INBOX)],
    ),
]
