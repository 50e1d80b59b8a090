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
    # Of the package, for cargo.
    features: str = ""
    # Whether it says `skipped: ` where a server is missing.
    skips: bool = False


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
CLAIMS_MODEL = Layer("sequences in memory", "consumer-inbox", "memory", "every_interleaving_is")
INBOXES_MODEL = Layer("sequences in memory", "consumer-inbox", "memory", "every_interleaving_of")
EMBEDDED_MODEL = Layer("sequences in the log", "consumer-inbox", "embedded", "every_interleaving")


def with_store(title: str, test: str, tests: str, skips: bool = True) -> Layer:
    """Tests of a store that is a feature."""
    features = "sqlite,postgres,redis,failpoints"
    return Layer(title, "consumer-inbox", test, tests, 0, features, skips)


SQLITE_CLAIMS = with_store("suite over SQLite", "sqlite", "dedup::", False)
SQLITE_INBOX = with_store("suite over SQLite", "sqlite", "inbox::", False)
SQLITE_MODEL = with_store("sequences in SQLite", "sqlite", "every_interleaving", False)
POSTGRES_INBOX = with_store("suite over PostgreSQL", "postgres", "inbox::")
POSTGRES_MODEL = with_store("sequences in PostgreSQL", "postgres", "every_interleaving")
REDIS = with_store("suite over Redis", "redis", "dedup::")
REDIS_MODEL = with_store("sequences in Redis", "redis", "every_interleaving")
TIERED_CLAIMS = with_store("claims over both", "tiered", "store::suite")
TIERED_INBOX = with_store("suite over both", "tiered", "inbox::")
TIERED_MODEL = with_store("sequences over both", "tiered", "every_interleaving")
BEHIND = with_store("tests of write-behind", "write_behind", "inbox::")
BEHIND_MODEL = with_store("sequences written behind", "write_behind", "every_interleaving")
DELETIONS = Layer("crash states", "oncelog-tests", "crash_states", "deletion_from_the_front")
BLOCKS = Layer("crash states", "oncelog-tests", "crash_states", "producer_ids_over_more")


# What the random sequences of stores and of inboxes say.
OF_STORE = r"every_interleaving_is_the_models \.\.\. FAILED"
OF_INBOX = r"every_interleaving_of_the_inbox_is_the_models \.\.\. FAILED"


class Mistake(NamedTuple):
    """A change to the sources that breaks a promise."""

    name: str
    invariant: str
    # File below `crates`, text, and what is put there instead.
    changes: list[tuple[str, str, str]]
    # Who finds it, and a pattern of what that must say.
    found: list[tuple[Layer, str]]
