//! A consumer that does not ask: effect, then acknowledgement.

use oncelog::{Delivery, Member};

use super::Effects;
use super::drive::{Act, Point};

pub(super) struct Naive {
    /// Wherever effects go: they outlive the consumer.
    effects: Effects,
}

impl Naive {
    pub(super) fn new(effects: Effects) -> Naive {
        Naive { effects }
    }

    pub(super) fn effects(&self) -> &Effects {
        &self.effects
    }
}

impl Act for Naive {
    fn begin(&mut self, _: &Member) -> anyhow::Result<()> {
        Ok(())
    }

    fn act(&mut self, batch: &[Delivery], death: Option<(usize, Point)>) -> anyhow::Result<()> {
        let end = match death {
            // It dies before the effect of that one.
            Some((at, Point::C0 | Point::C1)) => at,
            // Half an effect is one, too.
            Some((at, Point::C2 | Point::C3)) => at + 1,
            _ => batch.len(),
        };
        for delivery in &batch[..end.min(batch.len())] {
            let value = delivery.record().value();
            self.effects
                .add(value.map(|v| &v[..]).unwrap_or_default())?;
        }
        Ok(())
    }
}
