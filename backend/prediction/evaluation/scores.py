"""The scores of a champion on labelled images, level by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from taxonomist.backend.prediction.evaluation.per_image import EvaluatedImage
from taxonomist.taxonomy.paths import TaxonomyPath, prefixes
from taxonomist.taxonomy.suggestion import Suggestion
from taxonomist.taxonomy.tree import Tree
from taxonomist.taxonomy.tree_metrics import evaluate_paths


@dataclass(frozen=True)
class LevelScores:
    """The scores at one level: `images` are those whose label reaches it.

    `accuracy` and `macro_f1` are those of the whole likeliest path. `suggested` is the share of images for which a
    suggestion reaches the level, and `precision` the share of these that is right there, None without any.
    """

    level: int
    images: int
    accuracy: float
    macro_f1: float
    suggested: float
    precision: float | None


@dataclass(frozen=True)
class ImageScores:
    """The champion's scores on some labelled images, level by level. Shares and scores are 0 to 1.

    `mean_depth` is the mean level that suggestions reach.
    """

    images: int
    levels: tuple[LevelScores, ...]
    hierarchical_precision: float
    hierarchical_recall: float
    hierarchical_f1: float
    mean_depth: float


@dataclass(frozen=True)
class ManifestScores:
    """The champion's scores on the labelled images of a manifest. Shares and scores are 0 to 1.

    All scores are of the `images` that the champion has not learned from; without any they are None. `learned_from` has
    the scores of those that it knows: the image, a copy of its file, or another image of its product.
    `outside_taxonomy` counts the images whose label is not in the model's taxonomy; they count as wrong. `mean_depth`
    is the mean level that suggestions reach. `products_known` says whether the manifest and the champion's images name
    their products; otherwise another image of a product that it learned from is not recognised. `per_image` has a row
    for each labelled image, in the manifest's order.
    """

    project: str
    model_version: str
    backbone: str
    manifest: str
    images: int
    unreadable: int
    outside_taxonomy: int
    levels: tuple[LevelScores, ...]
    hierarchical_precision: float | None
    hierarchical_recall: float | None
    hierarchical_f1: float | None
    mean_depth: float | None
    problems: tuple[str, ...]
    learned_from: ImageScores | None = None
    products_known: bool = True
    per_image: tuple[EvaluatedImage, ...] = field(default=(), repr=False)

    @property
    def caveats(self) -> tuple[str, ...]:
        """What a reader of the scores must know, in sentences."""
        caveats = []
        if self.learned_from is not None:
            caveats.append(
                f"{self.model_version} has learned from {self.learned_from.images} of the images, or from other images "
                "of their products: these are scored apart, and say nothing about unseen products."
            )
        if not self.products_known:
            caveats.append("Products unknown: other images of a product that was learned from are not recognised.")
        return tuple(caveats)


def score_images(
    tree: Tree, scored: Sequence[tuple[Sequence[TaxonomyPath], TaxonomyPath | None, Suggestion | None]]
) -> ImageScores:
    """Return the scores of some images: their labels, their likeliest path and their suggestion."""
    labels = [accepted for accepted, _, _ in scored]
    suggestions = [suggestion for _, _, suggestion in scored]
    known = Tree.from_paths(tree.control, [*tree.paths, *(path for accepted in labels for path in accepted)])
    metrics = evaluate_paths(known, labels, [path for _, path, _ in scored])
    return ImageScores(
        images=len(labels),
        levels=tuple(
            LevelScores(
                level.level,
                level.support,
                level.accuracy,
                level.macro_f1,
                *_suggested(level.level, labels, suggestions),
            )
            for level in metrics.levels
        ),
        hierarchical_precision=metrics.hierarchical_precision,
        hierarchical_recall=metrics.hierarchical_recall,
        hierarchical_f1=metrics.hierarchical_f1,
        mean_depth=sum(suggestion.level if suggestion else 0 for suggestion in suggestions) / len(suggestions),
    )


def _suggested(
    level: int, truths: Sequence[Sequence[TaxonomyPath]], suggestions: Sequence[Suggestion | None]
) -> tuple[float, float | None]:
    """Return the share of images that get a suggestion at the level, and the share of these that is right."""
    reached = right = images = 0
    for paths, suggestion in zip(truths, suggestions, strict=True):
        nodes = {node for path in paths for node in prefixes(path) if len(node) == level}
        if not nodes:
            continue
        images += 1
        if suggestion and suggestion.level >= level:
            reached += 1
            right += suggestion.path[:level] in nodes
    return reached / images if images else 0.0, right / reached if reached else None
