"""Two versions on the images of both, against what became of each."""

from __future__ import annotations

import pytest

from taxonomist.backend.services import Services
from taxonomist.backend.status.evaluation.comparison import compare_versions, images_of_change
from taxonomist.taxonomy.errors import NotFoundError
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.training.heads.report.outcomes import ImageOutcome
from tests.small_world import publish_outcomes

RED, YELLOW, BLUE, WARM = ("Warm", "Red"), ("Warm", "Yellow"), ("Cold", "Blue"), ("Warm",)


def outcome(id: str, label: TaxonomyPath, likeliest: TaxonomyPath) -> ImageOutcome:
    return ImageOutcome(id, (label,), likeliest, (0.9, 0.6))


@pytest.fixture
def versions(services: Services) -> Services:
    """Version v2 knows a later label of the image "e"; "a" and "z" are in one test part only."""
    services.projects.update("7", title="Colours")
    publish_outcomes(
        services,
        "7",
        [
            outcome("a", RED, RED),
            outcome("b", RED, RED),
            outcome("c", RED, YELLOW),
            outcome("d", WARM, BLUE),
            outcome("e", RED, RED),
        ],
    )
    publish_outcomes(
        services,
        "7",
        [
            outcome("b", RED, YELLOW),
            outcome("c", RED, RED),
            outcome("d", WARM, RED),
            outcome("e", BLUE, BLUE),
            outcome("z", RED, RED),
        ],
    )
    return services


def test_what_got_better_and_worse(versions: Services) -> None:
    compared = compare_versions(versions, "7", "v2", "v1", "colour")
    assert compared is not None
    assert (compared.images, compared.version.version, compared.other.version) == (4, "v2", "v1")
    whole, top, leaves = compared.changes
    assert (whole.level, whole.total, leaves.level, leaves.total) == (0, 4, 2, 3)
    assert whole.images == {"better": ("c", "d", "e"), "worse": ("b",), "right": (), "wrong": ()}
    assert top.images == {"better": ("d", "e"), "worse": (), "right": ("b", "c"), "wrong": ()}
    assert (whole.right(other=False), whole.right(other=True)) == (3, 1)
    back = compare_versions(versions, "7", "v1", "v2", "colour")
    assert back is not None
    assert back.changes[0].images["worse"] == ("c", "d", "e")  # the labels are those of v2 here, too
    assert images_of_change(versions, "7", "v1", "v2", "colour", 0, "better") == ["b"]


def test_versions_that_cannot_be_compared(versions: Services) -> None:
    publish_outcomes(versions, "7", [outcome("other", RED, RED)])
    assert compare_versions(versions, "7", "v3", "v1", "colour") is None
    for version, other in (("v1", "v1"), ("v1", "v9")):
        with pytest.raises(NotFoundError):
            compare_versions(versions, "7", version, other, "colour")
    with pytest.raises(NotFoundError):
        images_of_change(versions, "7", "v2", "v1", "colour", 5, "better")
