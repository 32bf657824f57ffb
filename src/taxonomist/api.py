"""The Python API: open a home folder and ask its projects. `import taxonomist` offers everything in here.

    import taxonomist

    with taxonomist.open_home("~/taxonomist-home") as home:
        project = home.project("furniture")
        for prediction in project.predict(["chair.jpg", "table.jpg"]):
            print(prediction.image, prediction.path, prediction.score)

Images that are passed to a project are neither stored nor added to its catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from taxonomist.backend.labelling.decisions import decide_after_migration
from taxonomist.backend.labelling.manifests.accepted_labels import Label, accepted_labels
from taxonomist.backend.prediction.assistance import Assistance, assist
from taxonomist.backend.prediction.evaluation import EvaluatedImage, LevelScores, ManifestScores, evaluate_manifest
from taxonomist.backend.prediction.image_inputs import EmbeddedInputs, ImageInput, embed_inputs
from taxonomist.backend.prediction.image_predictions import Prediction, look_alikes_of_image, predict_images
from taxonomist.backend.prediction.label_checks import LabelFinding, audit_labels
from taxonomist.backend.prediction.look_alikes import LookAlike
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.retraining.training_result import ControlResult, TrainingResult
from taxonomist.backend.services import Services
from taxonomist.backend.settings import load_settings
from taxonomist.backend.worker.training_now import train_now
from taxonomist.progress import StepProgress, ignore_steps
from taxonomist.taxonomy.errors import ConfigError, NotFoundError, TaxonomistError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Assistance",
    "ControlResult",
    "EvaluatedImage",
    "Home",
    "ImageInput",
    "Label",
    "LabelFinding",
    "LevelScores",
    "LookAlike",
    "ManifestScores",
    "Prediction",
    "Project",
    "Table",
    "TaxonomistError",
    "TrainingResult",
    "open_home",
]

Row = TypeVar("Row")


class Table(list[Row], Generic[Row]):
    """A list of dataclasses that can become a data frame."""

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas `DataFrame` with a column for each field. Raises `ConfigError` when pandas is missing."""
        try:
            import pandas as pd  # noqa: PLC0415 - optional
        except ImportError:
            raise ConfigError("A data frame needs pandas.", hint="pip install pandas") from None
        return pd.DataFrame([vars(row) for row in self])


