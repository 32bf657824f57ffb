"""The stage that chooses images: which ones, what is written, and why the others are left out."""

from __future__ import annotations

import base64
import csv
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from taxonomist.backend.data_stages.files import ChosenImage, read_query, write_query
from taxonomist.backend.data_stages.query import NO_ADDRESS, UNEXPLAINED, QueryOptions, run_query
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog import ImageDocument, LabelQuery
from taxonomist.taxonomy.errors import ConfigError

RED, YELLOW, BLUE = ["Warm", "Red"], ["Warm", "Yellow"], ["Cold", "Blue"]


def annotated(*paths: list[str], by: int = 3, **fields: Any) -> dict[str, Any]:
    return {"annotator_id": by, "taxonomy": list(paths), **fields}


def in_project(*paths: list[str], **fields: Any) -> dict[str, Any]:
    return {"uri": "/ours.jpg", "accepted": {"colour": list(paths)} if paths else {}, **fields}


DOCUMENTS: list[dict[str, Any]] = [
    {
        "id": "a",
        "projects": {"7": in_project(RED, group="p1")},
        "labels_with_taxonomy": [annotated(RED)],
        "file_hash": "aa",
    },
    {"id": "b", "projects": {"7": in_project(RED, BLUE, part="train")}, "labels_with_taxonomy": [annotated(RED, BLUE)]},
    {
        "id": "c",
        "uri_orig": "c.jpg",
        "labels_with_taxonomy": [annotated(YELLOW), annotated(YELLOW, by=4)],
        "has_review": True,
    },
    {"id": "d", "uri_orig": "d.jpg", "labels_with_taxonomy": [annotated(YELLOW), annotated(BLUE, by=4)]},
    {"id": "e", "uri_orig": "e.jpg", "servicereport_filename": "0057.PDF", "sortout_testset": True},
    {"id": "f", "uri_orig": "f.jpg", "is_blurred": True},
    {"id": "g", "uri_orig": "g.jpg", "face_rects": [[1, 2, 3, 4]], "is_blurred": True},
    {"id": "h"},
    {"id": "i", "projects": {"8": in_project(), "7": in_project(YELLOW, part="test", bulk=True)}},
]


@pytest.fixture
def filled(services: Services) -> Services:
    for document in DOCUMENTS:
        services.catalog.put(ImageDocument.model_validate(document))
    return services


def ids(folder: Path) -> str:
    return "".join(image.id for image in read_query(folder))


