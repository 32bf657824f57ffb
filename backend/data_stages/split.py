"""The second stage: the chosen images are split into training, validation and test parts.

Images of one product, and copies of one file, stay in one part; where the product is not known, near-duplicates do. In
the training part rare classes are repeated until each class is as large as the largest (section 6.2.1 of the thesis).
The other parts are not changed.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from taxonomist.backend.data_stages.files import PARTS, ChosenImage, Part, PlacedImage, read_query, write_split
from taxonomist.storage.embeddings import Embeddings
from taxonomist.storage.registry.manifests import NEAR_DISTANCE
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.paths import format_path
from taxonomist.training.near_duplicates import near_duplicates_of_unknown
from taxonomist.training.split import Item, assign_test, split_validation
from taxonomist.training.split import Part as FixedPart

log = logging.getLogger(__name__)

BULK_IN_TEST = "was labelled with many others in one action, and its product is tested"
NO_LABEL = "has no label"
_TOO_SHALLOW = "has a label that ends above level {level}"


@dataclass(frozen=True)
class SplitOptions:
    """Options of a split.

    The nodes of `level` are the classes; 1 is the top. `test` is a share of all images, `validation` a share of the
    rest. With `keep`, images stay in the part that their document names, so that those of the test set never train.
    """

    level: int = 1
    test: float = 0.2
    validation: float = 0.2
    seed: int = 0
    oversample: bool = True
    keep: bool = True


@dataclass(frozen=True)
class ClassCounts:
    """The number of images of a class in each part; `copies` counts those of the training part with repetitions."""

    label: str
    train: int
    validation: int
    test: int
    copies: int


@dataclass(frozen=True)
class SplitResult:
    """The result of a split: `images` counts them by part, `left_out` counts the others by reason.

    `without_product` of the images have no known product. `near_duplicates` of these look like another one and stand in
    its part, and `not_embedded` of them cannot be compared.
    """

    folder: Path
    images: dict[str, int]
    classes: tuple[ClassCounts, ...]
    left_out: dict[str, int]
    without_product: int = 0
    near_duplicates: int = 0
    not_embedded: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the fields for JSON. `pictures` is the former name of `images`."""
        return asdict(self) | {"pictures": self.images}


def run_split(
    query: Path,
    folder: Path,
    options: SplitOptions,
    embeddings: Callable[[], tuple[Embeddings, float] | None] = lambda: None,
) -> SplitResult:
    """Split what the query in the folder `query` chose; write `split.csv` and `split.json` into `folder`.

    `embeddings` returns those of the served backbone and the distance of near-duplicates among them, None where there
    are none. It is called if the product of an image is not known: near-duplicates then count as one product, as in a
    training. Return the counts. Raises `ConfigError` when no image has a label of that level, and `StorageError`.
    """
    labels, left_out = _labels(read_query(query), options.level)
    if not labels:
        raise ConfigError(
            f"No image in {query} has a label of level {options.level}.",
            hint="Choose labelled images by `taxonomist data query --labelled`.",
        )
    chosen = [image for image, _ in labels.values()]
    unknown = [image.id for image in chosen if not image.group]
    store, closest = (embeddings() if unknown else None) or (None, NEAR_DISTANCE)
    near = {}
    if store is not None:
        near = near_duplicates_of_unknown({image.id: image.group for image in chosen}, store, closest)
    placed = split_images(chosen, {id: label for id, (_, label) in labels.items()}, options, near)
    if len(placed) < len(chosen):
        left_out[BULK_IN_TEST] += len(chosen) - len(placed)
    result = SplitResult(
        folder,
        {part: sum(1 for image in placed if image.part == part) for part in PARTS},
        _class_counts(placed),
        dict(left_out.most_common()),
        without_product=len(unknown),
        near_duplicates=len(near),
        not_embedded=len(unknown) if store is None else int((~store.get(unknown)[0]).sum()),
    )
    log.info("%(train)d images train, %(validation)d validate, %(test)d test", result.images)
    for counts in result.classes:
        log.info("%s", counts)
    for reason, count in result.left_out.items():
        log.info("left out: %d, each %s", count, reason)
    report = {"options": asdict(options), **result.to_json()}
    del report["folder"]
    write_split(folder, placed, report)
    return result


