"""The rule for images that show faces or personal data."""

from __future__ import annotations

from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog.documents import ImageDocument


def may_use(document: ImageDocument, settings: Settings) -> bool:
    """Return whether the image may be shown as a look-alike and copied to another store."""
    return settings.allow_private or not document.private
