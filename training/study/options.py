"""The options of a study."""

from dataclasses import dataclass, field

from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.heads.head import HeadOptions
from taxonomist.training.study.split import Sizes


@dataclass(frozen=True)
class StudyOptions:
    """The experiment. Sizes count images (thesis, table 6.2); each of the `seeds` draws a split of its own.

    `views` counts the augmented views of each training image. `head` is how a classifier is trained, but for rare
    classes and the seed, which contestant and run decide. Raises ConfigError when a size or `seeds` is not positive.
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
        """The requested numbers of images in the three parts."""
        return Sizes(self.train, self.validation, self.test)
