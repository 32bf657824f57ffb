"""A training knows which labels rest on an action that labelled many images."""

from __future__ import annotations

import pytest

from taxonomist.backend.retraining import training_job
from taxonomist.storage.catalog.documents import ImageDocument, ProjectLabels


@pytest.mark.parametrize("bulk", [True, False])
def test_an_example_is_one_of_many_where_its_label_is(bulk: bool) -> None:
    labels = ProjectLabels(uri="/a.jpg", accepted={"colour": [["Warm"]]}, bulk=bulk)
    document = ImageDocument(id="a").in_project("7", labels)
    assert training_job._example("7", document, {}, ()).bulk is bulk
