"""In what consumer groups know."""

from .kinds import GROUPS, Mistake

MISTAKES = [
    Mistake(
        "dead-letter-acked-before-its-sync",
        "E8",
        [
            (
                "log-engine/src/groups/park.rs",
                """        journal::durable(&self.engine, &state, offset)
            .await
            .map_err(|e| letters.failed(e))?;
""",
                "        let _ = (state, offset);\n",
            )
        ],
        [(GROUPS, r"parking_crash::\w+ \.\.\. FAILED")],
    ),
    Mistake(
        "epoch-shown-before-its-sync",
        "E3",
        [
            (
                "log-engine/src/groups/coordinator.rs",
                "        self.epoch_at.is_none_or(|at| journal.is_durable(at))\n",
                "        self.epoch_at.is_none_or(|_| !journal.is_durable(u64::MAX))\n",
            )
        ],
        [(GROUPS, r"members::a_silent_member\w+ \.\.\. FAILED")],
    ),
    Mistake(
        "deleted-before-it-is-durably-consumed",
        "E11",
        [
            (
                "log-engine/src/groups/coordinator.rs",
                "        if self.touched.is_none_or(|at| journal.is_durable(at)) {\n",
                "        if self.touched.is_none_or(|_| !journal.is_durable(u64::MAX)) {\n",
            )
        ],
        [(GROUPS, r"retention::nothing_goes\w+ \.\.\. FAILED")],
    ),
    Mistake(
        "checkpoint-without-the-groups",
        "E7",
        [
            (
                "log-engine/src/groups/checkpoint.rs",
                "                if group.checkpoint(self).is_err() {\n",
                "                if group.name.is_empty() && group.checkpoint(self).is_err() {\n",
            )
        ],
        [(GROUPS, r"limits::the_groups_log\w+ \.\.\. FAILED")],
    ),
    Mistake(
        "earlier-delivery-taken-for-the-last",
        "E4",
        [
            (
                "log-engine/src/groups/state.rs",
                "            Some(&last) if last == delivery => Standing::Current,\n",
                "            Some(&last) if last >= delivery => Standing::Current,\n",
            )
        ],
        [(GROUPS, r"consuming::a_delivery_whose\w+ \.\.\. FAILED")],
    ),
]
