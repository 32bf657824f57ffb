"""One version of a project's model, loaded for serving: trees, calibrations and the weights of the head."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from taxonomist.inference.heads.head import HEAD_FILE, Head, load_head
from taxonomist.storage.registry import ModelVersion
from taxonomist.taxonomy.calibration import Calibration
from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.suggestion import Suggestion, suggest
from taxonomist.taxonomy.tree import Tree


@dataclass(frozen=True)
class ServingModel:
    """A loaded version. It never changes: a request that begins with it also ends with it.

    The head takes embeddings of the version `backbone` of the backbone. `trees` and `calibrations` are by control.
    """

    version: str
    backbone: str
    trees: Mapping[str, Tree]
    calibrations: Mapping[str, Calibration]
    head: Head

    def with_floors(self, floors: Mapping[str, float]) -> "ServingModel":
        """Return the model with thresholds of at least these, by control; `inf`: the control gets no suggestion.

        These controls get no shortlists: theirs were fitted on the labels on which the thresholds were.
        """
        calibrations = {
            control: replace(
                calibration,
                thresholds=tuple(max(value, floors[control]) for value in calibration.thresholds),
                shortlists=(),
            )
            if control in floors
            else calibration
            for control, calibration in self.calibrations.items()
        }
        return replace(self, calibrations=calibrations)

    def probabilities(self, vectors: npt.NDArray[np.float32]) -> dict[str, FloatArray]:
        """Return, by control, the calibrated probabilities (n, nodes) of the nodes for embeddings (n, d)."""
        temperatures = {control: calibration.temperature for control, calibration in self.calibrations.items()}
        found = self.head.log_probabilities(vectors, self.trees, temperatures)
        return {control: np.exp(log_probabilities) for control, log_probabilities in found.items()}

    def suggestions(self, vectors: npt.NDArray[np.float32]) -> list[dict[str, Suggestion]]:
        """Return, for each of the embeddings (n, d), the suggestion by control; a control without one is absent."""
        suggestions: list[dict[str, Suggestion]] = [{} for _ in vectors]
        for control, probabilities in self.probabilities(vectors).items():
            tree, calibration = self.trees[control], self.calibrations[control]
            for by_control, row in zip(suggestions, probabilities, strict=True):
                if suggestion := suggest(tree, row, calibration):
                    by_control[control] = suggestion
        return suggestions


def load_serving_model(version: ModelVersion) -> ServingModel:
    """Return the model in the files and the manifest of a head's version. Raises `DamagedError` for unreadable files.

    The checksums of the files are not checked here: see `Registry.verify`.
    """
    return ServingModel(
        version=version.version,
        backbone=version.head_manifest.backbone,
        trees=version.head_manifest.trees_by_control,
        calibrations=version.head_manifest.calibration,
        head=load_head(version.path / HEAD_FILE),
    )
