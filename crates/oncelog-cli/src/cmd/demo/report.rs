//! What the demo says in the end.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Outcome;
use crate::args::{Common, Demo};
use crate::exit::Stop;
use crate::interrupt::Interrupt;
use crate::output::{Out, counted, grouped, table};

pub(super) struct Report<'a> {
    pub(super) args: &'a Demo,
    pub(super) records: u64,
    pub(super) seed: u64,
    pub(super) main: Outcome,
    /// The same without idempotence and names, unless that is what was asked for.
    pub(super) naive: Option<Outcome>,
    pub(super) elapsed: Duration,
}

impl Report<'_> {
    pub(super) fn print(&self, common: &Common) -> anyhow::Result<()> {
        let mut out = Out::new();
        if common.json {
            out.json(&self.json()?)?;
        } else {
            let heads = ["", "sent", "resent", "stored", "duplicated", "lost"];
            let naive = self.naive.as_ref().map(|naive| row("naive", naive));
            let main = match self.args.no_idempotence {
                true => row("naive", &self.main),
                false => row("oncelog", &self.main),
            };
            let rows: Vec<_> = [Some(main), naive].into_iter().flatten().collect();
            out.bytes(table(heads, &rows).as_bytes())?;
            out.line("")?;
            for line in self.lines()? {
                out.line(&line)?;
            }
        }
        out.flush()
    }

    fn json(&self) -> anyhow::Result<Map<String, Value>> {
        let mut fields = counts(&self.main);
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        put("seed", json!(self.seed));
        put(
            "elapsed_ms",
            json!(u64::try_from(self.elapsed.as_millis())?),
        );
        if let Some(naive) = &self.naive {
            put("naive", Value::Object(counts(naive)));
        }
        Ok(fields)
    }

    fn lines(&self) -> anyhow::Result<Vec<String>> {
        let (args, main) = (self.args, &self.main);
        let elapsed_ms = u64::try_from(self.elapsed.as_millis())?;
        let about = format!(
            "{}, {} % of the acknowledgements lost, {}, seed {}: duplicated {}, lost {}, in {}.{} s",
            counted(args.producers.into(), "producer"),
            // As it was typed: 0.07 is 7 %, not 7.000000000000001.
            (args.lost_ack * 1e6).round() / 1e4,
            counted(main.sent.restarts, "restart"),
            self.seed,
            main.duplicated(),
            main.lost(),
            elapsed_ms / 1_000,
            elapsed_ms % 1_000 / 100
        );
        let naive = "naive: no idempotence, no names; who restarts sends again what it knows no \
                     answer of"
            .to_owned();
        Ok(match (&self.naive, args.no_idempotence) {
            (None, false) => vec![about],
            _ => vec![about, naive],
        })
    }

    pub(super) fn judge(&self, interrupt: &Interrupt) -> anyhow::Result<()> {
        let main = &self.main;
        if let Some(violation) = &main.verdict.violation {
            return Err(Stop::Failed(violation.clone()).into());
        }
        if main.lost() > 0 {
            return Err(Stop::Failed(format!("{} records were lost", main.lost())).into());
        }
        let is_whole =
            main.sent.handed == self.records && (self.args.no_idempotence || self.naive.is_some());
        if interrupt.asked() && !is_whole {
            return Err(Stop::Interrupted.into());
        }
        Ok(())
    }
}

fn row(name: &str, outcome: &Outcome) -> [String; 6] {
    let numbers = [
        outcome.sent.handed,
        outcome.sent.retransmitted,
        outcome.verdict.stored,
        outcome.duplicated(),
        outcome.lost(),
    ];
    let [sent, resent, stored, duplicated, lost] = numbers.map(grouped);
    [name.to_owned(), sent, resent, stored, duplicated, lost]
}

fn counts(outcome: &Outcome) -> Map<String, Value> {
    let counts = [
        ("sent", outcome.sent.handed),
        ("retransmitted", outcome.sent.retransmitted),
        ("restarts", outcome.sent.restarts),
        ("stored", outcome.verdict.stored),
        ("unique", outcome.verdict.unique),
        ("duplicated", outcome.duplicated()),
        ("lost", outcome.lost()),
        ("duplicates_answered", outcome.sent.duplicates_answered),
    ];
    let counts = counts.into_iter();
    counts
        .map(|(name, n)| (name.to_owned(), json!(n)))
        .collect()
}
