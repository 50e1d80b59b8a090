//! What the examples share.

use std::time::Duration;

use oncelog::Engine;

/// Ready once the group has acknowledged all that is there.
pub(crate) async fn caught_up(engine: Engine, group: &'static str) {
    let mut look = tokio::time::interval(Duration::from_millis(20));
    loop {
        look.tick().await;
        let groups = engine.groups().unwrap_or_default();
        let Some(found) = groups.into_iter().find(|found| found.group == group) else {
            continue;
        };
        if !found.partitions.is_empty() && found.partitions.iter().all(|part| part.lag == 0) {
            return;
        }
    }
}
