"""The steps that bring an older home to the next version, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from taxonomist.storage.home.image_ids import give_new_image_ids
from taxonomist.storage.home.journal_sources import give_sources
from taxonomist.storage.home.old_home import OldHome

__all__ = ["STEPS", "Step"]

Step = Callable[[OldHome], None]
"""Changes the home. It is called again after a kill, and then must not change again what it has changed."""

STEPS: Mapping[int, Sequence[Step]] = {2: (give_sources, give_new_image_ids)}
"""The steps to each version up to `version_file.VERSION`, from the version before it."""
