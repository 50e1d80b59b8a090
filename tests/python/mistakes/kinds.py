"""What a mistake that `tests/planted` plants is, and who finds it."""

from typing import NamedTuple


class Layer(NamedTuple):
    """A test that finds mistakes."""

    title: str
    package: str
    # Of the target in the package; none for the unit tests.
    test: str | None
    filter: str
    # Seeds that it tries at most; 0 for a test that is simply run.
    seeds: int = 0


SIMULATOR = Layer("simulator", "simulator", "seeds", "every_seed", 3_000)
RESTARTS = Layer("restart harness", "oncelog-tests", "producer_restart", "seeded", 1_000)
CODECS = Layer("tests of the codecs", "record-batch", None, "compression")
STORAGE = Layer("tests of the segments", "segment-storage", "storage", "")
SLOTS = Layer("tests of the slots", "segment-storage", None, "slot_file")
PRODUCERS = Layer("tests of producers", "partition-log", "producers", "")
BUDGET = Layer("tests of the budget", "partition-log", "budget", "")
GROUPS = Layer("tests of groups", "log-engine", "groups", "")
CLAIMS = Layer("suite of the stores", "consumer-inbox", "memory", "dedup")
INBOXES = Layer("suite of the inboxes", "consumer-inbox", "memory", "inbox")
EMBEDDED = Layer("tests of the store in the log", "consumer-inbox", "embedded", "")
DELETIONS = Layer("crash states", "oncelog-tests", "crash_states", "deletion_from_the_front")
BLOCKS = Layer("crash states", "oncelog-tests", "crash_states", "producer_ids_over_more")


class Mistake(NamedTuple):
    """A change to the sources that breaks a promise."""

    name: str
    invariant: str
    # File below `crates`, text, and what is put there instead.
    changes: list[tuple[str, str, str]]
    # Who finds it, and a pattern of what that must say.
    found: list[tuple[Layer, str]]