def test_what_is_written_of_each_image(filled: Services, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    result = run_query(filled, LabelQuery(), tmp_path / "out", progress=lambda *counts: calls.append(counts))
    assert {image.id: image for image in read_query(tmp_path / "out")} == {
        "a": ChosenImage("a", "/ours.jpg", "", "7", "p1", "aa", "", ("Warm", "Red")),
        "b": ChosenImage("b", "/ours.jpg", "", "7", "", "", "train", ("Warm", "Red")),
        "c": ChosenImage("c", "c.jpg", path=("Warm", "Yellow")),  # two of two agree
        "d": ChosenImage("d", "d.jpg"),  # they do not agree
        "e": ChosenImage("e", "e.jpg", group="0057.PDF", part="test"),
        "i": ChosenImage("i", "/ours.jpg", "", "7", "", "", "test", ("Warm", "Yellow"), bulk="yes"),
    }
    left_out = {"is blurred": 1, "shows faces or personal data": 1, NO_ADDRESS: 1}
    assert (result.images, result.labelled, result.labels, result.left_out) == (6, 4, {"Warm": 4}, left_out)
    report = json.loads((tmp_path / "out" / "query.json").read_text())
    assert (report["images"], report["left_out"], report["query"]["blurred"]) == (6, left_out, False)
    assert report["pictures"] == report["images"]  # the former name
    containers = json.loads((tmp_path / "out" / "containers.json").read_text())
    assert containers == dict.fromkeys("abcdei", "")
    assert calls[-1] == (9, 9)


@pytest.mark.parametrize(
    ("query", "found", "left_out"),
    [
        (LabelQuery(labelled=True), "abcd", {"has no labels": 3}),
        (LabelQuery(labelled=False), "ei", {"has labels": 4}),
        (LabelQuery(project="7"), "abi", {}),
        (LabelQuery(include=("Blue",)), "bd", {"has none of the labels to include": 5}),
        (LabelQuery(exclude=("Blue",)), "acei", {"has a label to exclude": 2}),
        (LabelQuery(reviewed=True), "c", {"is not reviewed": 6}),
        (LabelQuery(blurred=None), "abcdefi", {"shows faces or personal data": 1}),
    ],
)
def test_why_the_others_are_left_out(
    filled: Services, tmp_path: Path, query: LabelQuery, found: str, left_out: dict[str, int]
) -> None:
    result = run_query(filled, query, tmp_path)
    assert ids(tmp_path) == found
    examined = 3 if query.project else len(DOCUMENTS)
    assert result.images + sum(result.left_out.values()) == examined
    assert left_out.items() <= result.left_out.items()


def test_the_label_is_one_that_the_query_includes(filled: Services, tmp_path: Path) -> None:
    run_query(filled, LabelQuery(include=("Blue",)), tmp_path)
    assert {image.id: image.path for image in read_query(tmp_path)} == {"b": ("Cold", "Blue"), "d": ()}
    run_query(filled, LabelQuery(project="7"), tmp_path, QueryOptions(control="shape"))
    assert {image.path for image in read_query(tmp_path)} == {()}


def test_private_images_are_chosen_only_where_allowed(filled: Services, tmp_path: Path) -> None:
    everything = LabelQuery(blurred=None)
    run_query(filled, everything, tmp_path)
    assert "g" not in ids(tmp_path)
    allowed = Services(filled.settings.model_copy(update={"allow_private": True}))
    run_query(allowed, everything, tmp_path)
    assert "g" in ids(tmp_path)


@pytest.mark.parametrize(("setting", "path"), [({"require_review": True}, ()), ({"min_annotators": 3}, ())])
def test_labels_outside_projects_follow_the_rule_of_agreement(
    filled: Services, tmp_path: Path, setting: dict[str, Any], path: tuple[str, ...]
) -> None:
    filled.catalog.put(ImageDocument.model_validate(DOCUMENTS[2] | {"has_review": False}))
    services = Services(Settings(home=filled.settings.home, **setting))
    run_query(services, LabelQuery(), tmp_path)
    assert next(image.path for image in read_query(tmp_path) if image.id == "c") == path


def test_images_of_no_project_get_their_address_from_a_pattern(filled: Services, tmp_path: Path) -> None:
    filled.catalog.put(ImageDocument(id="e ü#.jpg", uri_orig="e.jpg"))
    options = QueryOptions(address="azure-blob://images/{id}")
    result = run_query(filled, LabelQuery(), tmp_path, options)
    addresses = {image.id: image.uri for image in read_query(tmp_path)}
    assert addresses["a"] == "/ours.jpg"
    assert addresses["c"] == "azure-blob://images/c"
    assert addresses["e ü#.jpg"] == "azure-blob://images/e ü#.jpg"
    run_query(filled, LabelQuery(), tmp_path, QueryOptions(address="https://h/{id}"))
    assert "https://h/e%20%C3%BC%23.jpg" in {image.uri for image in read_query(tmp_path)}
    assert addresses["h"] == "azure-blob://images/h"
    assert NO_ADDRESS not in result.left_out
    with pytest.raises(ConfigError, match="an unknown"):
        run_query(filled, LabelQuery(), tmp_path, QueryOptions(address="azure-blob://images/{name}"))


def test_signatures_of_our_own_account_are_removed(filled: Services, tmp_path: Path) -> None:
    key = base64.b64encode(b"no key").decode()
    ours = f"DefaultEndpointsProtocol=https;AccountName=mine;AccountKey={key};EndpointSuffix=core.windows.net"
    services = Services(filled.settings.model_copy(update={"blob_connection_string": SecretStr(ours)}))
    signed = "https://{}.blob.core.windows.net/images/{}.jpg?sv=2026&sp=r&sig=secret"
    filled.catalog.put(ImageDocument(id="c", uri_orig=signed.format("mine", "c")))
    filled.catalog.put(ImageDocument(id="d", uri_orig=signed.format("theirs", "d")))
    run_query(services, LabelQuery(), tmp_path)
    services.blob_account.close()
    addresses = {image.id: image.uri for image in read_query(tmp_path)}
    assert addresses["c"] == "https://mine.blob.core.windows.net/images/c.jpg"
    assert addresses["d"] == signed.format("theirs", "d")  # it cannot be read without


def test_without_reasons_the_others_are_counted_only(filled: Services, tmp_path: Path) -> None:
    result = run_query(filled, LabelQuery(labelled=True), tmp_path, QueryOptions(reasons=False))
    assert (result.images, result.left_out) == (4, {"is not wanted": 5})


def test_a_document_that_the_database_reads_differently_is_counted_as_such(filled: Services, tmp_path: Path) -> None:
    """Another program wrote a string for a boolean: our documents take it for true, the query does not."""
    filled.catalog.put(ImageDocument(id="e", uri_orig="e.jpg", has_review=True))
    with filled.catalog._database.write() as connection:  # type: ignore[attr-defined]
        connection.execute("UPDATE documents SET body = json_set(body, '$.has_review', 'true') WHERE id = 'c'")
    result = run_query(filled, LabelQuery(reviewed=True), tmp_path)
    assert ids(tmp_path) == "e"
    assert result.left_out[UNEXPLAINED] == 1
    assert result.images + sum(result.left_out.values()) == len(DOCUMENTS)


def test_no_image_chosen_is_an_error_with_the_main_reason(filled: Services, services: Services, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="chose no image") as caught:
        run_query(filled, LabelQuery(include=("Green",)), tmp_path / "out")
    assert "has none of the labels to include" in str(caught.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="catalogue is empty"):
        run_query(Services(Settings(home=tmp_path / "new")), LabelQuery(), tmp_path / "out")


def test_the_log_has_counts_and_reasons(filled: Services, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        run_query(filled, LabelQuery(), tmp_path)
    assert "the query chose 6 images, 4 of them labelled" in caplog.text
    assert "left out: 1, each is blurred" in caplog.text


def test_files_are_read_as_written_and_after_an_edit_by_hand(tmp_path: Path) -> None:
    deep = tuple(f'level {number}, "quoted"\nand more' for number in range(12))
    chosen = [
        ChosenImage("a", "data:image/png;base64," + "A" * 200_000, path=deep),
        ChosenImage("b", "b.jpg", group="Ü"),
    ]
    write_query(tmp_path, chosen, {})
    assert read_query(tmp_path) == chosen
    with (tmp_path / "query.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([["uri", "id", "level1"], ["a.jpg", "a", "Warm"]])  # saved by a spreadsheet
    assert read_query(tmp_path) == [ChosenImage("a", "a.jpg", path=("Warm",))]
    (tmp_path / "query.csv").write_text("id,level1\na,Warm\n")
    with pytest.raises(ConfigError, match="no column 'uri'"):
        read_query(tmp_path)
    with pytest.raises(ConfigError, match="data query --out"):
        read_query(tmp_path / "none")
