//! Who gets which partition: as evenly as the subscriptions allow, and with as few moves as that
//! takes. Pure, and the same for the same input.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::state::Key;

/// What each member subscribes to, by member id.
pub(crate) type Subscriptions = BTreeMap<u64, BTreeSet<Arc<str>>>;

/// The owner of each partition that anybody subscribes to. `present` is who has it now; an owner
/// that is no member, or does not subscribe any more, does not count.
pub(crate) fn assign(
    partitions: &BTreeSet<Key>,
    members: &Subscriptions,
    present: impl Fn(&Key) -> Option<u64>,
) -> BTreeMap<Key, u64> {
    let subscribes = |member: u64, key: &Key| {
        members
            .get(&member)
            .is_some_and(|topics| topics.contains(&key.0))
    };
    let mut owners = BTreeMap::new();
    let mut loads: BTreeMap<u64, usize> = members.keys().map(|member| (*member, 0)).collect();
    for key in partitions {
        if let Some(member) = present(key).filter(|member| subscribes(*member, key)) {
            owners.insert(key.clone(), member);
            *loads.entry(member).or_default() += 1;
        }
    }
    let least = |loads: &BTreeMap<u64, usize>, key: &Key| {
        let eligible = loads.iter().filter(|(member, _)| subscribes(**member, key));
        eligible
            .map(|(member, load)| (*load, *member))
            .min()
            .map(|(load, member)| (member, load))
    };
    for key in partitions {
        if !owners.contains_key(key)
            && let Some((member, _)) = least(&loads, key)
        {
            owners.insert(key.clone(), member);
            *loads.entry(member).or_default() += 1;
        }
    }
    // Each move makes the loads more even, so this ends.
    loop {
        let mut has_moved = false;
        for (key, owner) in &mut owners {
            let load = loads.get(owner).copied().unwrap_or(0);
            if let Some((member, least)) = least(&loads, key)
                && load > least + 1
            {
                loads.entry(*owner).and_modify(|load| *load -= 1);
                *loads.entry(member).or_default() += 1;
                *owner = member;
                has_moved = true;
            }
        }
        if !has_moved {
            return owners;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(topic: &str, count: u32) -> BTreeSet<Key> {
        (0..count).map(|p| (topic.into(), p)).collect()
    }

    fn members(of: &[(u64, &[&str])]) -> Subscriptions {
        let topics = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect();
        of.iter().map(|(id, names)| (*id, topics(names))).collect()
    }

    fn loads(owners: &BTreeMap<Key, u64>) -> BTreeMap<u64, usize> {
        let mut loads = BTreeMap::new();
        for owner in owners.values() {
            *loads.entry(*owner).or_default() += 1;
        }
        loads
    }

    #[test]
    fn partitions_are_spread_evenly() {
        let three = members(&[(1, &["a"]), (2, &["a"]), (3, &["a"])]);
        let owners = assign(&partitions("a", 8), &three, |_| None);
        let loads: Vec<_> = loads(&owners).into_values().collect();
        assert_eq!(loads, [3, 3, 2]);
    }

    #[test]
    fn a_new_member_takes_no_more_than_its_share_and_the_others_keep_theirs() {
        let all = partitions("a", 9);
        let two = members(&[(1, &["a"]), (2, &["a"])]);
        let before = assign(&all, &two, |_| None);
        let three = members(&[(1, &["a"]), (2, &["a"]), (3, &["a"])]);
        let after = assign(&all, &three, |key| before.get(key).copied());
        let moved: Vec<_> = all.iter().filter(|k| before[*k] != after[*k]).collect();
        assert_eq!(moved.len(), 3);
        assert!(moved.iter().all(|key| after[*key] == 3));
        // And when it leaves, only what it had moves.
        let back = assign(&all, &two, |key| after.get(key).copied());
        assert!(
            all.iter()
                .all(|key| after[key] == 3 || after[key] == back[key])
        );
    }

    #[test]
    fn nobody_gets_what_it_did_not_subscribe_to() {
        let mut all = partitions("a", 4);
        all.extend(partitions("b", 4));
        all.extend(partitions("c", 1));
        let two = members(&[(1, &["a"]), (2, &["a", "b"])]);
        let owners = assign(&all, &two, |_| Some(1));
        assert!(owners.iter().all(|(key, owner)| match &*key.0 {
            "a" => *owner == 1,
            "b" => *owner == 2,
            _ => false,
        }));
        assert_eq!(owners.len(), 8);
    }
}
