//! Median and range of a handful of measurements.

/// Numbers in the order of their size.
pub(crate) struct Summary(Vec<f64>);

impl Summary {
    /// Takes at least one number.
    pub(crate) fn of(mut numbers: Vec<f64>) -> Summary {
        numbers.sort_unstable_by(f64::total_cmp);
        Summary(numbers)
    }

    pub(crate) fn median(&self) -> f64 {
        self.at(50)
    }

    pub(crate) fn min(&self) -> f64 {
        self.at(0)
    }

    pub(crate) fn max(&self) -> f64 {
        self.at(100)
    }

    /// The number below which `percent` of them lie, 0 to 100; NaN of no numbers.
    pub(crate) fn at(&self, percent: usize) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0
            .get(last * percent / 100)
            .copied()
            .unwrap_or(f64::NAN)
    }
}
