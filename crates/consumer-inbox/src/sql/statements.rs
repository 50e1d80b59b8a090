//! Every statement, for both dialects.
//!
//! Parameters are `$1`, `$2`, and so on, each first used in this order: PostgreSQL counts them, SQLite takes them as names and numbers them as they
//! come. Where time counts, one parameter is the time to judge by, ms since 1970; null takes the database's own.

/// The statements of a dialect, over the tables of [`schema`](crate::sql::schema).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "each is named after what it does, and says it in SQL"
)]
#[non_exhaustive]
pub struct Statements {
    pub insert_done: &'static str,
    pub find_id: &'static str,
    pub run_again: &'static str,
    pub follow: &'static str,
    pub park: &'static str,
    pub set_result: &'static str,
    pub forget: &'static str,
    pub floor: &'static str,
    pub raise_floor: &'static str,
    pub now: &'static str,
    pub insert_claim: &'static str,
    pub next_token: &'static str,
    pub load_row: &'static str,
    pub write_row: &'static str,
    pub peek: &'static str,
    pub add_position: &'static str,
    pub find_position: &'static str,
    pub lock_position: &'static str,
    pub assign: &'static str,
    pub raise_position: &'static str,
    pub guard: &'static str,
    pub emit: &'static str,
    pub outgoing: &'static str,
    pub forwarded: &'static str,
    pub load_entity: &'static str,
    pub lock_entity: &'static str,
    pub place_entity: &'static str,
    pub put_entity: &'static str,
}

/// Numbers what was committed and has no number yet; PostgreSQL only, where rows are not committed in the order of their keys.
#[cfg(feature = "postgres")]
pub(crate) mod numbering {
    pub(crate) const LOCK: &str = "select last from oncelog_outbox_counter for update";
    pub(crate) const NUMBER: &str = "with fresh as (select seq, row_number() over (order by seq) as nth from \
         (select seq from oncelog_outbox where number is null order by seq limit $1) as unnumbered) \
         update oncelog_outbox set number = $2 + fresh.nth from fresh where oncelog_outbox.seq = fresh.seq";
    pub(crate) const COUNT: &str = "update oncelog_outbox_counter set last = last + $1";
}

macro_rules! postgres_now {
    ($time:literal) => {
        concat!(
            "coalesce(cast(",
            $time,
            " as bigint), cast(extract(epoch from clock_timestamp()) * 1000 as bigint))"
        )
    };
}

macro_rules! sqlite_now {
    ($time:literal) => {
        concat!(
            "coalesce(",
            $time,
            ", cast((julianday('now') - 2440587.5) * 86400000 as integer))"
        )
    };
}

macro_rules! insert_settled {
    ($now:ident, $state:literal) => {
        concat!(
            "insert into oncelog_id (scope, id, state, token, attempt, prior, at_ms, fingerprint, \
             origin_ms, topic, topic_partition, record_offset) \
             values ($1, $2, ",
            $state,
            ", 0, 0, 0, ",
            $now!("$3"),
            ", $4, $5, $6, $7, $8) on conflict (scope, id) do "
        )
    };
}

