//! Flights projected into SQLite or PostgreSQL: how many each carrier had, and how late they were. Every flight is published twice, by two
//! producers, and the consumer is killed again and again; the totals are those of the file, to the minute.
//!
//! ```text
//! cargo run -p oncelog --release --features inbox-runner,inbox-sqlite,inbox-postgres --example flights -- \
//!     flights.csv.gz [--into 'host=localhost user=me dbname=flights'] [--kills 20] [--records N] [--seed N]
//! ```
//!
//! The file has the columns of the data set `nycflights13`. Without `--into` the totals go into a SQLite file in a temporary folder.

#![allow(clippy::print_stdout, reason = "programs that say what they did")]

mod shared;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use oncelog::inbox::{
    Consumer, Delivery, Handler, HandlerError, PgInbox, PgOptions, PgTx, SqliteInbox, Summary,
    sqlite_effect,
};
use oncelog::{Ack, Engine, Record, TopicConfig};

const TABLE: &str = "create table if not exists carrier
    (name text primary key, flights bigint not null, minutes bigint not null)";
const ADD: &str = "insert into carrier (name, flights, minutes) values ($1, 1, $2)
    on conflict (name) do update set flights = carrier.flights + 1, minutes = carrier.minutes + excluded.minutes";
const TOTALS: &str = "select name, flights, minutes from carrier";

/// Flights in a transaction, at most.
const BATCH: usize = 500;

/// Flights and minutes by carrier.
type Totals = BTreeMap<String, (i64, i64)>;

/// A line of the file.
struct Flight {
    biz_id: String,
    carrier: String,
    /// 0 where it never arrived.
    minutes: i64,
}

impl Flight {
    /// By the places of the columns.
    fn parse(line: &str) -> Option<Flight> {
        let column: Vec<&str> = line.split(',').collect();
        let [
            year,
            month,
            day,
            _,
            scheduled,
            _,
            _,
            _,
            late,
            carrier,
            flight,
            _,
            origin,
            ..,
        ] = column[..]
        else {
            return None;
        };
        Some(Flight {
            biz_id: [year, month, day, carrier, flight, origin, scheduled].join("-"),
            carrier: carrier.to_owned(),
            minutes: late.parse().unwrap_or(0),
        })
    }

    /// Of a record, whose value is a line.
    fn of(delivery: &Delivery) -> Result<Flight, HandlerError> {
        let line = std::str::from_utf8(delivery.payload()).ok();
        line.and_then(Flight::parse)
            .ok_or_else(|| HandlerError::Reject("not a line of flights".into()))
    }
}

/// Adds a flight in PostgreSQL.
struct Add;

impl Handler<PgTx> for Add {
    async fn handle(
        &self,
        tx: &mut PgTx,
        delivery: &Delivery,
    ) -> Result<Option<Bytes>, HandlerError> {
        let flight = Flight::of(delivery)?;
        tx.execute(ADD, &[&flight.carrier, &flight.minutes])
            .await
            .map_err(|_| HandlerError::Retry { after: None })?;
        Ok(None)
    }
}

struct Options {
    file: PathBuf,
    into: Option<String>,
    kills: u32,
    records: usize,
    seed: u64,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
        let file = arguments
            .next()
            .context("which file? flights.csv or flights.csv.gz")?;
        let mut options = Options {
            file: file.into(),
            into: None,
            kills: 20,
            records: usize::MAX,
            seed: 1,
        };
        while let Some(option) = arguments.next() {
            let value = arguments
                .next()
                .with_context(|| format!("{option} needs a value"))?;
            match option.as_str() {
                "--into" => options.into = Some(value),
                "--kills" => options.kills = value.parse().context("--kills")?,
                "--records" => options.records = value.parse().context("--records")?,
                "--seed" => options.seed = value.parse().context("--seed")?,
                other => bail!("no option {other}: --into, --kills, --records, --seed"),
            }
        }
        Ok(options)
    }

    fn lines(&self) -> Result<Vec<String>> {
        let file = File::open(&self.file).with_context(|| self.file.display().to_string())?;
        let is_packed = self.file.extension().is_some_and(|end| end == "gz");
        let text: Box<dyn Read> = match is_packed {
            true => Box::new(flate2::read::MultiGzDecoder::new(file)),
            false => Box::new(file),
        };
        let lines = BufReader::new(text).lines().skip(1).take(self.records);
        Ok(lines.collect::<Result<_, _>>()?)
    }
}

fn config() -> TopicConfig {
    TopicConfig::default().with_ack(Ack::Memory)
}

