"""The data of a training: the labelled images of a project with usable labels, their parts and embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from taxonomist.inference.reasons import count_reasons
from taxonomist.storage.embeddings import Embeddings
from taxonomist.taxonomy.errors import TrainingError
from taxonomist.taxonomy.paths import TaxonomyPath, deepest, format_path, prefixes
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.companions import Companions, read_companions
from taxonomist.training.heads.data.targets import HeadData, Labels, Node, Outputs, nodes_of, scored
from taxonomist.training.heads.data.view_embeddings import read_embeddings
from taxonomist.training.product_space import TaughtSpace
from taxonomist.training.split import Item, Part, assign_test, draw_again, lost_test_share, split_validation

_MIN_IMAGES = 4
_REASONS_SHOWN = 3
_BULK_IN_TEST = "Its product is tested, and it was labelled with many images in one action."
_LARGEST_LOSS = 0.5
"""Test images that turn out to show a product of the training part train from then on. Where the test part would lose a
larger share of its images, the split is drawn again."""


@dataclass(frozen=True)
class Example:
    """An image with its accepted labels. `part` is the one that an earlier training has drawn, None for a new image.

    Images of the same `group` (a product, a service report), `near` (near-duplicates, for images without a group) or
    `file_hash` are never in different parts. `trained` says that a version has learned from the image or its product.
    Images that were not drawn `at_random` for labelling do not calibrate. Those whose label is `bulk`, given to many
    images in one action, do neither calibrate nor test. For the controls in `prefilled`, an annotator
    saw a suggestion.
    """

    id: str
    labels: Labels
    group: str | None = None
    file_hash: str | None = None
    part: Part | None = None
    near: str | None = None
    trained: bool = False
    at_random: bool = True
    bulk: bool = False
    prefilled: frozenset[str] = frozenset()

    @property
    def calibrates(self) -> bool:
        """Whether the image may calibrate a head."""
        return self.at_random and not self.bulk

    @property
    def product(self) -> str:
        """A name of the image's product: its group, else its near-duplicates, else the image itself."""
        return f"group {self.group}" if self.group else f"near {self.near}" if self.near else f"image {self.id}"


def usable_examples(examples: Sequence[Example], trees: Sequence[Tree]) -> tuple[list[Example], dict[str, str]]:
    """Return the examples with labels that are in the trees, in order of ids, and by id the reason for each other.

    Labels survive changes of the tree: of a path that is no longer in it, the beginning that is in it is used, which is
    still true.
    """
    usable, reasons = [], {}
    for example in sorted(examples, key=lambda example: example.id):
        labels: dict[str, tuple[TaxonomyPath, ...]] = {}
        unknown = []
        for tree in trees:
            paths = example.labels.get(tree.control, ())
            known = deepest({tree.known_prefix(path) for path in paths} - {()})
            unknown += [f'"{format_path(path)}" is not in the taxonomy "{tree.control}"' for path in paths if not known]
            if known:
                labels[tree.control] = known
        if labels:
            usable.append(replace(example, labels=labels))
        else:
            reasons[example.id] = f"{'; '.join(unknown) or 'It has no accepted label'}."
    return usable, reasons


def check_enough(examples: Sequence[Example], trees: Sequence[Tree], left_out: Mapping[str, str]) -> None:
    """Raise TrainingError when there is nothing to learn: too few images, or no choice between two nodes.

    `left_out` has the reason for each labelled image that is not one of the examples.
    """
    if len(examples) < _MIN_IMAGES:
        if not left_out:
            raise TrainingError(
                f"{len(examples)} labelled images are too few to train on.", hint=f"Label {_MIN_IMAGES} or more images."
            )
        reasons = [
            f"{reason.count} left out, for example {reason.example}: {reason.message}"
            for reason in count_reasons(left_out)[:_REASONS_SHOWN]
        ]
        raise TrainingError(
            f"Only {len(examples)} of {len(examples) + len(left_out)} labelled images can be used, too few to train "
            f"on: {_MIN_IMAGES} are needed.",
            hint=" ".join(reasons),
        )
    for tree in trees:
        nodes = {node for path in _labels_of(examples, tree) for node in prefixes(path)}
        if len({node[:-1] for node in nodes}) < len(nodes):  # two nodes have the same parent
            return
    longest = {max(paths, key=len) for tree in trees if (paths := _labels_of(examples, tree))}
    raise TrainingError(
        f"All {len(examples)} labelled images have the same label, or labels on one path "
        f"({'; '.join(map(format_path, sorted(longest)))}), so there is nothing to learn.",
        hint="Label images of at least two different choices.",
    )


def _labels_of(examples: Sequence[Example], tree: Tree) -> set[TaxonomyPath]:
    return {path for example in examples for path in example.labels.get(tree.control, ())}


@dataclass(frozen=True)
class AssignedParts:
    """The part of each example, by id; `drawn_again` says that those of earlier trainings do not count any more."""

    parts: Mapping[str, Part]
    drawn_again: bool = False


def assign_parts(
    examples: Sequence[Example],
    trees: Sequence[Tree],
    share: float = 0.2,
    seed: int = 0,
    *,
    products_are_new: bool = False,
) -> AssignedParts:
    """Return the part of each example: parts of earlier trainings stay, those of new images are drawn.

    With `products_are_new`, no earlier training knew the products. Where its test images then show products of its
    training part, or where for another reason most of them do, all parts are drawn again.
    """
    fixed = {example.id: example.part for example in examples if example.part is not None}
    items = _items(examples, trees)
    if lost_test_share(items, fixed) > (0 if products_are_new else _LARGEST_LOSS):
        return AssignedParts(draw_again(items, fixed, share, seed), drawn_again=True)
    return AssignedParts(assign_test(items, fixed, share, seed))


