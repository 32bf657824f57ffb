"""The steps that bring an older home to the next version, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from taxonomist.storage.home.image_ids import give_new_image_ids
from taxonomist.storage.home.journal_sources import give_sources
from taxonomist.storage.home.old_home import OldHome

__all__ = ["STEPS", "VERSION", "Step"]

Step = Callable[[OldHome], None]
"""Changes the home. It is called again after a kill, and then must not change again what it has changed."""

STEPS: Mapping[int, Sequence[Step]] = {2: (give_sources, give_new_image_ids)}
"""The steps to each version, from the version before it."""

VERSION = max(STEPS)
"""The version of the homes that this release makes, reads and writes."""
