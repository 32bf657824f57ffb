"""Look-alikes are labelled images of the project itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from taxonomist.backend.labelling.manifests import import_manifest
from taxonomist.backend.prediction.look_alikes import LookAlikes
from taxonomist.backend.retraining.embedding_job import embed_all
from taxonomist.backend.services import Services
from taxonomist.storage.catalog.documents import ProjectLabels
from tests.small_world import CONFIG, write_catalogue


@pytest.fixture
def two_projects(world: Services, tmp_path: Path) -> Services:
    """Project "8" beside "7", with images of its own."""
    world.projects.update("8", label_config=CONFIG)
    import_manifest(world, write_catalogue(tmp_path / "other", 8, first=80), "8")
    for project in ("7", "8"):
        embed_all(world, project, lambda step, share: None)
    return world


def test_images_of_another_project_are_no_look_alikes(two_projects: Services) -> None:
    look_alikes = LookAlikes(two_projects)
    ids = {project: {d.id for d in two_projects.catalog.documents(project)} for project in ("7", "8")}
    assert not ids["7"] & ids["8"]
    for id in ids["8"]:
        vector = two_projects.embeddings("v1").get([id])[1][0]
        for found in (look_alikes.shown("7", vector, "v1", k=100), look_alikes.nearest("7", vector, "v1", k=100)):
            assert {look_alike.image_id for look_alike in found} == ids["7"]
        assert look_alikes.shown("8", vector, "v1", k=1)[0].image_id == id


def test_an_image_of_both_projects_has_the_labels_of_each(two_projects: Services) -> None:
    """It is a look-alike only where it is labelled."""
    look_alikes = LookAlikes(two_projects)
    shared, other = list(two_projects.catalog.documents("8"))[:2]
    blue = ProjectLabels(uri=shared.projects["8"].uri, accepted={"colour": [["Cold", "Blue"]]})
    two_projects.catalog.put(shared.in_project("7", blue))
    two_projects.catalog.put(other.in_project("7", ProjectLabels(uri=other.projects["8"].uri)))
    vector = two_projects.embeddings("v1").get([shared.id])[1][0]
    found = {look_alike.image_id: look_alike for look_alike in look_alikes.shown("7", vector, "v1", k=100)}
    assert found[shared.id].labels == {"colour": (("Cold", "Blue"),)}
    assert other.id not in found
