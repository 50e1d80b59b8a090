//! The lives: each a few calls, one of everything that is written to disk.

use oncelog::testing::{FileSystem, SimulatedDisk};

use crate::facts::Facts;
use crate::images::enumerate;
use crate::life::Life;

const SMALL: (&str, &str) = ("segment.bytes", "4096");

fn new_life() -> Life {
    Life::begin(SimulatedDisk::new(1), Facts::default(), 1)
}

fn check(what: &str, life: Life) {
    let (trace, facts) = life.end();
    let totals = enumerate(what, &trace, &facts);
    assert!(totals.distinct > 100, "{what}: {totals:?}");
}

#[test]
fn directory_topic_and_appends_one_by_one() {
    let mut life = new_life();
    life.create_topic("a", 1, &[]);
    let producer = life.producer();
    for _ in 0..4 {
        life.append("a", 0, producer);
    }
    life.close();
    check("appends", life);
}

#[test]
fn appends_of_two_producers_at_once() {
    let mut life = new_life();
    life.create_topic("a", 2, &[]);
    let producers = [life.producer(), life.producer()];
    for _ in 0..3 {
        let mut started = Vec::new();
        for partition in 0..2 {
            for producer in producers {
                started.push(life.start("a", partition, producer));
            }
        }
        for one in started {
            life.wait("a", one);
        }
    }
    check("at once", life);
}

#[test]
fn appends_at_interval_and_memory() {
    for ack in ["interval", "memory"] {
        let mut life = new_life();
        life.create_topic("a", 1, &[("ack", ack), SMALL]);
        let producer = life.producer();
        for _ in 0..3 {
            life.append("a", 0, producer);
        }
        life.pass(200);
        life.pass(6_000);
        for _ in 0..2 {
            life.append("a", 0, producer);
        }
        life.machine.settle();
        check(ack, life);
    }
}

#[test]
fn rolls_with_footers_snapshots_and_marks() {
    for ack in ["synced", "memory"] {
        let mut life = new_life();
        life.create_topic("a", 1, &[("ack", ack), SMALL]);
        let producers = [life.producer(), life.producer()];
        for at in 0..40 {
            life.append("a", 0, producers[at % 2]);
        }
        life.machine.settle();
        life.close();
        check(&format!("rolls at {ack}"), life);
    }
}

#[test]
fn appends_while_a_sync_is_under_way() {
    for ack in ["synced", "interval"] {
        let mut life = new_life();
        life.create_topic("a", 1, &[("ack", ack), SMALL]);
        let producer = life.producer();
        life.append("a", 0, producer);
        life.let_interlope("a", 0);
        for at in 0..14 {
            life.append("a", 0, producer);
            if ack == "interval" && at % 3 == 0 {
                life.pass(200);
            }
        }
        let facts = &life.facts.topics[0];
        assert!(facts.sent.len() > 17, "nothing was appended meanwhile");
        check(&format!("during syncs at {ack}"), life);
    }
}

#[test]
fn clean_close_and_further_appends() {
    let mut life = new_life();
    life.create_topic("a", 1, &[SMALL]);
    let producer = life.producer();
    life.append("a", 0, producer);
    life.reopen();
    life.append("a", 0, producer);
    life.pass(6_000);
    life.reopen();
    life.append("a", 0, producer);
    check("closes", life);
}

#[test]
fn producer_ids_over_more_than_one_block() {
    let mut life = new_life();
    life.create_topic("a", 1, &[]);
    for at in 0..2_100 {
        let producer = life.producer();
        if at % 400 == 0 {
            life.append("a", 0, producer);
            life.machine.settle();
        }
    }
    check("ids", life);
}

#[test]
fn deletion_from_the_front() {
    let mut life = new_life();
    life.create_topic("a", 1, &[SMALL]);
    let producers = [life.producer(), life.producer()];
    for _ in 0..12 {
        life.append("a", 0, producers[0]);
    }
    for _ in 0..20 {
        life.append("a", 0, producers[1]);
    }
    life.machine.settle();
    life.delete_before("a", 0, 20);
    life.append("a", 0, producers[1]);
    life.delete_before("a", 0, 30);
    life.reopen();
    life.append("a", 0, producers[0]);
    check("deletion", life);
}

#[test]
fn retention_by_size() {
    let mut life = new_life();
    life.create_topic("a", 1, &[SMALL, ("retention.bytes", "4096")]);
    let producer = life.producer();
    for _ in 0..50 {
        life.append("a", 0, producer);
    }
    life.pass(20_000);
    life.append("a", 0, producer);
    life.pass(20_000);
    check("retention", life);
}

#[test]
fn topics_made_deleted_and_made_again() {
    let mut life = new_life();
    life.create_topic("a", 2, &[SMALL]);
    life.create_topic("b", 1, &[SMALL]);
    let producer = life.producer();
    life.append("a", 0, producer);
    life.append("a", 1, producer);
    life.append("b", 0, producer);
    life.delete_topic("a");
    life.append("b", 0, producer);
    life.create_topic("a", 1, &[SMALL]);
    let producer = life.producer();
    life.append("a", 0, producer);
    check("topics", life);
}

#[test]
fn partitions_added() {
    let mut life = new_life();
    life.create_topic("a", 1, &[SMALL]);
    let producer = life.producer();
    life.append("a", 0, producer);
    life.add_partitions("a", 3);
    life.append("a", 2, producer);
    life.append("a", 0, producer);
    life.reopen();
    life.append("a", 1, producer);
    check("partitions", life);
}

#[test]
fn named_producers_and_takeover() {
    let mut life = new_life();
    life.create_lines(2);
    let producer = life.open_named(1, false);
    life.send_lines(&producer, 1, 0, 8);
    let other = life.open_named(2, false);
    life.send_lines(&other, 2, 0, 4);
    let producer = life.open_named(1, true);
    life.send_lines(&producer, 1, 6, 12);
    drop(producer);
    drop(other);
    life.reopen();
    let producer = life.open_named(1, false);
    life.send_lines(&producer, 1, 10, 14);
    check("names", life);
}

#[test]
fn producers_that_moved_to_disk() {
    let mut life = new_life();
    life.create_topic("a", 1, &[SMALL, ("producers.max", "16")]);
    let producers: Vec<i64> = (0..30).map(|_| life.producer()).collect();
    for producer in &producers {
        life.append("a", 0, *producer);
    }
    life.machine.settle();
    for producer in &producers[..6] {
        life.append("a", 0, *producer);
    }
    life.machine.settle();
    check("spill", life);
}

#[test]
fn recovery_itself() {
    for (ack, file_system) in [
        ("synced", FileSystem::Loose),
        ("memory", FileSystem::Loose),
        ("memory", FileSystem::Ordered),
    ] {
        let mut life = new_life();
        life.create_topic("a", 1, &[("ack", ack), SMALL]);
        let producers = [life.producer(), life.producer()];
        for at in 0..33 {
            life.append("a", 0, producers[at % 2]);
        }
        let started = life.start("a", 0, producers[0]);
        let now = life.disk.recorded();
        for cut in [3, 8] {
            let left = life.disk.clone().on(file_system).power_cut(cut);
            let mut second = Life::begin(left, life.facts.until(now), 2);
            second.note_found();
            let producer = second.producer();
            for _ in 0..12 {
                second.append("a", 0, producer);
            }
            check(&format!("recovery at {ack}, {file_system:?} {cut}"), second);
        }
        drop(started);
    }
}
