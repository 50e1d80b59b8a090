//! Closing an engine under those who use it.

use log_engine::storage::MemoryDisk;
use log_engine::{Ack, AppendError, Record};
use sync::thread;

use crate::schedules::explore;
use crate::world::{Answer, append_all, check_after_power_cut, open, topic};

#[test]
fn close_answers_every_append_and_keeps_what_it_acknowledged() {
    explore("append | append | close", || {
        let disk = MemoryDisk::new();
        let engine = open(&disk);
        let partitions = topic(&engine, 2, Ack::Synced);
        let appenders = [(0, 10), (1, 20)].map(|(at, first)| {
            let partition: log_engine::Partition = partitions[at].clone();
            thread::spawn(move || append_all(&partition, first..first + 3))
        });
        engine.close().unwrap();
        let answers = appenders.map(|appender| appender.join().unwrap());
        for (partition, answers) in (0..).zip(&answers) {
            for (_, answer) in answers {
                let closed = matches!(answer, Ok(_) | Err(AppendError::Closed));
                assert!(closed, "a clean close leaves nothing in doubt: {answer:?}");
            }
            check_after_power_cut(&disk, partition, answers);
        }
    });
}

#[test]
fn two_closes_and_an_append_end() {
    explore("append | close | close", || {
        let disk = MemoryDisk::new();
        let engine = open(&disk);
        let partition = topic(&engine, 1, Ack::Synced).remove(0);
        let appender = thread::spawn(move || append_all(&partition, 10..12));
        let other = engine.clone();
        let closing = thread::spawn(move || other.close().unwrap());
        engine.close().unwrap();
        closing.join().unwrap();
        let answers: Vec<Answer> = appender.join().unwrap();
        check_after_power_cut(&disk, 0, &answers);
    });
}

#[test]
fn producer_hands_everything_over_before_the_engine_closes() {
    explore("send | close", || {
        let disk = MemoryDisk::new();
        let engine = open(&disk);
        topic(&engine, 1, Ack::Synced);
        let producer = engine.producer().open().unwrap();
        let sending = thread::spawn(move || {
            let tickets = (10..13).map(|number| {
                let record = Record::to("t").value("v").timestamp(number);
                (number, producer.blocking_send(record))
            });
            let tickets: Vec<_> = tickets.collect();
            let answer = |(number, ticket): (i64, Result<log_engine::Ticket, _>)| {
                (number, ticket.ok().map(|ticket| ticket.blocking_wait()))
            };
            tickets.into_iter().map(answer).collect::<Vec<_>>()
        });
        engine.close().unwrap();
        let answers = sending.join().unwrap();
        let stored = answers.into_iter().filter_map(|(number, answer)| {
            let stored = answer?.ok()?;
            Some((number, Ok(stored.offset?)))
        });
        check_after_power_cut(&disk, 0, &stored.collect::<Vec<Answer>>());
    });
}
