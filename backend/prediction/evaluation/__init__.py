"""The champion on the labelled images of a manifest, which are not stored.

`manifest` reads them and lets the champion predict them, `scores` has the figures, `per_image` what became of each.
"""

from taxonomist.backend.prediction.evaluation.manifest import evaluate_manifest
from taxonomist.backend.prediction.evaluation.per_image import EvaluatedImage, table_of_images, write_images
from taxonomist.backend.prediction.evaluation.scores import ImageScores, LevelScores, ManifestScores

__all__ = [
    "EvaluatedImage",
    "ImageScores",
    "LevelScores",
    "ManifestScores",
    "evaluate_manifest",
    "table_of_images",
    "write_images",
]
