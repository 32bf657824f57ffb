"""What a training keeps of its test images agrees with the figures of the version."""

from __future__ import annotations

import pytest

from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.status.evaluation.outcomes import control_outcomes
from taxonomist.taxonomy.errors import NotFoundError


def test_outcomes_have_the_accuracy_of_the_version(trained: Services) -> None:
    outcomes = control_outcomes(trained, "7", "v1", "colour")
    manifest = trained.registry.get(registry_name("7"), "v1").head_manifest
    assert manifest.tested is not None
    assert len(outcomes.images) == outcomes.tested == manifest.tested.images == 16
    for level in manifest.metrics["colour"].levels:
        pairs = outcomes.pairs[level.level]
        assert (len(pairs), sum(pair.true == pair.predicted for pair in pairs)) == (
            level.support,
            level.accuracy * level.support,
        )
    with pytest.raises(NotFoundError):
        control_outcomes(trained, "7", "v1", "taste")
    with pytest.raises(NotFoundError):
        control_outcomes(trained, "7", "v9", "colour")
