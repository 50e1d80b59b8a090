//! Ids are forgotten while the consumer runs: below the log's own starts, and behind the time in which their facts may be published again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use log_engine::{ConsumedRecord, Engine, Partition, Start};
use parking_lot::Mutex;
use tokio::time::sleep;

use super::job::{Shared, Work};
use super::metrics::count;
use super::retry::Retry;
use crate::clock::millis;
use crate::dedup_store::Horizon;
use crate::identity::Scope;

/// Ids that are forgotten in one step of the store.
const AT_ONCE: usize = 1_000;

/// The window, unless set, or needed longer.
const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// When to forget.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forgetting {
    pub(crate) window: Option<Duration>,
    /// The longest time for which a producer sends one record again and again.
    pub(crate) producer_retry: Duration,
    pub(crate) every: Duration,
}

impl Default for Forgetting {
    fn default() -> Forgetting {
        Forgetting {
            window: None,
            producer_retry: Duration::from_secs(120),
            every: Duration::from_secs(60),
        }
    }
}

impl Forgetting {
    /// The shortest window, ms: that long may a fact be on its way in two records, or in two deliveries.
    pub(crate) fn least_ms(&self, visibility: Duration, retry: &Retry) -> u64 {
        let deliveries = millis(visibility).saturating_mul(u64::from(retry.attempts));
        let pauses = retry.pauses_ms();
        deliveries
            .saturating_add(pauses)
            .saturating_add(millis(self.producer_retry))
    }

    pub(crate) fn window(&self, least_ms: u64) -> Duration {
        self.window
            .unwrap_or_else(|| WINDOW.max(Duration::from_millis(least_ms)))
    }
}

/// The scenarios of what was delivered.
#[derive(Debug, Default)]
pub(crate) struct Scenarios(Mutex<BTreeSet<Arc<str>>>);

impl Scenarios {
    pub(crate) fn note(&self, scenario: &str) {
        let mut seen = self.0.lock();
        if !seen.contains(scenario) {
            seen.insert(scenario.into());
        }
    }

    fn with(&self, topics: impl Iterator<Item = Arc<str>>) -> BTreeSet<Arc<str>> {
        let seen = self.0.lock().clone();
        seen.into_iter().chain(topics).collect()
    }
}

/// Why nothing is forgotten this time.
type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What the log says: where its partitions begin, and how old is what is still to be consumed.
struct LogView {
    starts: BTreeMap<(Arc<str>, u32), u64>,
    before_ms: u64,
}

async fn read(
    engine: &Engine,
    topic: &str,
    partition: u32,
    offset: u64,
) -> Result<Option<ConsumedRecord>, Failed> {
    let reader = engine.reader(topic).partition(partition);
    let mut reader = reader.start(Start::Offset(offset)).max_bytes(1).open()?;
    Ok(reader.next().await.transpose()?)
}

// The first one there is.
async fn first(
    engine: &Engine,
    topic: &str,
    partition: &Partition,
    number: u32,
) -> Result<Option<ConsumedRecord>, Failed> {
    let (start, end) = (partition.log_start_offset(), partition.high_watermark());
    match start < end {
        true => read(engine, topic, number, start).await,
        false => Ok(None),
    }
}

fn since_1970(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}

