"""Manifests: CSV files that list images, with labels, products and annotators if there are any.

A manifest is read (`reading`, with `columns`, `rows` and `files`), given addresses that outlive a move (`addresses`),
compared with what its source said before (`difference`), and imported (`importing`).
"""

from taxonomist.backend.labelling.manifests.importing import import_manifest
from taxonomist.backend.labelling.manifests.plan import ManifestOptions
from taxonomist.backend.labelling.manifests.reading import read_manifest
from taxonomist.backend.labelling.manifests.rows import ManifestRow

__all__ = ["ManifestOptions", "ManifestRow", "import_manifest", "read_manifest"]
