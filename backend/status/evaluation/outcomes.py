"""The test images of a version, by node: what the labels say, and what the version predicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from taxonomist.backend.services import Services, registry_name
from taxonomist.storage.registry import ModelVersion
from taxonomist.storage.registry.manifests import Tested
from taxonomist.taxonomy.calibration import Calibration
from taxonomist.taxonomy.errors import NotFoundError
from taxonomist.taxonomy.paths import TaxonomyPath, format_path
from taxonomist.taxonomy.tree import Tree
from taxonomist.taxonomy.tree_metrics import LevelCounts, count_level
from taxonomist.training.heads.report.outcomes import ImageOutcome, read_outcomes

VERSIONS_KEPT = 6
"""Versions whose outcomes stay in memory, each with at most `MOST_OUTCOMES` images."""


@dataclass(frozen=True)
class Pair:
    """The true and the predicted node of an image at a level; `predicted` is () where the version names none.

    Of several true nodes it is the one that was predicted, else the first.
    """

    image_id: str
    true: TaxonomyPath
    predicted: TaxonomyPath


@dataclass(frozen=True, eq=False)
class ControlOutcomes:
    """The test images of a version with a label for a control, `images` of `tested` in the order of their ids."""

    version: str
    tree: Tree
    calibration: Calibration | None
    tested: int
    images: tuple[ImageOutcome, ...]

    @cached_property
    def pairs(self) -> Mapping[int, tuple[Pair, ...]]:
        """The images by level, 1 is the top: those whose label reaches it."""
        return {level: tuple(self._pairs(level)) for level in range(1, self.tree.depth + 1)}

    @cached_property
    def counts(self) -> Mapping[int, LevelCounts]:
        """What is predicted rightly and wrongly, by level."""
        labels, likeliest = [image.labels for image in self.images], [image.likeliest for image in self.images]
        return {level: count_level(level, labels, likeliest) for level in range(1, self.tree.depth + 1)}

    def _pairs(self, level: int) -> list[Pair]:
        found = []
        for image in self.images:
            true = [path[:level] for path in image.labels if len(path) >= level]
            if true:
                guess = image.likeliest[:level] if len(image.likeliest) >= level else ()
                found.append(Pair(image.image_id, guess if guess in true else true[0], guess))
        return found


@dataclass(frozen=True)
class VersionOutcomes:
    """What a version keeps of its test part. `controls` is None for a version of an earlier release, which keeps none.

    `tested` says what the test part is, None where that is not recorded.
    """

    version: str
    tested: Tested | None
    controls: Mapping[str, ControlOutcomes] | None


def version_outcomes(services: Services, project: str, version: str) -> VersionOutcomes:
    """Return the outcomes of a version. Raises `NotFoundError` and `DamagedError`."""
    found = services.registry.get(registry_name(project), version)
    return _outcomes(_Key(found.path, found))


def control_outcomes(services: Services, project: str, version: str, control: str) -> ControlOutcomes:
    """Return the outcomes of a version for a control. Raises `NotFoundError` and `DamagedError`."""
    found = (version_outcomes(services, project, version).controls or {}).get(control)
    if found is None:
        raise NotFoundError(f"Version {version} of project {project} has no test images of the control {control!r}.")
    return found


def check_node(outcomes: ControlOutcomes, node: TaxonomyPath) -> None:
    """Raise `NotFoundError` for a node that the version does not know; () is all nodes of level 1."""
    if node and node not in outcomes.tree:
        raise NotFoundError(f"Version {outcomes.version} has no node {format_path(node)!r}.")


@dataclass(frozen=True)
class _Key:
    """A version, which never changes, by its folder."""

    path: Path
    version: ModelVersion = field(compare=False)


@lru_cache(VERSIONS_KEPT)
def _outcomes(key: _Key) -> VersionOutcomes:
    version, manifest = key.version, key.version.head_manifest
    read = read_outcomes(version)
    controls = (
        None
        if read is None
        else {
            tree.control: ControlOutcomes(
                version.version,
                tree,
                manifest.calibration.get(tree.control),
                read[tree.control].tested,
                read[tree.control].images,
            )
            for tree in manifest.trees
        }
    )
    return VersionOutcomes(version.version, manifest.tested, controls)
