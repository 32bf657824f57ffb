"""Manifests: CSV files that list images, with labels, products and annotators if there are any.

A manifest is read (`reading`), given addresses that outlive a move (`addresses`), compared with what its source said
before (`difference`), and imported (`importing`).
"""

from taxonomist.backend.labelling.manifests.importing import import_manifest
from taxonomist.backend.labelling.manifests.plan import ManifestOptions
from taxonomist.backend.labelling.manifests.reading.manifest import read_manifest
from taxonomist.backend.labelling.manifests.reading.rows import ManifestRow

__all__ = ["ManifestOptions", "ManifestRow", "import_manifest", "read_manifest"]
