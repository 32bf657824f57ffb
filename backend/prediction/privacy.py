"""What may be done with pictures that show faces or personal data."""

from __future__ import annotations

from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog.documents import ImageDocument


def may_use(document: ImageDocument, settings: Settings) -> bool:
    """Whether the picture may be shown to people who did not ask for it, and be copied to another store."""
    return settings.allow_private or not document.private