def split_images(
    chosen: Sequence[ChosenImage],
    labels: Mapping[str, str],
    options: SplitOptions,
    near: Mapping[str, str] | None = None,
) -> list[PlacedImage]:
    """Return the images in their parts, in order of ids. `labels` has the class of each image.

    An image that was labelled with many others in one action is left out where its product is tested.

    `near` has the id that stands for the near-duplicates of an image, see `near_duplicates`. The result depends only on
    the images, the options and their seed, not on the order of `chosen`.
    """
    chosen = sorted(chosen, key=lambda image: image.id)
    near = near or {}
    items = [
        Item(
            image.id,
            image.group or None,
            image.file_hash or None,
            labels[image.id],
            near=near.get(image.id),
            bulk=bool(image.bulk),
        )
        for image in chosen
    ]
    fixed: dict[str, FixedPart] = {}
    for image in chosen if options.keep else ():
        if image.part == "test" or image.part == "train":
            fixed[image.id] = "test" if image.part == "test" else "train"
    test_or_train = assign_test(items, fixed, options.test, options.seed)
    train_items = [item for item in items if test_or_train[item.id] == "train"]
    _, validation_rows = split_validation(train_items, options.validation, options.seed)
    validation = {train_items[row].id for row in validation_rows}
    parts: dict[str, Part] = {
        id: "test" if part == "test" else "validation" if id in validation else "train"
        for id, part in test_or_train.items()
    }
    number = {label: at for at, label in enumerate(sorted(set(labels.values())))}
    train_classes = {item.id: item.stratum for item in items if parts[item.id] == "train"}
    copies = oversample(train_classes, options.seed) if options.oversample else {}
    return [
        PlacedImage(item.id, parts[item.id], item.stratum, number[item.stratum], copies.get(item.id, 1))
        for item in items
        if not (item.bulk and parts[item.id] == "test")
    ]


def oversample(classes: Mapping[str, str], seed: int) -> dict[str, int]:
    """Return how often a training sees each image in one epoch, so that every class has as many as the largest one.

    `classes` has the class of each image. Within a class the numbers differ by at most one; the seed decides which
    images get one more.
    """
    size = Counter(classes.values())
    largest = max(size.values(), default=0)
    seen: Counter[str] = Counter()
    copies = {}
    for id in sorted(classes, key=lambda id: hashlib.sha256(f"{seed}:{id}".encode()).digest()):
        label = classes[id]
        copies[id] = largest // size[label] + (seen[label] < largest % size[label])
        seen[label] += 1
    return copies


def _labels(chosen: Sequence[ChosenImage], level: int) -> tuple[dict[str, tuple[ChosenImage, str]], Counter[str]]:
    """Return by id the images that have a label of this level, with that label, and the others counted by reason."""
    labels: dict[str, tuple[ChosenImage, str]] = {}
    left_out = Counter[str]()
    for image in chosen:
        if not image.path:
            left_out[NO_LABEL] += 1
        elif len(image.path) < level:
            left_out[_TOO_SHALLOW.format(level=level)] += 1
        else:
            labels[image.id] = image, format_path(image.path[:level])
    return labels, left_out


def _class_counts(placed: Sequence[PlacedImage]) -> tuple[ClassCounts, ...]:
    count = Counter((image.label, image.part) for image in placed)
    copies: Counter[str] = Counter()
    for image in placed:
        copies[image.label] += image.copies if image.part == "train" else 0
    return tuple(
        ClassCounts(label, count[label, "train"], count[label, "validation"], count[label, "test"], copies[label])
        for label in sorted({image.label for image in placed})
    )
