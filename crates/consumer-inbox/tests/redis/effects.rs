//! Guarded writes.

use consumer_inbox::conformance::block_on;
use consumer_inbox::{Guard, Guarded, Position, RedisEffects, RedisOptions, StoreError, Written};

use super::servers::{self, Cut, Proxy, fresh_name};

fn offset(offset: u64) -> Guard<'static> {
    Guard::Offset(Position {
        topic: "prices",
        partition: 3,
        offset,
    })
}

async fn effects(port: u16) -> RedisEffects {
    let url = format!("redis://127.0.0.1:{port}/");
    RedisEffects::connect(&url, RedisOptions::new())
        .await
        .unwrap()
}

fn value(value: &str, guard: u64) -> Option<Guarded> {
    let value = Some(value.to_owned().into());
    Some(Guarded { value, guard })
}

#[test]
fn a_late_redelivery_does_not_overwrite_the_newer_value() {
    block_on(async {
        let Some(server) = servers::redis() else {
            return;
        };
        let effects = effects(server.port()).await;
        for guard in [offset, Guard::Version] {
            let key = fresh_name("price").into_bytes();
            let set =
                async |text: &str, n| effects.set(&key, text.as_bytes(), guard(n)).await.unwrap();
            assert_eq!(effects.get(&key).await.unwrap(), None);
            assert_eq!(set("nine", 9).await, Written::Applied);
            // One digit more.
            assert_eq!(set("ten", 10).await, Written::Applied);
            assert_eq!(set("nine", 9).await, Written::Stale { current: 10 });
            assert_eq!(set("ten, computed anew", 10).await, Written::Repeated);
            assert_eq!(effects.get(&key).await.unwrap(), value("ten", 10));
            // More than a double keeps.
            let [big, bigger] = [u64::MAX - 1, u64::MAX];
            assert_eq!(set("bigger", bigger).await, Written::Applied);
            assert_eq!(set("big", big).await, Written::Stale { current: bigger });
            assert_eq!(effects.get(&key).await.unwrap(), value("bigger", bigger));
        }
    });
}

#[test]
fn what_was_removed_does_not_come_back() {
    block_on(async {
        let Some(server) = servers::redis() else {
            return;
        };
        let effects = effects(server.port()).await;
        let key = fresh_name("price").into_bytes();
        assert_eq!(
            effects.set(&key, b"one", offset(1)).await.unwrap(),
            Written::Applied
        );
        assert_eq!(
            effects.remove(&key, offset(3)).await.unwrap(),
            Written::Applied
        );
        let stale = Written::Stale { current: 3 };
        assert_eq!(effects.set(&key, b"two", offset(2)).await.unwrap(), stale);
        let removed = Guarded {
            value: None,
            guard: 3,
        };
        assert_eq!(effects.get(&key).await.unwrap(), Some(removed));
        // Nor does a late removal take what was made anew.
        assert_eq!(
            effects.set(&key, b"", offset(4)).await.unwrap(),
            Written::Applied
        );
        let stale = Written::Stale { current: 4 };
        assert_eq!(effects.remove(&key, offset(3)).await.unwrap(), stale);
        assert_eq!(effects.get(&key).await.unwrap(), value("", 4));
    });
}

#[test]
fn guards_that_cannot_be_compared_are_refused() {
    block_on(async {
        let Some(server) = servers::redis() else {
            return;
        };
        let effects = effects(server.port()).await;
        let key = fresh_name("price").into_bytes();
        effects.set(&key, b"one", offset(1)).await.unwrap();
        let at = |topic, partition| {
            let offset = 100;
            Guard::Offset(Position {
                topic,
                partition,
                offset,
            })
        };
        for other in [at("prices", 4), at("price", 3), Guard::Version(100)] {
            let refused = effects.set(&key, b"two", other).await;
            assert!(matches!(refused, Err(StoreError::Misuse(_))), "{refused:?}");
        }
        assert_eq!(effects.get(&key).await.unwrap(), value("one", 1));
    });
}

#[test]
fn a_write_whose_answer_was_lost_may_be_repeated_however_late() {
    block_on(async {
        let Some(server) = servers::redis() else {
            return;
        };
        let proxy = Proxy::to(server.port());
        let effects = effects(proxy.port()).await;
        let key = fresh_name("price").into_bytes();
        effects.set(&key, b"zero", offset(0)).await.unwrap();
        proxy.cut(Cut::Reply, b"EVALSHA");
        let lost = effects.set(&key, b"one", offset(1)).await;
        assert!(matches!(lost, Err(StoreError::Unknown)), "{lost:?}");
        assert_eq!(
            effects.set(&key, b"one", offset(1)).await.unwrap(),
            Written::Repeated
        );
        effects.set(&key, b"two", offset(2)).await.unwrap();
        let stale = Written::Stale { current: 2 };
        assert_eq!(effects.set(&key, b"one", offset(1)).await.unwrap(), stale);
        assert_eq!(effects.get(&key).await.unwrap(), value("two", 2));
    });
}
