"""The mistakes that `tests/planted` plants, the lowest layer first, so that little is built anew.

Each says which promise it breaks, what is put in place of what, and who has to find it: a test, and
what that test must say. A text to be replaced occurs exactly once in its file.
"""

from .engine import MISTAKES as IN_THE_ENGINE
from .files import MISTAKES as IN_FILES
from .groups import MISTAKES as IN_GROUPS
from .inbox import MISTAKES as IN_INBOXES
from .kinds import RESTARTS, SIMULATOR, Layer, Mistake
from .stores import MISTAKES as IN_STORES

MISTAKES = [*IN_FILES, *IN_THE_ENGINE, *IN_GROUPS, *IN_INBOXES, *IN_STORES]
__all__ = ["MISTAKES", "RESTARTS", "SIMULATOR", "Layer", "Mistake"]
