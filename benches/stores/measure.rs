//! Sides that take turns, medians, and the tables.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

pub(crate) const AT_ONCE: [u64; 3] = [1, 8, 64];

#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) ids: u64,
    pub(crate) rounds: u64,
}

impl Sizes {
    /// For a store that is so much faster.
    pub(crate) fn times(self, factor: u64) -> Sizes {
        let ids = self.ids * factor;
        Sizes { ids, ..self }
    }
}

/// What one side has to do: so many ids, of a number that no other run has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) number: u64,
    pub(crate) ids: u64,
    pub(crate) at_once: u64,
}

impl Run {
    pub(crate) fn new(ids: u64, at_once: u64) -> Run {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Run {
            number,
            ids,
            at_once,
        }
    }

    pub(crate) fn id(&self, number: u64) -> String {
        format!("order-{:05}-{number:020}", self.number)
    }

    /// The ids of one of the tasks that work at once.
    pub(crate) fn of_task(&self, task: u64) -> impl Iterator<Item = u64> + use<> {
        (task..self.ids).step_by(usize::try_from(self.at_once).unwrap())
    }

    /// The ids of each transaction.
    pub(crate) fn transactions(&self) -> impl Iterator<Item = std::ops::Range<u64>> + use<> {
        let (ids, at_once) = (self.ids, self.at_once);
        let firsts = (0..ids).step_by(usize::try_from(at_once).unwrap());
        firsts.map(move |first| first..ids.min(first + at_once))
    }

    /// One task for each id at once.
    pub(crate) async fn at_once<F: Future<Output = ()> + Send + 'static>(
        &self,
        task: impl Fn(u64) -> F,
    ) {
        let tasks: Vec<_> = (0..self.at_once).map(|n| tokio::spawn(task(n))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    }
}

/// One side.
pub(crate) type Work<'a> = Box<dyn Fn(Run) -> Pin<Box<dyn Future<Output = ()> + 'a>> + 'a>;

pub(crate) fn work<'a, F: Future<Output = ()> + 'a>(side: impl Fn(Run) -> F + 'a) -> Work<'a> {
    Box::new(move |run| Box::pin(side(run)))
}

/// What is measured together.
#[derive(Default)]
pub(crate) struct Sides<'a> {
    pub(crate) ours: Option<Work<'a>>,
    pub(crate) bare: Option<Work<'a>>,
    pub(crate) by_hand: Option<Work<'a>>,
}

pub(crate) fn heads() {
    println!(
        "{:12}{:10}{:>5}{:>12}{:>12}{:>11}{:>12}{:>11}",
        "store", "", "", "ids/s", "bare", "of it", "by hand", "of it"
    );
}

/// Measures the sides in turns and shows a line for each number of ids at once.
pub(crate) async fn compare(store: &str, what: &str, sizes: Sizes, sides: Sides<'_>) {
    let sides = [sides.bare, sides.by_hand, sides.ours];
    for at_once in AT_ONCE {
        let mut rates = [const { Vec::new() }; 3];
        for round in 0..=sizes.rounds {
            for (side, rates) in sides.iter().zip(&mut rates) {
                let Some(side) = side else { continue };
                let run = Run::new(sizes.ids, at_once);
                let begun = Instant::now();
                side(run).await;
                // The first round is for caches.
                if round > 0 {
                    rates.push(run.ids as f64 / begun.elapsed().as_secs_f64());
                }
            }
        }
        let [bare, by_hand, ours] = rates;
        let beside = |side: &[f64]| match side.is_empty() {
            true => format!("{:>23}", ""),
            false => {
                let ratios = ours
                    .iter()
                    .zip(side)
                    .map(|(ours, side)| 100.0 * ours / side);
                format!(
                    "{:>12.0}{:>9.0} %",
                    median(side),
                    median(&ratios.collect::<Vec<_>>())
                )
            }
        };
        println!(
            "{store:12}{what:10}{at_once:>5}{:>12.0}{}{}",
            median(&ours),
            beside(&bare),
            beside(&by_hand)
        );
    }
}

fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// Bytes of an id.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) store: &'static str,
    pub(crate) memory: Option<u64>,
    pub(crate) disk: Option<u64>,
    pub(crate) how: &'static str,
}

pub(crate) fn show_space(all: &[Space]) {
    println!("\n{:12}{:>12}{:>12}", "bytes an id", "memory", "disk");
    let cell = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
    for space in all {
        let (memory, disk) = (cell(space.memory), cell(space.disk));
        println!("{:12}{memory:>12}{disk:>12}   {}", space.store, space.how);
    }
}
