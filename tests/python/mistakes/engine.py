"""In what is known of producers, and in the engine."""

from .kinds import BUDGET, Mistake, PRODUCERS, RESTARTS, SIMULATOR

MISTAKES = [
    Mistake(
        "snapshot-unsynced",
        "I18",
        [
            (
                "partition-log/src/snapshot.rs",
                "state_file::write(&*place.disk, &place.directory, &name, MAGIC, VERSION, &file)",
                "state_file::write_cache(&*place.disk, &place.directory, &name, MAGIC, VERSION, &file)",
            )
        ],
        [(SIMULATOR, r"I(1|2|3|6|18) ")],
    ),
    Mistake(
        "window-of-four",
        "I5",
        [
            (
                "partition-log/src/producers.rs",
                "window: config.window.clamp(5, 65_536),",
                "window: config.window.clamp(5, 65_536) - 1,",
            )
        ],
        [
            (SIMULATOR, r"I6 .*OutOfOrder\), allowed: \[Duplicate"),
            (
                RESTARTS,
                "an answer got lost, and the next try was refused: .* it lies before the batches"
                " remembered here",
            ),
        ],
    ),
    Mistake(
        "sequence-wraps-to-one",
        "I3",
        [
            (
                "partition-log/src/sequence.rs",
                "Sequence::wrap(self.0.cast_unsigned().wrapping_add(delta))",
                """{
            let next = self.0.cast_unsigned().wrapping_add(delta);
            Sequence::wrap(if next < Sequence::COUNT { next } else { next.wrapping_add(1) })
        }""",
            )
        ],
        [(PRODUCERS, r"wrap.* \.\.\. FAILED")],
    ),
    Mistake(
        "known-before-written",
        "I5",
        [
            (
                "partition-log/src/log.rs",
                """                let offset = self.write(batch, now)?;
                self.producers
                    .apply(fresh, batch.header(), fingerprint, offset, now.elapsed_ms);
""",
                """                let offset = self.segments.next_offset();
                self.producers
                    .apply(fresh, batch.header(), fingerprint, offset, now.elapsed_ms);
                self.write(batch, now)?;
""",
            )
        ],
        [(SIMULATOR, r"I5 .*Duplicate\(\d+\), allowed: \[Append")],
    ),
    Mistake(
        "eviction-forgets",
        "I18",
        [
            (
                "partition-log/src/spill/spiller.rs",
                "                        log.spill.set(line.producer_id, *location);\n",
                "                        let _ = location;\n",
            )
        ],
        [(SIMULATOR, r"I(2|3|6) "), (BUDGET, r"\.\.\. FAILED")],
    ),
    Mistake(
        "expiry-is-silent",
        "I18",
        [
            (
                "partition-log/src/producers.rs",
                "            self.raise_forgotten_below(line.producer_id);\n",
                "",
            )
        ],
        [(SIMULATOR, r"I(2|3) ")],
    ),
    Mistake(
        "acked-before-the-sync",
        "I1",
        [
            (
                "log-engine/src/committer.rs",
                """        item.sync()?;
        let Some(mut log)""",
                "        let Some(mut log)",
            ),
            (
                "log-engine/src/committer.rs",
                """        partition.ends.wake();
        if write_mark(partition, |log| log.mark_after(&item))?.is_some() {
            note_mark""",
                """        partition.ends.wake();
        item.sync()?;
        if write_mark(partition, |log| log.mark_after(&item))?.is_some() {
            note_mark""",
            ),
        ],
        [(SIMULATOR, r"I1 ")],
    ),
    Mistake(
        "failed-sync-tried-again",
        "I10",
        [
            (
                "log-engine/src/committer.rs",
                """    if let Err(error) = outcome {
        fence(partition, "sync", &error);
    }""",
                """    if outcome.is_err() {
        partition.turn.sync_all.store(true, Ordering::Release);
    }""",
            )
        ],
        [(SIMULATOR, r"I(1|20|24) ")],
    ),
    Mistake(
        "mark-before-its-data",
        "I24",
        [
            (
                "log-engine/src/committer.rs",
                """        item.sync()?;
        let Some(mut log)""",
                """        if let Some(log) = partition.log()
            && let Some(mark) = log.segments().mark_after(&item)
        {
            log.segments().marks().write_mark(&mark)?;
        }
        item.sync()?;
        let Some(mut log)""",
            )
        ],
        [(SIMULATOR, r"I(20|24|28) ")],
    ),
    Mistake(
        "shown-before-the-ceiling-is-durable",
        "I9",
        [
            (
                "log-engine/src/committer.rs",
                "    marks.store_ceiling(ceiling)?;\n",
                "    marks.write_ceiling(ceiling)?;\n",
            )
        ],
        [(SIMULATOR, r"I9 ")],
    ),
    Mistake(
        "duplicate-answered-unsynced",
        "I1",
        [
            (
                "log-engine/src/partition.rs",
                "        if reached {\n",
                "        if reached || written.duplicate {\n",
            )
        ],
        [(SIMULATOR, r"I1 ")],
    ),
    Mistake(
        "time-by-the-wall-clock",
        "I31",
        [
            (
                "log-engine/src/env.rs",
                "            base_ms: clock.elapsed_ms(),\n",
                "            base_ms: u64::try_from(clock.wall_ms()).unwrap_or(0),\n",
            ),
            (
                "log-engine/src/env.rs",
                "let passed_ms = self.clock.elapsed_ms().saturating_sub(self.base_ms);",
                """let wall_ms = u64::try_from(self.clock.wall_ms()).unwrap_or(0);
        let passed_ms = wall_ms.saturating_sub(self.base_ms);""",
            ),
        ],
        [(SIMULATOR, r"I6 .*Forgotten")],
    ),
    Mistake(
        "new-ids-judged-as-old",
        "I6",
        [
            (
                "log-engine/src/topics.rs",
                "self.producer_ids.as_ref().map_or(0, PidAllocator::first)",
                "self.producer_ids.as_ref().map_or(0, PidAllocator::bound)",
            )
        ],
        [(SIMULATOR, r"I6 .*Refuse\(\w+\), allowed: \[Append\]")],
    ),
    Mistake(
        "half-made-directory-taken-over",
        "I22",
        [
            (
                "log-engine/src/topic_logs.rs",
                """                self.disk.remove_directory(&place.directory).map_err(fail)?;
                self.disk.create_directory(&place.directory).map_err(fail)?;
            }
            Marks""",
                "                continue;\n            }\n            Marks",
            )
        ],
        [(SIMULATOR, r"I(6|20|22|24) .*marks")],
    ),
    Mistake(
        "half-made-directory-in-the-way",
        "I12",
        [
            (
                "log-engine/src/topic_logs.rs",
                "                if !is_begun(&listed) || !self.is_ours(&place, &listed) {\n",
                "                if !listed.is_empty() {\n",
            )
        ],
        [(SIMULATOR, r"I12 ")],
    ),
    Mistake(
        "not-written-but-not-fenced",
        "I7",
        [
            (
                "log-engine/src/resolve.rs",
                """            log.producers_mut()
                .sources_mut()
                .fence(id.producer_id, epoch);
""",
                "            let _ = (&mut log, epoch);\n",
            )
        ],
        [(SIMULATOR, r"I(3|6|7) ")],
    ),
    Mistake(
        "retired-in-doubt",
        "I18",
        [
            (
                "log-engine/src/producer/closing.rs",
                "for lane in state.lanes.iter().filter(|lane| !lane.may_come_again()) {",
                "for lane in state.lanes.iter() {",
            )
        ],
        [(SIMULATOR, r"I(2|3|6) ")],
    ),
    Mistake(
        "taken-over-unfenced",
        "I43",
        [
            (
                "log-engine/src/producer/named.rs",
                "    log.producers_mut().sources_mut().fence(id, epoch);\n",
                "    let _ = epoch;\n",
            )
        ],
        [
            (SIMULATOR, r"I(2|3) "),
            (RESTARTS, r"Line .* is at .*, and (again|was) at "),
        ],
    ),
    Mistake(
        "position-with-the-next-batch",
        "I2",
        [
            (
                "log-engine/src/producer/lane.rs",
                "    may_come_again: bool,\n    filling:",
                "    may_come_again: bool,\n    position_before: Option<u64>,\n    filling:",
            ),
            (
                "log-engine/src/producer/lane.rs",
                "            may_come_again: false,\n",
                "            may_come_again: false,\n            position_before: None,\n",
            ),
            (
                "log-engine/src/producer/lane.rs",
                "        if let Some(last) = filling.last_position {\n",
                """        let before = std::mem::replace(&mut self.position_before, filling.last_position);
        if let Some(last) = before {
""",
            ),
        ],
        [
            (SIMULATOR, r"I2 "),
            (RESTARTS, r"Line .* is at .*, and (again|was) at "),
        ],
    ),
]