class Home:
    """A home folder; use it in a `with` block, or `close` it."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @property
    def path(self) -> Path:
        """The folder."""
        return self._services.settings.home

    def projects(self) -> list[Project]:
        """Return all projects, in order of their names."""
        return [Project(self._services, record.project) for record in self._services.projects]

    def project(self, name: str | int | None = None) -> Project:
        """Return a project by its number in Label Studio or its name; without a name the only one there is.

        Raises `NotFoundError` that lists the known projects.
        """
        known = [record.project for record in self._services.projects]
        if name is None and len(known) == 1:
            return Project(self._services, known[0])
        if name is None or str(name) not in known:
            problem = "Name one project." if name is None else f"There is no project {str(name)!r}."
            raise NotFoundError(problem, hint=f"Known projects: {', '.join(known) or 'none'}.")
        return Project(self._services, str(name))

    def close(self) -> None:
        """Close the connections to Azure, if there are any."""
        self._services.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Home({str(self.path)!r})"


class Project:
    """A project: its labels, and its champion for images of any origin."""

    def __init__(self, services: Services, name: str) -> None:
        self.name = name
        self._services = services
        self._predictor = Predictor(services)

    def __repr__(self) -> str:
        return f"Project({self.name!r})"

    @property
    def version(self) -> str | None:
        """The version of the served head, such as "v3"; None while there is none."""
        model = self._predictor.model(self.name)
        return model.version if model else None

    def labels(self, *, unlabelled: bool = False) -> Table[Label]:
        """Return the accepted labels, in order of image ids; with `unlabelled` also the images without one."""
        return Table(accepted_labels(self._services, self.name, unlabelled=unlabelled))

    def audit(self, progress: StepProgress = ignore_steps) -> Table[LabelFinding]:
        """Return the accepted labels that may be wrong, the most doubtful first; nothing is changed.

        Images without an embedding are not checked. Raises `NotFoundError` when there is no labelled image with one.
        """
        return Table(audit_labels(self._services, self.name, progress).findings)

    def predict(self, images: Sequence[ImageInput]) -> Table[Prediction]:
        """Return a prediction for each image and control, in order.

        Before the first training, look-alikes vote. An image that cannot be read has the reason in `error`. Raises
        `NotFoundError` when the home has no backbone yet.
        """
        return Table(predict_images(self._services, self.name, images, self._predictor))

    def similar(self, image: ImageInput, k: int | None = None) -> Table[LookAlike]:
        """Return the `k` labelled images that look most like `image`, best first; `k` defaults to the setting
        `neighbours`.

        Raises `TaxonomistError` for an image that cannot be read.
        """
        return Table(look_alikes_of_image(self._services, self.name, image, k, self._predictor))

    def assist(self, image: ImageInput, k: int | None = None) -> Assistance:
        """Return what the panel in the labelling screen shows for `image`: its suggestion with alternatives, and its
        `k` look-alikes by their labels, or why there is no suggestion; `k` as for `similar`.

        Raises `TaxonomistError` for an image that cannot be read.
        """
        return assist(self._services, self.name, image, k, self._predictor)

    def embed(self, images: Sequence[ImageInput]) -> NDArray[np.float32]:
        """Return the embeddings (n, d) of `images` by the backbone that serves this project.

        Raises `TaxonomistError` for the first image that cannot be read.
        """
        embedded = self._embed(images)
        if embedded.errors:
            raise embedded.errors[min(embedded.errors)]
        return embedded.vectors

    def evaluate(self, manifest: str | Path, *, images: str | Path | None = None) -> ManifestScores:
        """Return the scores of the champion on a manifest of labelled images that it was not trained on.

        `manifest` is a CSV with `file, level1, level2, …`; `images` is the folder of its files. The row of each image
        is in `per_image`; `Table(scores.per_image).to_frame()` makes a data frame of them. Raises `NotFoundError` when
        there is no champion, `ConfigError` when the manifest cannot be used.
        """
        return evaluate_manifest(self._services, self.name, Path(manifest), images=Path(images) if images else None)

    def train(self, progress: StepProgress = ignore_steps, *, force: bool = False) -> TrainingResult:
        """Train a model on the accepted labels, serve it unless it is clearly worse, and return the figures of both.

        Where nothing is new, nothing is trained, unless `force` is given. Raises `TrainingError` when there are too few
        labels, `ConflictError` while the project is being forgotten.
        """
        return train_now(self._services, self.name, progress, force=force)

    def _embed(self, images: Sequence[ImageInput]) -> EmbeddedInputs:
        backbone = self._predictor.backbone(self.name)
        if backbone is None:
            raise NotFoundError("There is no backbone yet.", hint=f"taxonomist embed --project {self.name}")
        return embed_inputs(self._services, self.name, images, backbone)


def open_home(path: str | Path | None = None, **settings: object) -> Home:
    """Return the home folder at `path`, by default that of `TAXONOMIST_HOME` or `taxonomist.toml`.

    `settings` are further settings by name, such as `neighbours=20`; they win over environment and file. Raises
    `NotFoundError` when there is no such folder, `DamagedError` when a newer release made it, `ConfigError` for a wrong
    setting. A home of an earlier release is migrated.
    """
    home = None if path is None else Path(path).expanduser()
    services = Services(load_settings(home=home, **settings))
    if not services.settings.home.is_dir():
        raise NotFoundError(
            f"There is no home folder {services.settings.home}.",
            hint="`taxonomist import` makes one.",
        )
    if services.open_existing_home():
        decide_after_migration(services)
    return Home(services)
