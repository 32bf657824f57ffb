"""What a version has learned from: its images, their files and their products, read from its training data."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taxonomist.storage.registry import ModelVersion, Registry
from taxonomist.taxonomy.errors import DamagedError, NotFoundError
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.split import Part

log = logging.getLogger(__name__)

DATA_FILE = "data.json"


@dataclass(frozen=True)
class TrainedOn:
    """Images by id, files by hash, and products, each as far as it is known."""

    ids: frozenset[str] = frozenset()
    file_hashes: frozenset[str] = frozenset()
    products: frozenset[str] = frozenset()

    def knows(self, id: str | None, file_hash: str | None, product: str | None) -> bool:
        """Return whether the image, a copy of its file, or another image of its product is among them."""
        return id in self.ids or file_hash in self.file_hashes or product in self.products

    def __or__(self, other: TrainedOn) -> TrainedOn:
        return TrainedOn(self.ids | other.ids, self.file_hashes | other.file_hashes, self.products | other.products)

    def __sub__(self, other: TrainedOn) -> TrainedOn:
        return TrainedOn(self.ids - other.ids, self.file_hashes - other.file_hashes, self.products - other.products)

    def to_json(self) -> dict[str, list[str]]:
        """Return JSON-ready values."""
        return {name: sorted(values) for name, values in vars(self).items()}


def trained_on(version: ModelVersion) -> TrainedOn:
    """Return what this version has learned from, early stopping and calibration included.

    Raises `DamagedError` when its training data cannot be read.
    """
    return _of_images(_read(version).get("images", []))


def images_with_labels_of(version: ModelVersion, trees: Sequence[Tree]) -> int:
    """Return from how many images this version has learned a label of which these trees have at least the top node.

    `trees` are those of now, which say what was renamed. Raises `DamagedError` as `trained_on` does.
    """
    by_control = {name: tree for tree in trees for name in (*tree.former, tree.control)}
    return sum(
        any(
            control in by_control and by_control[control].known_prefix(tuple(path))
            for control, paths in image.get("labels", {}).items()
            for path in paths
        )
        for image in _read(version).get("images", [])
        if image.get("part") != "test"
    )


def ever_trained_on(registry: Registry, name: str) -> TrainedOn:
    """Return what the newest version of `name` or a version before it has learned from; nothing without a version.

    A version keeps what those before it have learned from. Training data that cannot be read counts as none, with a
    line in the log.
    """
    versions = registry.versions(name)
    if not versions:
        return TrainedOn()
    try:
        data = _read(registry.get(name, versions[-1].version))
    except (DamagedError, NotFoundError) as error:
        log.warning("%s: earlier training data is not considered: %s", name, error)
        return TrainedOn()
    earlier = data.get("earlier", {})
    fields = {field: frozenset(earlier.get(field, ())) for field in ("ids", "file_hashes", "products")}
    return _of_images(data.get("images", [])) | TrainedOn(**fields)


def parts_of(registry: Registry, name: str) -> dict[str, Part]:
    """Return the part of each image, by id, that the newest version of `name` whose training data can be read was made
    with, and of those that versions before it have learned from; nothing without a version."""
    for version in reversed(registry.versions(name)):
        try:
            data = _read(registry.get(name, version.version))
            learned: dict[str, Part] = dict.fromkeys(data.get("earlier", {}).get("ids", ()), "train")
            return learned | {image["id"]: _part(image) for image in data.get("images", [])}
        except (DamagedError, NotFoundError, AttributeError, KeyError, TypeError) as error:
            log.warning("%s: the parts of its images are not read from %s: %s", name, version.version, error)
    return {}


def _part(image: Mapping[str, Any]) -> Part:
    return "test" if image.get("part") == "test" else "train"  # those that stop a training, or calibrate, train


def _of_images(images: Iterable[Mapping[str, Any]]) -> TrainedOn:
    learned = [image for image in images if image.get("part") != "test"]
    return TrainedOn(
        frozenset(image["id"] for image in learned),
        frozenset(image["file_hash"] for image in learned if image.get("file_hash")),
        frozenset(image["product"] for image in learned if image.get("product")),
    )


def _read(version: ModelVersion) -> Mapping[str, Any]:
    path = version.path / DATA_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise TypeError("not an object")
    except (OSError, ValueError, TypeError) as error:
        raise DamagedError(f"The training data {path} cannot be read: {error}.") from error
    return data
