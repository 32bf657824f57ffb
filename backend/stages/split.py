"""The second stage: which of the chosen pictures train, which validate and which test, and how often each trains.

Pictures of one product, and copies of one file, stay together. Rare classes are repeated in the training part until
each is as large as the largest (section 6.2.1 of the thesis); validation and test stay as they are.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from taxonomist.backend.stages.files import PARTS, Chosen, Part, Placed, read_query, write_split
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.paths import format_path
from taxonomist.training.split import Item, assign_test, split_validation
from taxonomist.training.split import Part as FixedPart

log = logging.getLogger(__name__)

NO_LABEL = "has no label"
_TOO_SHALLOW = "has a label that ends above level {level}"


@dataclass(frozen=True)
class SplitOptions:
    """`level` (1 is the top) makes the classes. `test` is a share of all pictures, `validation` one of the rest.

    `keep` leaves pictures in the part that their document names: those of the test set never train.
    """

    level: int = 1
    test: float = 0.2
    validation: float = 0.2
    seed: int = 0
    oversample: bool = True
    keep: bool = True


@dataclass(frozen=True)
class ClassCounts:
    """The pictures of a class in each part; `copies` are those of the training part, with repetitions."""

    label: str
    train: int
    validation: int
    test: int
    copies: int


@dataclass(frozen=True)
class Splitted:
    """What a split came to."""

    folder: Path
    pictures: dict[str, int]
    classes: tuple[ClassCounts, ...]
    left_out: dict[str, int]


def run_split(query: Path, folder: Path, options: SplitOptions) -> Splitted:
    """Split what the query in the folder `query` chose; write `split.csv` and `split.json` into `folder`.

    Raises `ConfigError` when there is no picture with a label of that level, and `StorageError`.
    """
    labels, left_out = _labels(read_query(query), options.level)
    if not labels:
        raise ConfigError(
            f"No picture in {query} has a label of level {options.level}.",
            hint="Choose labelled pictures: `taxonomist data query --labelled`.",
        )
    placed = split([one for one, _ in labels.values()], {id: label for id, (_, label) in labels.items()}, options)
    done = Splitted(
        folder,
        {part: sum(1 for one in placed if one.part == part) for part in PARTS},
        _class_counts(placed),
        dict(left_out.most_common()),
    )
    log.info("%(train)d pictures train, %(validation)d validate, %(test)d test", done.pictures)
    for counts in done.classes:
        log.info("%s", counts)
    for reason, count in done.left_out.items():
        log.info("left out, since it %s: %d", reason, count)
    report = {"options": asdict(options), **asdict(done)}
    del report["folder"]
    write_split(folder, placed, report)
    return done


def split(chosen: Sequence[Chosen], labels: Mapping[str, str], options: SplitOptions) -> list[Placed]:
    """The part and the class of each picture, in order of ids; it depends on the seed and on the ids alone."""
    chosen = sorted(chosen, key=lambda one: one.id)
    items = [Item(one.id, one.group or None, one.file_hash or None, labels[one.id]) for one in chosen]
    fixed: dict[str, FixedPart] = {}
    for one in chosen if options.keep else ():
        if one.part == "test" or one.part == "train":
            fixed[one.id] = "test" if one.part == "test" else "train"
    tested = assign_test(items, fixed, options.test, options.seed)
    learning = [item for item in items if tested[item.id] == "train"]
    _, validating = split_validation(learning, options.validation, options.seed)
    validation = {learning[row].id for row in validating}
    parts: dict[str, Part] = {
        id: "test" if part == "test" else "validation" if id in validation else "train" for id, part in tested.items()
    }
    number = {label: at for at, label in enumerate(sorted(set(labels.values())))}
    training = {item.id: item.stratum for item in items if parts[item.id] == "train"}
    copies = oversample(training, options.seed) if options.oversample else {}
    return [
        Placed(item.id, parts[item.id], item.stratum, number[item.stratum], copies.get(item.id, 1)) for item in items
    ]


def oversample(classes: Mapping[str, str], seed: int) -> dict[str, int]:
    """How often each picture is to be trained on, so that all classes come equally often, as the largest does.

    `classes` has the class of each picture. Pictures of one class differ by one at most; the seed says which ones.
    """
    size = Counter(classes.values())
    most = max(size.values(), default=0)
    turn: Counter[str] = Counter()
    copies = {}
    for id in sorted(classes, key=lambda id: hashlib.sha256(f"{seed}:{id}".encode()).digest()):
        label = classes[id]
        copies[id] = most // size[label] + (turn[label] < most % size[label])
        turn[label] += 1
    return copies


def _labels(chosen: Sequence[Chosen], level: int) -> tuple[dict[str, tuple[Chosen, str]], Counter[str]]:
    labels: dict[str, tuple[Chosen, str]] = {}
    left_out = Counter[str]()
    for one in chosen:
        if not one.path:
            left_out[NO_LABEL] += 1
        elif len(one.path) < level:
            left_out[_TOO_SHALLOW.format(level=level)] += 1
        else:
            labels[one.id] = one, format_path(one.path[:level])
    return labels, left_out


def _class_counts(placed: Sequence[Placed]) -> tuple[ClassCounts, ...]:
    count = Counter((one.label, one.part) for one in placed)
    copies: Counter[str] = Counter()
    for one in placed:
        copies[one.label] += one.copies if one.part == "train" else 0
    return tuple(
        ClassCounts(label, count[label, "train"], count[label, "validation"], count[label, "test"], copies[label])
        for label in sorted({one.label for one in placed})
    )
