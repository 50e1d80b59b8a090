//! Redis beside bare commands on one connection that all tasks share, as ours do.

use std::sync::Arc;
use std::time::Duration;

use consumer_inbox::{Guard, PgInbox, PgOptions, RedisInbox, RedisOptions, RedisStore, Tiered};
use redis::aio::MultiplexedConnection;
use tokio::sync::oneshot;

use crate::measure::{Run, Sides, Sizes, Space, compare, work};
use crate::postgres::{Bare, client};
use crate::servers;
use crate::work::{BODY, LEASE, account, acted, claimed};

const DAY_MS: u64 = 86_400_000;

pub(crate) async fn redis(sizes: Sizes) -> Option<Space> {
    // Unchanged by rewrites, the file tells what an id takes in it.
    let as_written = ["--auto-aof-rewrite-percentage", "0"];
    let server = servers::Redis::start_with(&as_written)?;
    let url = server.url();
    let connected = ::redis::Client::open(&*url).unwrap();
    let bare = Commands(connected.get_multiplexed_async_connection().await.unwrap());
    let store = RedisStore::connect(&url, RedisOptions::new()).await;
    let store = Arc::new(store.unwrap());
    let fast = sizes.times(5);
    let claims = Sides {
        ours: Some(work(|run| claimed(&store, run))),
        bare: Some(work(|run| bare.set_nx(run))),
        by_hand: Some(work(|run| bare.set_twice(run))),
    };
    compare("redis", "claims", fast, claims).await;
    let writes = Sides {
        ours: Some(work(|run| guarded(&store, run))),
        bare: Some(work(|run| bare.set(run))),
        ..Sides::default()
    };
    compare("redis", "writes", fast, writes).await;
    databases(sizes, &url, &bare).await;

    let run = Run::new(fast.ids, 64);
    let used = async || {
        let memory = bare.info("used_memory").await;
        [memory, bare.info("aof_current_size").await]
    };
    let before = used().await;
    claimed(&store, run).await;
    let after = used().await;
    let [memory, disk] = [0, 1].map(|n| after[n].saturating_sub(before[n]) / run.ids);
    Some(Space {
        store: "redis",
        memory: Some(memory),
        disk: Some(disk),
        how: "the append-only file, before a rewrite",
    })
}

/// Redis before and behind PostgreSQL, if that is there.
async fn databases(sizes: Sizes, url: &str, bare: &Commands) {
    let Some(server) = servers::postgres() else {
        return;
    };
    let admin = client(&server.config()).await;
    let mut configs = Vec::new();
    for schema in ["tiered", "behind"] {
        let create = format!("create schema {schema}");
        admin.batch_execute(&create).await.unwrap();
        configs.push(format!(
            "{} options='-c search_path={schema}'",
            server.config()
        ));
    }
    let inbox = PgInbox::connect(&configs[0], PgOptions::new()).await;
    let tiered = Tiered::new(url, RedisOptions::new(), inbox.unwrap()).unwrap();
    let in_database = Bare::new(&configs[0]).await;
    let effects = Sides {
        ours: Some(work(|run| acted(&tiered, run))),
        bare: Some(work(|run| in_database.together(run, false))),
        by_hand: Some(work(|run| in_database.together(run, true))),
    };
    compare("tiered", "effects", sizes, effects).await;

    let database = PgInbox::connect(&configs[1], PgOptions::new()).await;
    let options = RedisOptions::new();
    let inbox = RedisInbox::connect("bench", url, options, database.unwrap()).await;
    let inbox = inbox.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let writer = inbox.write_behind();
    // The database follows in the measured time: it has to, sooner or later.
    let writer = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        writer.run(Duration::from_millis(10), 1_000, stopped).await;
    });
    let effects = Sides {
        ours: Some(work(|run| acted(&inbox, run))),
        bare: Some(work(|run| bare.pipelined(run, false))),
        by_hand: Some(work(|run| bare.pipelined(run, true))),
    };
    compare("behind", "effects", sizes, effects).await;
    drop(stop);
    writer.await.unwrap();
}

async fn guarded(store: &RedisStore, run: Run) {
    let effects = store.effects();
    run.at_once(|task| {
        let effects = effects.clone();
        async move {
            for number in run.of_task(task) {
                let (key, body) = (run.id(number), BODY.as_bytes());
                let set = effects.set(key.as_bytes(), body, Guard::Version(number));
                set.await.unwrap();
            }
        }
    })
    .await;
}

/// A connection that uses nothing of ours.
struct Commands(MultiplexedConnection);

impl Commands {
    async fn each(
        &self,
        run: Run,
        commands: impl Fn(&str) -> Vec<::redis::Cmd> + Clone + Send + 'static,
    ) {
        run.at_once(|task| {
            let (mut connection, commands) = (self.0.clone(), commands.clone());
            async move {
                for number in run.of_task(task) {
                    for command in commands(&run.id(number)) {
                        let () = command.query_async(&mut connection).await.unwrap();
                    }
                }
            }
        })
        .await;
    }

    async fn set_nx(&self, run: Run) {
        self.each(run, |id| vec![set_nx(id, DAY_MS)]).await;
    }

    async fn set_twice(&self, run: Run) {
        let commands = |id: &str| {
            let lease = u64::try_from(LEASE.as_millis()).unwrap();
            let mut done = ::redis::cmd("SET");
            done.arg(id).arg("done").arg("XX").arg("PX").arg(DAY_MS);
            vec![set_nx(id, lease), done]
        };
        self.each(run, commands).await;
    }

    async fn set(&self, run: Run) {
        let commands = |id: &str| {
            let mut set = ::redis::cmd("SET");
            set.arg(id).arg(BODY);
            vec![set]
        };
        self.each(run, commands).await;
    }

    /// As many in a pipeline as there are at once; with the effect in one transaction.
    async fn pipelined(&self, run: Run, has_effect: bool) {
        let mut connection = self.0.clone();
        for ids in run.transactions() {
            let mut pipe = ::redis::pipe();
            if has_effect {
                pipe.atomic();
            }
            for number in ids {
                pipe.add_command(set_nx(&run.id(number), DAY_MS));
                if has_effect {
                    pipe.cmd("HINCRBY").arg(format!("hand:{}", account(number)));
                    pipe.arg("amount").arg(1);
                }
            }
            pipe.query_async::<::redis::Value>(&mut connection)
                .await
                .unwrap();
        }
    }

    async fn info(&self, wanted: &str) -> u64 {
        let mut connection = self.0.clone();
        let info = ::redis::cmd("INFO");
        let info: String = info.query_async(&mut connection).await.unwrap();
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(name, _)| *name == wanted).unwrap();
        found.1.parse().unwrap()
    }
}

fn set_nx(id: &str, ms: u64) -> ::redis::Cmd {
    let mut set = ::redis::cmd("SET");
    set.arg(id).arg(1).arg("NX").arg("PX").arg(ms);
    set
}