/// Publishes all lines, by a producer of its own.
async fn publish(engine: &Engine, lines: &[String]) -> Result<()> {
    let producer = engine.producer().open()?;
    println!(
        "producer {} publishes {} flights",
        producer.identity().0,
        lines.len()
    );
    for line in lines {
        let flight = Flight::parse(line).with_context(|| format!("not a flight: {line}"))?;
        let record = Record::to("flights")
            .key(&flight.carrier)
            .value(line)
            .biz_id(&flight.biz_id);
        producer.send(record).await?;
    }
    producer.flush().await?;
    Ok(())
}

/// Consumes all that is there. It may be killed at any moment.
async fn consume(directory: &Path, into: Option<&str>) -> Result<Summary> {
    let engine = Engine::open(directory.join("log"))?;
    let group = || engine.group("totals").topic("flights");
    let end = shared::caught_up(engine.clone(), "totals");
    let summary = match into {
        Some(server) => {
            let inbox = PgInbox::connect(server, PgOptions::new()).await?;
            inbox.pool().get().await?.batch_execute(TABLE).await?;
            let consumer = Consumer::transactional(group(), inbox, Add).batch(BATCH);
            consumer.no_dead_letter().build()?.run(end).await?
        }
        None => {
            let inbox = SqliteInbox::open(directory.join("totals.db"))?;
            inbox.run(|sqlite| sqlite.execute_batch(TABLE)).await?;
            let add = sqlite_effect(|tx: &rusqlite::Transaction<'_>, delivery: &Delivery| {
                let flight = Flight::of(delivery)?;
                tx.prepare_cached(ADD)?
                    .execute((&flight.carrier, flight.minutes))?;
                Ok(())
            });
            let consumer = Consumer::transactional(group(), inbox, add).batch(BATCH);
            consumer.no_dead_letter().build()?.run(end).await?
        }
    };
    engine.close()?;
    Ok(summary)
}

async fn stored(directory: &Path, into: Option<&str>) -> Result<Totals> {
    let Some(server) = into else {
        let inbox = SqliteInbox::open(directory.join("totals.db"))?;
        let totals = inbox.run(|sqlite| {
            sqlite
                .prepare(TOTALS)?
                .query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?
                .collect()
        });
        return Ok(totals.await?);
    };
    let inbox = PgInbox::connect(server, PgOptions::new()).await?;
    let rows = inbox.pool().get().await?.query(TOTALS, &[]).await?;
    let total = |row: &tokio_postgres::Row| (row.get(0), (row.get(1), row.get(2)));
    Ok(rows.iter().map(total).collect())
}

/// What the file itself says; a flight that is in it twice counts once.
fn computed(lines: &[String]) -> Totals {
    let mut seen = HashSet::new();
    let mut totals = Totals::new();
    for flight in lines.iter().filter_map(|line| Flight::parse(line)) {
        if seen.insert(flight.biz_id) {
            let total = totals.entry(flight.carrier).or_default();
            *total = (total.0 + 1, total.1 + flight.minutes);
        }
    }
    totals
}

/// A process that consumes.
fn consumer(directory: &Path, into: Option<&str>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("consume").arg(directory).args(into);
    Ok(command)
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if_eq("consume").is_some() {
        let directory = PathBuf::from(arguments.next().context("which directory?")?);
        let summary = consume(&directory, arguments.next().as_deref()).await?;
        println!(
            "the last consumer: {} flights added, {} came again in another record, {} were delivered again",
            summary.done, summary.republications, summary.redeliveries
        );
        return Ok(());
    }
    let options = Options::parse(arguments)?;
    let directory = tempfile::tempdir()?;
    let lines = options.lines()?;
    let engine = Engine::open(directory.path().join("log"))?;
    engine.create_topic("flights", 4, config())?;
    for _ in 0..2 {
        publish(&engine, &lines).await?;
    }
    engine.close()?;

    let into = options.into.as_deref();
    let begun = Instant::now();
    let mut random = options.seed;
    let mut killed = 0;
    while killed < options.kills {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let pause = Duration::from_millis(100 + (random >> 33) % 900);
        let mut child = consumer(directory.path(), into)?
            .stdout(Stdio::null())
            .spawn()?;
        std::thread::sleep(pause);
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "a consumer failed: {status}");
            break;
        }
        child.kill()?;
        child.wait()?;
        killed += 1;
    }
    let status = consumer(directory.path(), into)?.status()?;
    ensure!(status.success(), "the consumer failed: {status}");

    let (expected, found) = (computed(&lines), stored(directory.path(), into).await?);
    println!("{:8}{:>9}{:>10}", "carrier", "flights", "minutes");
    for (carrier, (flights, minutes)) in &found {
        println!("{carrier:8}{flights:>9}{minutes:>10}");
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} records, {killed} consumers killed, {seconds:.1} s",
        2 * lines.len()
    );
    ensure!(
        killed == options.kills,
        "the others came too late: --kills {killed}"
    );
    ensure!(found == expected, "the file says {expected:?}");
    println!("the same as in the file");
    Ok(())
}
