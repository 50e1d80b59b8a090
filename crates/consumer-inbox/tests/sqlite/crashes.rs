//! Processes that die at each point, and files that lose their tail: cases 31, 32, 45, 46, 47, and 4 with 7 of claims.

use std::path::Path;
use std::time::Duration;

use consumer_inbox::conformance::block_on;
use consumer_inbox::{
    Admission, DedupStore, Inbox, Prior, Settlement, SqliteInbox, SqliteOptions, SqliteStore,
    SqliteTx, StoreError,
};

use super::common::child;
use super::common::records::{Consumer, consume, delivery, part};
use super::fixture::{EFFECTS, directory, one_more};

struct Billing(SqliteInbox);

impl Billing {
    async fn open(path: &Path) -> Billing {
        let options = SqliteOptions::new().busy_timeout(Duration::from_secs(60));
        let inbox = SqliteInbox::open_with(path, options).unwrap();
        let effects = EFFECTS.replace("table", "table if not exists");
        let made = inbox.run(move |db| db.execute_batch(&effects)).await;
        made.unwrap();
        Billing(inbox)
    }
}

impl Consumer for Billing {
    type Inbox = SqliteInbox;

    fn inbox(&self) -> &SqliteInbox {
        &self.0
    }

    async fn effect(&self, tx: &mut SqliteTx, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        let done = tx.run(move |db| one_more(db, &name)).await?;
        done.map(drop).map_err(StoreError::backend)
    }
}

// Effects of a name, by a connection of its own.
fn count(path: &Path, name: &str) -> i64 {
    let db = rusqlite::Connection::open(path).unwrap();
    let sql = "select coalesce(sum(count), 0) from effect where name = ?1";
    db.query_row(sql, [name], |row| row.get(0)).unwrap()
}

/// Consumes x at offset 7 and y at offset 8, in the file it was told.
#[test]
fn child_consumes() {
    let Some(path) = child::argument() else {
        return;
    };
    block_on(async {
        let billing = Billing::open(Path::new(&path)).await;
        billing.0.assign(&part(), 1).await.unwrap();
        for (id, offset) in [("x", 7), ("y", 8)] {
            consume(&billing, &delivery(id, offset)).await.unwrap();
        }
    });
}

#[test]
fn case_31_and_32_a_process_dies_at_each_point() {
    for (failpoint, effects, position) in [
        ("C0:abort", 0, None),
        ("C1:abort", 0, None),
        ("C2:abort", 0, None),
        ("C3:abort", 0, None),
        ("C4:abort", 1, Some(8)),
        ("C3:abort:2", 1, Some(8)),
        ("C4:abort:2", 1, Some(9)),
    ] {
        let directory = directory();
        let path = directory.path().join("ids.db");
        child::abort("crashes::child_consumes", path.to_str().unwrap(), failpoint);
        block_on(async {
            let billing = Billing::open(&path).await;
            assert_eq!(count(&path, "x"), effects, "{failpoint}");
            let stored = billing.0.assign(&part(), 1).await.unwrap();
            assert_eq!(stored, position, "{failpoint}");
            // Delivered again, whatever the position says.
            let again = consume(&billing, &delivery("x", 7)).await.unwrap();
            assert_eq!(again, effects == 0, "{failpoint}");
            assert_eq!(count(&path, "x"), 1, "{failpoint}");
            // And published again.
            assert!(!consume(&billing, &delivery("x", 20)).await.unwrap());
            assert_eq!(count(&path, "x"), 1, "{failpoint}");
        });
        println!("case 31 32 sqlite {failpoint}: ok");
    }
}

/// Claims x, and settles it.
#[test]
fn child_claims() {
    let Some(path) = child::argument() else {
        return;
    };
    block_on(async {
        let store = SqliteStore::open(path).unwrap();
        let x = delivery("x", 7);
        let claim = x.claim(1, Duration::from_millis(1));
        if let Admission::Run(held) = store.claim(claim).await.unwrap() {
            store.settle(&held, Settlement::Done(None)).await.unwrap();
        }
    });
}

#[test]
fn a_claim_outlives_its_process_and_counts() {
    let directory = directory();
    let path = directory.path().join("ids.db");
    let name = path.to_str().unwrap();
    child::abort("crashes::child_claims", name, "C1:abort");
    child::abort("crashes::child_claims", name, "C3:abort");
    block_on(async {
        let store = SqliteStore::open(&path).unwrap();
        let x = delivery("x", 7);
        // Its lease of 1 ms ends by a clock of a few ms.
        let held = loop {
            match store
                .claim(x.claim(2, Duration::from_secs(60)))
                .await
                .unwrap()
            {
                Admission::Run(held) => break held,
                Admission::Busy { retry_after } => tokio::time::sleep(retry_after).await,
                other => panic!("{other:?}"),
            }
        };
        // The second child was the same owner, and so repeated the first one's claim (E2).
        assert_eq!((held.attempt, held.prior), (2, Prior::Crashed));
        store.settle(&held, Settlement::Released).await.unwrap();
    });
    child::abort("crashes::child_claims", name, "C4:abort");
    block_on(async {
        let store = SqliteStore::open(&path).unwrap();
        let x = delivery("x", 7);
        let answer = store.claim(x.claim(2, Duration::from_secs(60))).await;
        assert!(matches!(answer.unwrap(), Admission::Done(_)));
    });
}