impl LogView {
    // By the times in the log: the clock of this host may be any. Where all is consumed, the newest record of the group's topics
    // says what time it is: what comes next is not older.
    async fn of(engine: &Engine, group: &str) -> Result<LogView, Failed> {
        let described = engine.groups()?.into_iter().find(|g| g.group == group);
        let known = described.map(|group| group.partitions).unwrap_or_default();
        let position = |topic: &str, number| {
            let mut known = known.iter();
            let one = known.find(|p| p.topic == topic && p.partition == number);
            one.and_then(|one| one.position)
        };
        let topics: BTreeSet<&str> = known.iter().map(|p| p.topic.as_str()).collect();
        let mut starts = BTreeMap::new();
        let (mut oldest, mut newest) = (None::<u64>, 0);
        for name in topics {
            let Ok(topic) = engine.topic(name) else {
                // Deleted: its ids stay, as its partitions are not named.
                continue;
            };
            for number in 0..topic.partitions() {
                let partition = topic.partition(number)?;
                let start = partition.log_start_offset();
                let end = partition.high_watermark();
                starts.insert((Arc::from(name), number), start);
                let next = position(name, number).unwrap_or(start).max(start);
                if next < end {
                    // None: a gap up to the end, which a crash left.
                    if let Some(record) = read(engine, name, number, next).await? {
                        let ms = since_1970(record.origin_ms().min(record.timestamp()));
                        oldest = Some(oldest.map_or(ms, |oldest| oldest.min(ms)));
                    }
                } else if start < end
                    && let Some(record) = read(engine, name, number, end - 1).await?
                {
                    newest = newest.max(since_1970(record.timestamp()));
                }
            }
        }
        let before_ms = oldest.unwrap_or(newest);
        Ok(LogView { starts, before_ms })
    }
}

// How old parked ids must be, so that their dead letters are gone; none if that is not known.
async fn parked_longer_than<W: Work>(
    work: &W,
    shared: &Shared,
    window: Duration,
) -> Result<Option<Duration>, Failed> {
    if work.has_unsent() {
        return Ok(None);
    }
    let Some(name) = &shared.settings.dead_letter else {
        return Ok(Some(window));
    };
    let Ok(topic) = shared.engine.topic(name) else {
        return Ok(Some(window));
    };
    let mut oldest = None::<i64>;
    for number in 0..topic.partitions() {
        let partition = topic.partition(number)?;
        if let Some(letter) = first(&shared.engine, name, &partition, number).await? {
            let ms = letter.timestamp();
            oldest = Some(oldest.map_or(ms, |oldest| oldest.min(ms)));
        }
    }
    // A letter is younger than the mark on its id, by no more than the window.
    let age_ms = oldest.map_or(0, |ms| shared.clock.wall_ms().saturating_sub(ms));
    let age = Duration::from_millis(since_1970(age_ms));
    Ok(Some(window.saturating_add(age)))
}

/// Forgets what there is to forget now.
async fn sweep<W: Work>(work: &W, shared: &Shared, group: &Arc<str>) -> Result<(), Failed> {
    let began_ms = shared.clock.elapsed_ms();
    let window = shared.window;
    let log = LogView::of(&shared.engine, group).await?;
    // Producers may set times themselves: those that are behind by less than the window are not refused, and those ahead
    // raise no floor above them.
    let now_ms = since_1970(shared.clock.wall_ms());
    let before_ms = log.before_ms.min(now_ms.saturating_sub(millis(window)));
    let parked_longer_than = parked_longer_than(work, shared, window).await?;
    let topics = log.starts.keys().map(|(topic, _)| topic.clone());
    for scenario in shared.scenarios.with(topics) {
        let below = Horizon {
            scope: Scope::new(group.clone(), scenario),
            log_starts: log.starts.clone(),
            republish_window: window,
            origin_before_ms: before_ms,
            parked_longer_than,
        };
        loop {
            let swept = work.sweep(&below, AT_ONCE).await?;
            shared.metrics.add_swept(swept);
            if swept < AT_ONCE {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    shared.metrics.live.swept(began_ms);
    shared.metrics.live.set_ids(work.ids().await?);
    Ok(())
}

/// Forgets now and then, as long as it is polled. What fails is tried again the next time.
pub(crate) async fn forgetting<W: Work>(work: Arc<W>, shared: Arc<Shared>, group: Arc<str>) {
    // Whether it is known or not is no reason to stop.
    shared
        .metrics
        .live
        .set_ids(work.ids().await.unwrap_or(None));
    loop {
        sleep(shared.settings.forgetting.every).await;
        if sweep(&*work, &shared, &group).await.is_err() {
            count(&shared.metrics.sweep_failures);
        }
    }
}
