//! Transactions of several deliveries, killed at each place, over each store.

use std::collections::BTreeMap;

use crate::common::child;
use log_engine::Record;

use crate::home::{Home, OTHER, block_on, homes};

const CHILD: &str = "kills_batches::child_consumes";
const IDS: [&str; 6] = ["A/1", "B/1", "A/2", "C/1", "D/1", "B/2"];

#[test]
fn child_consumes() {
    if let Some(argument) = child::argument() {
        Home::of(&argument).consume();
    }
}

fn once(ids: &[&str]) -> BTreeMap<String, usize> {
    ids.iter().map(|id| ((*id).to_owned(), 1)).collect()
}

fn together(home: &Home) -> Home {
    Home {
        batch: IDS.len(),
        ..home.clone()
    }
}

#[test]
fn killed_anywhere_each_effect_of_the_batch_is_there_once() {
    for (at, nth, kept) in [
        ("C2", 1, 0),
        ("C2", 3, 0),
        ("C2", 6, 0),
        ("C3", 1, 0),
        ("C4", 1, 6),
        ("C5", 1, 6),
    ] {
        homes(&IDS, |home| {
            let (home, store) = (together(home), home.store.clone());
            child::abort(CHILD, &home.argument(), &format!("{at}:abort:{nth}"));
            assert_eq!(home.effects(), once(&IDS[..kept]), "{store} at {at}:{nth}");
            home.consume();
            assert_eq!(home.effects(), once(&IDS), "{store} at {at}:{nth}");
        });
    }
}

#[test]
fn one_that_kills_its_process_takes_no_other_with_it() {
    let ids = ["A/1", "B/1", "C/fatal", "D/1", "E/1", "F/1"];
    homes(&ids, |home| {
        let (home, store) = (together(home), home.store.clone());
        // Two attempts, and whatever died beside them.
        let mut deaths = 0;
        while !child::run(CHILD, &home.argument(), None).status.success() {
            deaths += 1;
            assert!(deaths <= 4, "{store}: it kills again and again");
        }
        let others = ids.map(|id| if id == "C/fatal" { "F/1" } else { id });
        assert_eq!(home.effects(), once(&others), "{store}");
        let letters = [(2, "attempts-exhausted".to_owned())];
        assert_eq!(home.letters(), letters, "{store} after {deaths} deaths");
        assert!(deaths >= 2, "{store}: {deaths} deaths");
    });
}

#[test]
fn nor_where_another_topic_has_something_new_after_each_death() {
    let ids = ["A/1", "B/1", "C/fatal", "D/1", "E/1", "F/1"];
    homes(&ids, |home| {
        let (home, store) = (together(home), home.store.clone());
        let mut fresh = Vec::new();
        let mut another = || {
            let name = format!("N/{}", fresh.len());
            block_on(async {
                let engine = home.engine();
                engine.ensure_topic(OTHER, 1).unwrap();
                let producer = engine.producer().open().unwrap();
                let order = Record::to(OTHER).value("shirts").biz_id(&name);
                producer.append(order).await.unwrap();
                engine.close().unwrap();
            });
            fresh.push(name);
        };
        another();
        while !child::run(CHILD, &home.argument(), None).status.success() {
            another();
            let killed = home.effects();
            assert!(killed.len() < 20, "{store}: it kills again and again");
        }
        let letters = [(2, "attempts-exhausted".to_owned())];
        assert_eq!(home.letters(), letters, "{store}");
        let of_orders = home
            .effects()
            .into_keys()
            .filter(|id| !id.starts_with("N/"));
        let others = ["A/1", "B/1", "D/1", "E/1", "F/1"];
        assert_eq!(of_orders.collect::<Vec<_>>(), others, "{store}");
    });
}
