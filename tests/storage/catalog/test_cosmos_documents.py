from __future__ import annotations

from typing import Any

import pytest

from taxonomist.storage.catalog import ImageDocument, ProjectLabels
from taxonomist.storage.catalog.cosmos_documents import body, derived, parse, was_written_by
from taxonomist.taxonomy.errors import DamagedError
from tests.storage.catalog.test_catalog import THESIS

OTHERS = {
    **{name: value for name, value in THESIS.items() if not name.startswith("_")},
    "resolution_width": "480",
    "labels_with_taxonomy": [{"annotator_id": 706, "taxonomy": ["Bath", "Plates"], "theirs": 1}],
    "total_annotations": 1,
}


def test_only_what_was_changed_is_changed() -> None:
    stored = {**OTHERS, "_etag": "1", "_rid": "r", "_ts": 5}
    wanted = parse(stored).model_copy(update={"file_hash": "new"})
    written = body(wanted, "m1", stored)
    assert written == {
        **OTHERS,
        "file_hash": "new",
        "taxonomist": {"projects": [], "labelled": [], "writes": ["m1"]},
    }


def test_a_write_is_known_by_its_mark_until_eight_others_followed() -> None:
    stored: dict[str, Any] = {}
    for number in range(9):
        stored = body(ImageDocument(id="a"), f"m{number}", stored, whole=number % 2 == 1)
    assert not was_written_by("m0", stored)
    assert all(was_written_by(f"m{number}", stored) for number in range(1, 9))
    assert not was_written_by("m0", {"id": "a", "taxonomist": {"writes": "m0"}})


def test_membership_is_derived_from_the_projects() -> None:
    document = ImageDocument(id="a").in_project("5", ProjectLabels(uri="u", accepted={"media": [["A"]]}))
    document = document.in_project("4", ProjectLabels(uri="u", accepted={"media": []}))
    assert derived(document) == {"projects": ["4", "5"], "labelled": ["5"]}


def test_a_document_that_cannot_be_read_is_named() -> None:
    with pytest.raises(DamagedError, match=r"document a .* sortout_testset"):
        parse({"id": "a", "sortout_testset": "perhaps"})
