//! What the demo of consumers says in the end.

use std::time::Duration;

use serde_json::{Value, json};

use super::Sum;
use super::drive::Counts;
use crate::args::{Common, Store};
use crate::exit::Stop;
use crate::output::{Out, counted, grouped, table};

pub(super) struct Report {
    pub(super) store: Store,
    pub(super) seed: u64,
    pub(super) orders: u64,
    pub(super) republished: u64,
    pub(super) main: (Counts, Sum),
    pub(super) naive: (Counts, Sum),
    pub(super) elapsed: Duration,
}

impl Report {
    pub(super) fn print(&self, common: &Common) -> anyhow::Result<()> {
        let mut out = Out::new();
        if common.json {
            out.json(&self.json()?)?;
            return out.flush();
        }
        let heads = [
            "",
            "orders",
            "delivered",
            "again",
            "acks lost",
            "crashes",
            "effects",
            "lost",
            "doubled",
        ];
        let rows = [self.row("inbox", self.main), self.row("naive", self.naive)];
        out.bytes(table(heads, &rows).as_bytes())?;
        out.line("")?;
        let elapsed_ms = u64::try_from(self.elapsed.as_millis())?;
        let (_, sum) = self.main;
        out.line(&format!(
            "{}, {} published again by other producers, ids {}, seed {}: each effect {}, in {}.{} s",
            counted(self.orders, "order"),
            grouped(self.republished),
            self.store.of(),
            self.seed,
            match sum.lost + sum.duplicated {
                0 => "once".to_owned(),
                wrong => format!("once but {wrong}"),
            },
            elapsed_ms / 1_000,
            elapsed_ms % 1_000 / 100
        ))?;
        out.line("naive: effect, then acknowledgement; does not ask whether it did it before")?;
        out.flush()
    }

    fn row(&self, name: &str, (counts, sum): (Counts, Sum)) -> [String; 9] {
        let numbers = [
            self.orders,
            counts.delivered,
            counts.redelivered,
            counts.lost_acks,
            counts.crashes,
            sum.effects,
            sum.lost,
            sum.duplicated,
        ];
        let [a, b, c, d, e, f, g, h] = numbers.map(grouped);
        [name.to_owned(), a, b, c, d, e, f, g, h]
    }

    fn json(&self) -> anyhow::Result<Value> {
        let mut report = fields(self.main);
        report["orders"] = json!(self.orders);
        report["republished"] = json!(self.republished);
        report["naive_effects_duplicated"] = json!(self.naive.1.duplicated);
        report["naive"] = fields(self.naive);
        report["store"] = json!(self.store.of());
        report["seed"] = json!(self.seed);
        report["elapsed_ms"] = json!(u64::try_from(self.elapsed.as_millis())?);
        Ok(report)
    }

    pub(super) fn judge(&self) -> anyhow::Result<()> {
        let (_, sum) = self.main;
        if sum.lost + sum.duplicated > 0 {
            let text = format!(
                "{} lost, {} doubled",
                counted(sum.lost, "effect"),
                sum.duplicated
            );
            return Err(Stop::Failed(text).into());
        }
        Ok(())
    }
}

fn fields((counts, sum): (Counts, Sum)) -> Value {
    json!({
        "delivered": counts.delivered,
        "redelivered": counts.redelivered,
        "lost_acks": counts.lost_acks,
        "consumer_crashes": counts.crashes,
        "effects": sum.effects,
        "effects_lost": sum.lost,
        "effects_duplicated": sum.duplicated,
    })
}
