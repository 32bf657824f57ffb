"""A fingerprint of what a training begins with: it tells whether another training would learn anything new."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.dataset import Example
from taxonomist.training.split import Part

__all__ = ["inputs_fingerprint"]


def inputs_fingerprint(
    examples: Sequence[Example],
    parts: Mapping[str, Part],
    trees: Sequence[Tree],
    backbone: str,
    settings: Mapping[str, Any],
) -> str:
    """Return the sha256 of the images with part, product and labels, the trees, the backbone and the settings.

    The order of the images does not matter. Files do not count, since an image is embedded once per backbone.
    """
    rows = [
        [
            example.id,
            parts[example.id],
            example.group,
            {control: sorted(map(list, paths)) for control, paths in example.labels.items()},
            *(["bulk"] if example.bulk else []),
        ]
        for example in sorted(examples, key=lambda example: example.id)
    ]
    inputs = {"backbone": backbone, "settings": settings, "trees": [tree.to_json() for tree in trees], "images": rows}
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
