//! The demo's consumer over stores that not every build has, with private servers.

use serde_json::Value;

use crate::harness::Place;

/// The result without the time.
fn demo(place: &Place, seed: &str, args: &[&str]) -> Value {
    let mut all = vec!["demo", "--consumer", "--json", "--records", "1500"];
    all.extend(["--seed", seed]);
    all.extend(args);
    let mut result = place.run(&all).code(0).json();
    let fields = result.as_object_mut().unwrap();
    fields.remove("elapsed_ms").unwrap();
    result
}

/// Effects that happened once, though consumers died and nothing was left behind.
fn each_effect_once(name: &str, args: &[&str]) -> Value {
    let place = Place::new();
    let result = demo(&place, "7", args);
    for (field, value) in [
        ("effects", 1_500),
        ("effects_lost", 0),
        ("effects_duplicated", 0),
    ] {
        assert_eq!(result[field], value, "{field}");
    }
    assert_eq!(result["store"], name);
    assert!(result["consumer_crashes"].as_u64() > Some(0), "{result}");
    let left = std::fs::read_dir(place.path()).unwrap().count();
    assert_eq!(left, 0, "it left files here");
    result
}

/// But for its name an inbox is like the one in memory.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn same_as_memory(name: &str, args: &[&str]) {
    let mut result = each_effect_once(name, args);
    let memory = each_effect_once("memory", &["--store", "memory"]);
    result["store"] = memory["store"].clone();
    assert_eq!(result, memory);
}

#[cfg(not(any(feature = "sqlite", feature = "postgres", feature = "redis")))]
#[test]
fn the_log_and_memory_are_in_every_build() {
    each_effect_once("embedded", &["--store", "embedded"]);
}

#[test]
fn servers_need_a_url_that_fits_and_others_take_none() {
    let place = Place::new();
    for (args, says) in [
        (
            &["--store", "postgres"][..],
            "needs --url, such as postgres://",
        ),
        (&["--store", "redis"], "needs --url, such as redis://"),
        (
            &["--store", "redis", "--url", "postgres://h/d"],
            "begins with redis://",
        ),
        (
            &["--store", "redis://h/", "--url", "redis://h/"],
            "leave --url out",
        ),
        (
            &["--store", "memory", "--url", "redis://h/"],
            "takes no --url",
        ),
    ] {
        let mut all = vec!["demo", "--consumer", "--records", "10"];
        all.extend(args);
        let store = args[1].split(':').next().unwrap();
        let lacks = |name, has: bool| store == name && !has;
        let is_built = !lacks("postgres", cfg!(feature = "postgres"))
            && !lacks("redis", cfg!(feature = "redis"));
        let says = match is_built {
            true => says.to_owned(),
            false => format!("build it with `--features {store}`"),
        };
        place.run(&all).code(2).says(&[&says]);
    }
    let left = std::fs::read_dir(place.path()).unwrap().count();
    assert_eq!(left, 0, "it left files here");
}

#[cfg(feature = "sqlite")]
#[test]
fn sqlite_is_a_file_beside_the_log() {
    same_as_memory("sqlite", &["--store", "sqlite"]);
    let place = Place::new();
    demo(&place, "8", &["--store", "sqlite", "--data", "here"]);
    let names = std::fs::read_dir(place.path()).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["here", "here.sqlite"]);
}

#[cfg(not(feature = "sqlite"))]
#[test]
fn a_build_without_a_store_says_how_to_build_one_with_it() {
    let place = Place::new();
    let ran = place.run(&["demo", "--consumer", "--store", "sqlite"]);
    ran.code(2).says(&["build it with `--features sqlite`"]);
}

#[cfg(any(feature = "postgres", feature = "redis"))]
#[path = "../../../consumer-inbox/tests/servers/mod.rs"]
mod servers;

#[cfg(feature = "postgres")]
#[test]
fn postgres_has_nothing_left_behind() {
    let Some(server) = servers::postgres() else {
        return;
    };
    let url = server.url();
    same_as_memory("postgres", &["--store", "postgres", "--url", &url]);
    same_as_memory("postgres", &["--store", &url]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
        let (client, connection) = connected.unwrap();
        tokio::spawn(connection);
        let left = "select count(*) from pg_namespace where nspname like 'oncelog%'";
        let left: i64 = client.query_one(left, &[]).await.unwrap().get(0);
        assert_eq!(left, 0, "it left a schema");
    });
}

#[cfg(feature = "redis")]
#[test]
fn redis_has_nothing_left_behind() {
    let Some(server) = servers::redis() else {
        return;
    };
    let url = server.url();
    let result = each_effect_once("redis", &["--store", "redis", "--url", &url]);
    assert_eq!(each_effect_once("redis", &["--store", &url]), result);
    // It has no position: what was not acknowledged comes again, as it does to who does not ask.
    assert_eq!(result["delivered"], result["naive"]["delivered"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = redis::Client::open(&*url).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let keys: u64 = redis::cmd("DBSIZE")
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(keys, 0, "it left keys");
    });
}