#[test]
fn case_45_a_restored_backup_is_consumed_again() {
    let directory = directory();
    let path = directory.path().join("ids.db");
    let backup = directory.path().join("backup.db");
    block_on(async {
        let billing = Billing::open(&path).await;
        billing.0.assign(&part(), 1).await.unwrap();
        let ids: Vec<String> = (0..10).map(|n| format!("id {n}")).collect();
        for (id, offset) in ids.iter().zip(0..5) {
            assert!(consume(&billing, &delivery(id, offset)).await.unwrap());
        }
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute("vacuum into ?1", [backup.to_str().unwrap()])
            .unwrap();
        for (id, offset) in ids.iter().zip(0..10) {
            let new = consume(&billing, &delivery(id, offset)).await.unwrap();
            assert_eq!(new, offset >= 5);
        }

        let restored = Billing::open(&backup).await;
        assert_eq!(restored.0.assign(&part(), 2).await.unwrap(), Some(5));
        for (id, offset) in ids.iter().zip(0..10) {
            let again = delivery(id, offset).at_epoch(2);
            assert_eq!(consume(&restored, &again).await.unwrap(), offset >= 5);
            assert_eq!(count(&backup, id), 1, "{id}");
        }
    });
    println!("case 45 sqlite: ok");
}

#[test]
fn case_46_a_log_that_was_not_checkpointed_and_one_whose_tail_is_cut() {
    let directory = directory();
    let path = directory.path().join("ids.db");
    let name = path.to_str().unwrap();
    child::abort("crashes::child_consumes", name, "C4:abort:2");
    let log = std::fs::read(directory.path().join("ids.db-wal")).unwrap();
    let main = std::fs::read(&path).unwrap();
    assert!(!log.is_empty(), "nobody copied the log into the file");
    // A frame is its header of 24 bytes and a page.
    let page = usize::from(u16::from_be_bytes([main[16], main[17]]));
    assert_eq!((log.len() - 32) % (page + 24), 0);
    for cut in [0, 1, page / 2, page, page + 23] {
        let copy = directory.path().join(format!("cut {cut}.db"));
        std::fs::write(&copy, &main).unwrap();
        let wal = directory.path().join(format!("cut {cut}.db-wal"));
        std::fs::write(wal, &log[..log.len() - cut]).unwrap();
        block_on(async {
            let billing = Billing::open(&copy).await;
            let whole = cut == 0;
            let expected = if whole { 9 } else { 8 };
            let stored = billing.0.assign(&part(), 2).await.unwrap();
            assert_eq!(stored, Some(expected), "{cut}");
            assert_eq!(count(&copy, "x"), 1, "{cut}");
            assert_eq!(count(&copy, "y"), i64::from(whole), "{cut}");
            let y = delivery("y", 8).at_epoch(2);
            assert_eq!(consume(&billing, &y).await.unwrap(), !whole, "{cut}");
            assert_eq!(count(&copy, "y"), 1, "{cut}");
        });
    }
    println!("case 46 sqlite: ok");
}

/// Consumes 100 records of a partition of its own.
#[test]
fn child_writes() {
    let Some(argument) = child::argument() else {
        return;
    };
    let (path, partition) = argument.rsplit_once(' ').unwrap();
    block_on(write(Path::new(path), partition.parse().unwrap()));
}

async fn write(path: &Path, partition: u32) {
    use consumer_inbox::{Delivery, Part, Position};
    let billing = Billing::open(path).await;
    let part = Part::new("billing", "orders", partition);
    billing.0.assign(&part, 1).await.unwrap();
    for offset in 0..100 {
        let at = Position {
            topic: "orders",
            partition,
            offset,
        };
        let id = format!("{partition} {offset}");
        let delivery = Delivery::foreign("billing", at, &id, &b"payload"[..]).unwrap();
        assert!(consume(&billing, &delivery).await.unwrap());
    }
}

#[test]
fn case_47_two_processes_write() {
    let directory = directory();
    let path = directory.path().join("ids.db");
    let argument = format!("{} 1", path.display());
    let mut other = child::command("crashes::child_writes", &argument, None);
    let mut other = other.spawn().unwrap();
    block_on(write(&path, 0));
    assert!(other.wait().unwrap().success());
    let db = rusqlite::Connection::open(&path).unwrap();
    let sql = "select count(*), sum(count) from effect";
    let counts = db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(counts.unwrap(), (200, 200));
    println!("case 47 sqlite: ok");
}
