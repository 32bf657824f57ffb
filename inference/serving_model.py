"""One version of a project's model, loaded for serving: trees, calibrations and the weights of the head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from taxonomist.inference.heads.discriminant_weights import DiscriminantHead
from taxonomist.inference.heads.fusion import FUSION_FILE, Fusion, load_fusions, mean_features
from taxonomist.inference.heads.head import HEAD_FILE, Head, load_head
from taxonomist.inference.look_alike_projection import PROJECTION_FILE, LookAlikeProjection
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.calibration import Calibration
from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.suggestion import Suggestion, suggest
from taxonomist.taxonomy.tree import Tree


@dataclass(frozen=True)
class ServingModel:
    """A loaded version. It never changes: a request that begins with it also ends with it.

    The head takes embeddings of the version `backbone` of the backbone. `trees` and `calibrations` are by control.
    So are `fusions`, which predict several images of a product together, and their calibrations. `look_alikes` is
    the space of look-alikes, None where they are compared by the embeddings as they are.
    """

    version: str
    backbone: str
    trees: Mapping[str, Tree]
    calibrations: Mapping[str, Calibration]
    head: Head
    fusions: Mapping[str, Fusion] = field(default_factory=dict)
    fused_calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    look_alikes: LookAlikeProjection | None = None

    def with_floors(self, floors: Mapping[str, float]) -> "ServingModel":
        """Return the model with thresholds of at least these, by control; `inf`: the control gets no suggestion.

        These controls get no shortlists: theirs were fitted on the labels on which the thresholds were.
        """
        return replace(
            self,
            calibrations=_raised(self.calibrations, floors),
            fused_calibrations=_raised(self.fused_calibrations, floors),
        )

    def probabilities(self, vectors: npt.NDArray[np.float32]) -> dict[str, FloatArray]:
        """Return, by control, the calibrated probabilities (n, nodes) of the nodes for embeddings (n, d)."""
        temperatures = {control: calibration.temperature for control, calibration in self.calibrations.items()}
        found = self.head.log_probabilities(vectors, self.trees, temperatures)
        return {control: np.exp(log_probabilities) for control, log_probabilities in found.items()}

    def suggestions(
        self, vectors: npt.NDArray[np.float32], others: Sequence[npt.NDArray[np.float32]] | None = None
    ) -> list[dict[str, Suggestion]]:
        """Return, for each of the embeddings (n, d), the suggestion by control; a control without one is absent.

        `others` has for each image the embeddings (m, d) of other images of its product, with which it is predicted
        together; without any, it is predicted alone.
        """
        return [
            {
                control: replace(suggestion, images=found.images) if found.images > 1 else suggestion
                for control, found in by_control.items()
                if (suggestion := suggest(self.trees[control], found.probabilities, found.calibration))
            }
            for by_control in self.assessments(vectors, others)
        ]

    def assessments(
        self, vectors: npt.NDArray[np.float32], others: Sequence[npt.NDArray[np.float32]] | None = None
    ) -> list[dict[str, "Assessment"]]:
        """Return, for each of the embeddings (n, d), what its suggestions are chosen from, by control.

        `others` are those of `suggestions`.
        """
        found: list[dict[str, Assessment]] = [{} for _ in vectors]
        for control, probabilities in self.probabilities(vectors).items():
            for by_control, alone in zip(found, probabilities, strict=True):
                by_control[control] = Assessment(alone, self.calibrations[control])
        several = [row for row, more in enumerate(others or ()) if len(more)]
        if others and several and isinstance(self.head, DiscriminantHead):
            more = [others[row] for row in several]
            for control, fusion in self.fusions.items():
                tree, head = self.trees[control], self.head.discriminants[control]
                means, sizes = mean_features(vectors[several], more, head.space)
                fused = fusion.probabilities(head, tree, vectors[several], means, sizes)
                for row, size, together in zip(several, sizes.tolist(), fused, strict=True):
                    found[row][control] = Assessment(together, self.fused_calibrations[control], size)
        return found


@dataclass(frozen=True)
class Assessment:
    """The calibrated probabilities (nodes,) of a control's nodes for an image, and the calibration they belong to.

    `images` of one product were predicted together.
    """

    probabilities: FloatArray
    calibration: Calibration
    images: int = 1


def _raised(calibrations: Mapping[str, Calibration], floors: Mapping[str, float]) -> dict[str, Calibration]:
    return {
        control: replace(
            calibration,
            thresholds=tuple(max(value, floors[control]) for value in calibration.thresholds),
            shortlists=(),
        )
        if control in floors
        else calibration
        for control, calibration in calibrations.items()
    }


def load_serving_model(version: ModelVersion) -> ServingModel:
    """Return the model in the files and the manifest of a head's version. Raises `DamagedError` for unreadable files.

    The checksums of the files are not checked here: see `Registry.verify`.
    """
    fused, look_alikes = version.head_manifest.fused, version.head_manifest.look_alikes
    return ServingModel(
        version=version.version,
        backbone=version.head_manifest.backbone,
        trees=version.head_manifest.trees_by_control,
        calibrations=version.head_manifest.calibration,
        head=load_head(version.path / HEAD_FILE),
        fusions=load_fusions(version.path / FUSION_FILE) if fused else {},
        fused_calibrations=fused,
        look_alikes=LookAlikeProjection.load(version.path / PROJECTION_FILE)
        if look_alikes and look_alikes.served
        else None,
    )
