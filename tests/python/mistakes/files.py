"""In what is written to files and read back: batches, segments, marks, producer ids."""

from .kinds import BLOCKS, CODECS, DELETIONS, Mistake, SIMULATOR, SLOTS, STORAGE

MISTAKES = [
    Mistake(
        "decompression-limit-late",
        "I37",
        [
            (
                "record-batch/src/compression/sink.rs",
                """        self.reserve(bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
""",
                """        self.out.extend_from_slice(bytes);
        match self.content().len() > self.limit {
            true => Err(self.too_large()),
            false => Ok(()),
        }
""",
            )
        ],
        [(CODECS, r"bombs_are_refused_and_no_memory_beyond_the_limit_is_reserved \.\.\. FAILED")],
    ),
    Mistake(
        "base-offset-unchecked",
        "I22",
        [
            (
                "segment-storage/src/scan.rs",
                "if u64::try_from(header.base_offset) != Ok(self.expected_offset) {",
                "if header.base_offset < 0 {",
            )
        ],
        [(STORAGE, r"base offset")],
    ),
    Mistake(
        "failed-slots-count",
        "I10",
        [
            (
                "segment-storage/src/slot_file.rs",
                """            for known in self.writing.lock().iter_mut() {
                known.settled = known.writes;
            }
""",
                "",
            )
        ],
        [(SLOTS, r"what_a_failed_sync_lost_is_not_synced_by_the_next_one \.\.\. FAILED")],
    ),
    Mistake(
        "crc-unchecked",
        "I4",
        [
            (
                "segment-storage/src/recovery/scanned.rs",
                "file.len(), generations, Check::Crc)",
                "file.len(), generations, Check::Headers)",
            )
        ],
        [(SIMULATOR, r"I(4|20|22|24) ")],
    ),
    Mistake(
        "on-behind-a-bad-batch",
        "I22",
        [
            (
                "segment-storage/src/scan.rs",
                """            Batch::parse(self.buffered(position, position + bytes))
                .map_err(|e| invalid(e.into()))?;
""",
                """            if Batch::parse(self.buffered(position, position + bytes)).is_err() {
                self.expected_offset = u64::try_from(header.next_offset()).unwrap_or(0);
                self.position = position + bytes;
                return self.advance();
            }
""",
            )
        ],
        [(SIMULATOR, r"I(4|20|22|24) ")],
    ),
    Mistake(
        "hole-taken-for-a-jump",
        "I22",
        [
            (
                "segment-storage/src/recovery/adopt.rs",
                "let continues = |base: &u64| *base == end || self.is_jump(*base);",
                "let continues = |base: &u64| *base >= end;",
            )
        ],
        [(SIMULATOR, r"I22 ")],
    ),
    Mistake(
        "page-cache-believed",
        "I10",
        [
            (
                "segment-storage/src/recovery/scanned.rs",
                """            file.drop_cache()?;
            let generations""",
                "            let generations",
            )
        ],
        [(SIMULATOR, r"I(1|20|24) ")],
    ),
    Mistake(
        "torn-tail-stays",
        "I22",
        [
            (
                "segment-storage/src/recovery/scanned.rs",
                "            segment.cut().map_err(|e| fail(&self.place, e))?;\n",
                "",
            )
        ],
        [(SIMULATOR, r"I\d+ .*is damaged")],
    ),
    Mistake(
        "state-file-unsynced",
        "I20",
        [
            (
                "segment-storage/src/state_file.rs",
                "let filled = fill(&file).and_then(|()| file.sync());",
                "let filled = fill(&file);",
            )
        ],
        [(SIMULATOR, r"I(1|20|22|24) ")],
    ),
    Mistake(
        "segment-name-unsynced",
        "I1",
        [
            (
                "segment-storage/src/segment.rs",
                """            self.place.disk.sync_names(&self.place.directory)?;
            *prepared_name = None;
""",
                "            *prepared_name = None;\n",
            ),
            (
                "segment-storage/src/prepare.rs",
                "ready = ready.and_then(|()| self.place.disk.sync_names(&self.place.directory));",
                "",
            ),
        ],
        [(SIMULATOR, r"I(1|24) ")],
    ),
    Mistake(
        "failed-mark-tried-again",
        "I10",
        [
            (
                "segment-storage/src/prepare.rs",
                """            self.latch.close(&self.place.directory, "sync", &error);
""",
                "",
            )
        ],
        [(SIMULATOR, r"I(1|9|22) ")],
    ),
    Mistake(
        "clean-flag-stays",
        "I1",
        [
            (
                "segment-storage/src/prepare.rs",
                "        if mark.clean {\n",
                "        if mark.clean && self.resume.is_some() {\n",
            )
        ],
        [(SIMULATOR, r"I(1|9|22) ")],
    ),
    Mistake(
        "ceiling-ignored",
        "I9",
        [
            (
                "segment-storage/src/recovery.rs",
                "            found.next_offset = found.next_offset.max(ceiling);\n",
                "",
            )
        ],
        [(SIMULATOR, r"I9 ")],
    ),
    Mistake(
        "unsynced-is-shown",
        "I28",
        [
            (
                "segment-storage/src/log.rs",
                "if self.config.visibility == Visibility::Written && below_ceiling {",
                "if self.config.visibility == Visibility::Synced || below_ceiling {",
            )
        ],
        [(SIMULATOR, r"I(1|9) ")],
    ),
    Mistake(
        "deleted-before-the-start-is-durable",
        "I22",
        [
            (
                "segment-storage/src/log/retention.rs",
                "        self.marks.store_start(&self.start)?;\n",
                "        self.marks.write_start(&self.start)?;\n",
            )
        ],
        [(SIMULATOR, r"I(20|22|24) "), (DELETIONS, r"deletion_from_the_front")],
    ),
    Mistake(
        "ids-unsynced",
        "I15",
        [
            (
                "pid-allocator/src/reservation.rs",
                "            .and_then(|()| self.slots.sync())\n",
                "",
            )
        ],
        [(SIMULATOR, r"I15 "), (BLOCKS, r"producer id")],
    ),
    Mistake(
        "ids-from-the-block-in-use",
        "I15",
        [
            (
                "pid-allocator/src/reservation.rs",
                "        self.write(next_start)?;\n        Ok(start..next_start)",
                "        self.write(start)?;\n        Ok(start..next_start)",
            )
        ],
        [(SIMULATOR, r"I15 ")],
    ),
]