@dataclass(frozen=True)
class SplitExamples:
    """The usable examples in order of ids, the part of each by id, and the reason for each image that is left out.

    `drawn_again` says that earlier versions may have learned from products of the test part.
    """

    usable: tuple[Example, ...]
    parts: Mapping[str, Part]
    left_out: Mapping[str, str]
    drawn_again: bool = False


def split_examples(
    examples: Sequence[Example],
    trees: Sequence[Tree],
    share: float = 0.2,
    seed: int = 0,
    *,
    products_are_new: bool = False,
) -> SplitExamples:
    """Return the examples that can be used, in their parts: about `share` of the images is in the test part.

    `products_are_new` as in `assign_parts`. An image whose label is `bulk` is left out where its product is tested.
    """
    usable, left_out = usable_examples(examples, trees)
    assigned = assign_parts(usable, trees, share, seed, products_are_new=products_are_new)
    never_tests = {example.id for example in usable if example.bulk and assigned.parts[example.id] == "test"}
    left_out |= dict.fromkeys(never_tests, _BULK_IN_TEST)
    used = tuple(example for example in usable if example.id not in never_tests)
    return SplitExamples(used, assigned.parts, left_out, assigned.drawn_again)


@dataclass(frozen=True)
class Dataset:
    """Images of the three parts, and their embeddings (n, d).

    `train_x` (rows, d) has a row for each image of the training part and for each of its augmented views; `owners`
    (rows,) are the numbers of the images, ascending. `scored` has the test images with the labels that they are scored
    on: as deep as the training part knows the nodes. `companions` are images without labels of the training part's
    products, () where none are known. `taught` is what products have taught without labels; the companions in its
    spaces come second.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    scored: tuple[Example, ...]
    train_x: npt.NDArray[np.float32]
    owners: npt.NDArray[np.int64]
    validation_x: npt.NDArray[np.float32]
    test_x: npt.NDArray[np.float32]
    companions: tuple[Companions, ...] = ()
    taught: TaughtSpace | None = None

    def train_data(self, outputs: Outputs) -> HeadData:
        """Return the training part for a head with an output for each node: an array of images and nodes."""
        return HeadData(self.train_x, self.owners, outputs.encode([example.labels for example in self.train]))

    def validation_data(self, outputs: Outputs) -> HeadData:
        """Return the validation part for the training of the head."""
        return HeadData.plain(self.validation_x, outputs.encode([example.labels for example in self.validation]))

    @property
    def roles(self) -> dict[str, str]:
        """ "train", "validation" or "test", by id."""
        parts = (("train", self.train), ("validation", self.validation), ("test", self.test))
        return {example.id: part for part, examples in parts for example in examples}


def build_dataset(
    examples: Sequence[Example],
    parts: Mapping[str, Part],
    outputs: Outputs,
    embeddings: Embeddings,
    *,
    views: int,
    validation_share: float,
    seed: int,
    companions: Mapping[str, Sequence[str]] | None = None,
    taught: TaughtSpace | None = None,
) -> Dataset:
    """Return the data set, with the validation part taken from the training part.

    `views` counts the augmented views of a training image. The store must have the embedding of every example; missing
    views are left out. `companions` has the ids of images without labels by product (`Example.group`), `taught` the
    space in which a discriminant may learn.
    """
    untested = [example for example in examples if parts[example.id] == "train"]
    train_index, validation_index = split_validation(_items(untested, outputs.trees), validation_share, seed)
    train = tuple(untested[index] for index in train_index)
    validation = tuple(untested[index] for index in validation_index)
    test = tuple(example for example in examples if parts[example.id] == "test")
    scored_labels = scored([example.labels for example in test], nodes_of(example.labels for example in train))
    rows = read_embeddings([example.id for example in train], [views] * len(train), embeddings)
    return Dataset(
        train,
        validation,
        test,
        tuple(replace(example, labels=labels) for example, labels in zip(test, scored_labels, strict=True)),
        rows.vectors,
        rows.owners,
        embeddings.get([example.id for example in validation])[1],
        embeddings.get([example.id for example in test])[1],
        read_companions(
            companions or {},
            {example.group for example in train if example.group},
            embeddings,
            taught.all if taught else (),
        ),
        taught,
    )


def _items(examples: Sequence[Example], trees: Sequence[Tree]) -> list[Item]:
    named: dict[frozenset[tuple[str, tuple[TaxonomyPath, ...]]], tuple[str, frozenset[Node]]] = {}

    def item(example: Example) -> Item:
        labels = frozenset(example.labels.items())  # few differ
        if labels not in named:
            named[labels] = _stratum(example.labels, trees), nodes_of([example.labels])
        return Item(
            example.id,
            example.group,
            example.file_hash,
            *named[labels],
            near=example.near,
            trained=example.trained,
            bulk=example.bulk,
        )

    return [item(example) for example in examples]


def _stratum(labels: Labels, trees: Sequence[Tree]) -> str:
    """Return the level-1 label of the first control that has one."""
    return next((min(paths)[0] for tree in trees if (paths := labels.get(tree.control))), "")