macro_rules! statements {
    ($now:ident, $new_token:literal, $next_token:literal, $lock:literal, $share:literal) => {
        Statements {
            insert_done: concat!(insert_settled!($now, "2"), "nothing"),
            find_id: "select cast(state as bigint) as number, fingerprint as first, result as second \
                      from oncelog_id where scope = $1 and id = $2",
            run_again: concat!(
                "update oncelog_id set state = 2, owner = null, result = null, at_ms = ",
                $now!("$1"),
                " where scope = $2 and id = $3 and state in (1, 3)"
            ),
            follow: "update oncelog_id set origin_ms = $1, topic = $2, topic_partition = $3, record_offset = $4 \
                     where scope = $5 and id = $6 and (origin_ms is null or origin_ms <= $1) \
                     and (origin_ms is distinct from $1 or topic is distinct from $2 \
                     or topic_partition is distinct from $3 or record_offset is distinct from $4)",
            park: concat!(
                insert_settled!($now, "3"),
                "update set state = 3, owner = null, result = null, at_ms = excluded.at_ms"
            ),
            set_result: "update oncelog_id set result = $1 where scope = $2 and id = $3",
            forget: "delete from oncelog_id where scope = $1 and id = $2",
            floor: "select floor_ms as number, cast(null as bytea) as first, cast(null as bytea) as second \
                    from oncelog_floor where scope = $1",
            raise_floor: "insert into oncelog_floor (scope, floor_ms) values ($1, $2) on conflict (scope) do update \
                          set floor_ms = excluded.floor_ms where oncelog_floor.floor_ms < excluded.floor_ms",
            now: concat!("select ", $now!("$1")),
            insert_claim: concat!(
                "insert into oncelog_id (scope, id, state, token, attempt, prior, owner, at_ms, fingerprint, \
                 origin_ms, topic, topic_partition, record_offset) values ($1, $2, 0, ",
                $new_token,
                ", 1, 0, $3, ",
                $now!("$4"),
                " + $5, $6, $7, $8, $9, $10) on conflict (scope, id) do nothing returning token"
            ),
            next_token: $next_token,
            load_row: concat!(
                "select cast(state as bigint), token, cast(attempt as bigint), cast(prior as bigint), owner, at_ms, \
                 fingerprint, origin_ms, topic, topic_partition, record_offset, result, ",
                $now!("$1"),
                " from oncelog_id where scope = $2 and id = $3",
                $lock
            ),
            write_row: "update oncelog_id set state = $1, token = $2, attempt = $3, prior = $4, owner = $5, \
                        at_ms = $6, origin_ms = $7, topic = $8, topic_partition = $9, record_offset = $10, result = $11 \
                        where scope = $12 and id = $13",
            peek: "select token, result from oncelog_id where scope = $1 and id = $2 and state = 2",
            add_position: "insert into oncelog_position (consumers, topic, topic_partition, epoch) values ($1, $2, $3, 0) \
                           on conflict (consumers, topic, topic_partition) do nothing",
            find_position: "select epoch, next_offset from oncelog_position \
                            where consumers = $1 and topic = $2 and topic_partition = $3",
            lock_position: concat!(
                "select epoch, next_offset from oncelog_position \
                 where consumers = $1 and topic = $2 and topic_partition = $3",
                $lock
            ),
            assign: "update oncelog_position set epoch = $1 \
                     where consumers = $2 and topic = $3 and topic_partition = $4",
            raise_position: "update oncelog_position set next_offset = case when next_offset > $1 then next_offset else $1 end \
                             where consumers = $2 and topic = $3 and topic_partition = $4 and epoch = $5",
            guard: concat!(
                "select epoch from oncelog_position \
                 where consumers = $1 and topic = $2 and topic_partition = $3 and epoch = $4",
                $share
            ),
            emit: "insert into oncelog_outbox (topic, key, value, headers) values ($1, $2, $3, $4)",
            outgoing: "select number, topic, key, value, headers from oncelog_outbox \
                       where number is not null order by number limit $1",
            forwarded: "delete from oncelog_outbox where number <= $1",
            load_entity: "select version, amount, value from oncelog_entity where id = $1",
            lock_entity: concat!(
                "select version, amount, value from oncelog_entity where id = $1",
                $lock
            ),
            place_entity: "insert into oncelog_entity (id, version, amount) values ($1, 0, 0) on conflict (id) do nothing",
            put_entity: "update oncelog_entity set version = $1, amount = $2, value = $3 where id = $4",
        }
    };
}

impl Statements {
    /// Those of PostgreSQL.
    pub const POSTGRES: Statements = statements!(
        postgres_now,
        "nextval('oncelog_token')",
        "select nextval('oncelog_token')",
        " for update",
        " for key share"
    );

    /// Those of SQLite, whose transactions exclude each other.
    pub const SQLITE: Statements = statements!(
        sqlite_now,
        "(select last + 1 from oncelog_token)",
        "update oncelog_token set last = last + 1 returning last",
        "",
        ""
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SQLite takes `$2` for a name, and numbers names as they come.
    #[test]
    fn parameters_come_in_the_order_of_their_numbers() {
        let all = format!("{:?} {:?}", Statements::POSTGRES, Statements::SQLITE);
        let mut statements = 0;
        for statement in all.split('"').skip(1).step_by(2) {
            let mut greatest = 0;
            for (at, _) in statement.match_indices('$') {
                let digits = statement[at + 1..].chars().take_while(char::is_ascii_digit);
                let number: usize = digits.collect::<String>().parse().unwrap();
                assert!(
                    number <= greatest + 1,
                    "${number} too early in: {statement}"
                );
                greatest = greatest.max(number);
            }
            statements += usize::from(greatest > 0);
        }
        assert!(statements > 50, "{statements}");
    }
}
