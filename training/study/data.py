"""What a study is made of: labelled pictures, the contestants that embed them, and the options of the experiment."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from taxonomist.taxonomy.errors import ConfigError, TrainingError
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.heads.head import HeadOptions
from taxonomist.training.split import Item
from taxonomist.training.study.split import Sizes

Pictures = npt.NDArray[np.uint8]
"""(n, size, size, 3), red first."""

Embed = Callable[[Pictures], npt.NDArray[np.float32]]
"""From n pictures to their embeddings (n, d)."""


@dataclass(frozen=True)
class Labelled:
    """Every labelled picture that may be used: n ids with their path and product.

    `pictures` is (m, size, size, 3), perhaps memory-mapped; `rows` (n,) says which of them is whose, None that they
    stand in order. Pictures with one file hash count as one product. `held_out` are products that no pre-training
    has seen: test pictures are drawn from these only, or from all when it is empty.
    """

    ids: Sequence[str]
    pictures: Pictures
    paths: Sequence[TaxonomyPath]
    groups: Sequence[str]
    held_out: frozenset[str] = frozenset()
    rows: npt.NDArray[np.int64] | None = None
    hashes: Sequence[str | None] | None = None

    def __post_init__(self) -> None:
        pictures = self.pictures if self.rows is None else self.rows
        lengths = [len(each) for each in (self.ids, pictures, self.paths, self.groups)]
        if len(set(lengths)) != 1:
            raise ValueError(f"ids, pictures, paths and groups differ in length: {lengths}")
        if len({path[0] for path in self.paths}) < 2:
            raise TrainingError(
                f"The {len(self.ids)} labelled pictures do not have two different labels at level 1.",
                hint="Label pictures of at least two level-1 choices.",
            )

    def __len__(self) -> int:
        return len(self.ids)

    def picture(self, position: int) -> Pictures:
        """The picture (size, size, 3) of an id."""
        return np.asarray(self.pictures[position if self.rows is None else self.rows[position]])

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """The pictures as a split sees them, stratified at level 1."""
        hashes = self.hashes or [None] * len(self)
        return tuple(
            Item(id, group, file_hash, path[0])
            for id, group, file_hash, path in zip(self.ids, self.groups, hashes, self.paths, strict=True)
        )

    @cached_property
    def tree(self) -> Tree:
        """The smallest tree that has all paths."""
        return Tree.from_paths("label", self.paths)

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of ids, in their order, labels, products and what is held out; not of the pictures."""
        digest = hashlib.sha256()
        for item, path in zip(self.items, self.paths, strict=True):
            digest.update(repr((item, path)).encode())
        digest.update(repr(sorted(self.held_out)).encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Contestant:
    """One way to embed pictures and to train on the embeddings.

    `origin` says exactly what embeds (version, checksum, seed): contestants of one origin share their embeddings, and
    finished results count only for the same origin. `oversample`: level-1 classes are drawn equally often in
    training. `fine_tune`: that many of the last residual blocks are trained, too; 0 leaves all frozen. For that
    `backbone` gives the module and the side of its pictures in pixels; ConfigError is raised where it is missing.
    """

    name: str
    origin: str
    embed: Embed
    oversample: bool = False
    fine_tune: int = 0
    backbone: Callable[[], tuple[Backbone, int]] | None = None

    def __post_init__(self) -> None:
        if self.fine_tune and self.backbone is None:
            raise ConfigError(
                f"{self.name} cannot be fine-tuned: it comes without the weights of a ResNet.", hint="Leave it frozen."
            )

    @property
    def slug(self) -> str:
        """The name as a part of file names."""
        return re.sub(r"[^\w.]+", "-", self.name.lower()).strip("-.")

    def rivals(self, other: "Contestant") -> bool:
        """Whether the two differ in oversampling alone."""
        same = (self.origin, self.fine_tune) == (other.origin, other.fine_tune)
        return same and self.oversample != other.oversample


@dataclass(frozen=True)
class StudyOptions:
    """The experiment. Sizes are pictures (thesis, table 6.2); each of the `seeds` draws a split of its own.

    `head` is the classifier's; what it does about rare classes, and its seed, are the contestant's and the run's.
    `views` are the augmented views of each training picture.
    """

    train: int = 411
    validation: int = 157
    test: int = 216
    seeds: int = 5
    views: int = 4
    head: HeadOptions = field(default_factory=HeadOptions)

    def __post_init__(self) -> None:
        if min(self.train, self.validation, self.test, self.seeds) < 1 or self.views < 0:
            raise ConfigError("The sizes of a study and its number of seeds must be positive.")

    @property
    def sizes(self) -> Sizes:
        """Pictures in the three parts, as asked for."""
        return Sizes(self.train, self.validation, self.test)
