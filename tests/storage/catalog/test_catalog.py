import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from taxonomist.storage.catalog import AnnotatorLabels, Catalog, ImageDocument, LabelQuery, ProjectLabels, SqliteCatalog
from taxonomist.storage.catalog.cosmos import CosmosCatalog
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.sqlite import Database
from taxonomist.taxonomy.errors import ConflictError, DamagedError

# Listings 4.1 and 4.3 of the thesis, with the paths of one annotator closed properly.
THESIS: dict[str, Any] = {
    "id": "adfe8c8ed.jpeg",
    "uri_orig": "aa2ade1ccabe0.jpeg",
    "file_hash": "5f9d04d3606",
    "text": None,
    "artnr_ocr": None,
    "pii_entities": None,
    "face_rects": None,
    "is_blurred": False,
    "resolution_width": 480,
    "resolution_height": 640,
    "servicereport_artnr": ["146.110.CG.1"],
    "servicereport_filename": "0057.PDF",
    "sortout": "Keep",
    "sortout_testset": True,
    "_rid": "H4tAAAAAAA==",
    "_self": "dbsH4t5AAcollsHA=",
    "_attachments": "attachments/",
    "has_imagerecognition_labels": True,
    "_ts": 1636077823,
    "labels_with_taxonomy": [
        {"annotator_id": 706, "taxonomy": [["Badezimmersysteme", "Betätigungsplatten"]]},
        {"annotator_id": 709, "taxonomy": [["Badezimmersysteme"], ["Badezimmersysteme", "Geberit AquaClean"]]},
    ],
    "total_annotations": 2,
    "has_review": True,
    "field_of_somebody_else": {"kept": [1, 2, None]},
}


SYSTEM = {"_rid", "_self", "_attachments", "_ts"}
"""Fields that belong to Cosmos DB, which gives them its own values."""


@pytest.fixture(params=["sqlite", pytest.param("cosmos", marks=pytest.mark.slow)])
def catalog(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Catalog]:
    if request.param == "sqlite":
        with SqliteCatalog(tmp_path / "catalog.sqlite") as catalog:
            yield catalog
    else:
        monkeypatch.setattr("taxonomist.storage.catalog.cosmos_items._PAGE", 500)
        with CosmosCatalog(request.getfixturevalue("cosmos_access")) as cosmos:
            yield cosmos


def labels(**changes: Any) -> ProjectLabels:
    return ProjectLabels(uri="/data/upload/4/a.jpg", **changes)


def member(id: str, project: str = "4", accepted: dict[str, list[list[str]]] | None = None) -> ImageDocument:
    return ImageDocument(id=id).in_project(project, labels(accepted=accepted or {}))


def test_a_document_of_the_thesis_keeps_every_field(catalog: Catalog) -> None:
    stored = catalog.put(ImageDocument.model_validate(THESIS))
    read = catalog.get(THESIS["id"])
    assert read == stored
    assert read is not None
    assert read.etag
    content = read.to_json()
    own = THESIS.keys() - SYSTEM
    assert {name: content[name] for name in own} == {name: THESIS[name] for name in own}
    assert read.labels_with_taxonomy[1].taxonomy[1] == ["Badezimmersysteme", "Geberit AquaClean"]


def test_a_single_path_may_be_written_flat_as_in_the_listing() -> None:
    entry = AnnotatorLabels.model_validate({"annotator_id": 706, "taxonomy": ["Badezimmersysteme", "WCs"]})
    assert entry.taxonomy == [["Badezimmersysteme", "WCs"]]


def test_a_document_with_nothing_but_an_id(catalog: Catalog) -> None:
    catalog.put(ImageDocument.model_validate({"id": "a", "labels_with_taxonomy": None, "projects": None}))
    read = catalog.get("a")
    assert read is not None
    assert (read.labels_with_taxonomy, read.projects, read.total_annotations) == ([], {}, None)
    assert catalog.get("b") is None
    assert catalog.get_many(["a", "b", "a"]) == {"a": read}


def test_an_etag_guards_a_write(catalog: Catalog) -> None:
    first = catalog.put(ImageDocument(id="a"))
    second = catalog.put(first.model_copy(update={"sortout": "Keep"}), if_match=first.etag)
    assert second.etag != first.etag
    with pytest.raises(ConflictError):
        catalog.put(first, if_match=first.etag)
    with pytest.raises(ConflictError):
        catalog.put(ImageDocument(id="missing"), if_match="x")
    assert catalog.get("a") == second


def test_update_makes_changes_and_leaves_alone(catalog: Catalog) -> None:
    made = catalog.update("a", lambda document: document.model_copy(update={"file_hash": "1"}))
    assert made.file_hash == "1"
    assert catalog.update("a", lambda document: None) == made
    assert catalog.update("a", lambda document: document.model_copy(update={"file_hash": "1"})).etag == made.etag
    assert catalog.update("b", lambda document: None).etag is None
    assert catalog.get("b") is None


def test_update_many_tells_how_many_were_written(catalog: Catalog) -> None:
    assert catalog.update_many({"a": lambda document: document, "b": lambda document: None}) == 1
    assert catalog.update_many({}) == 0


def test_projects_and_labels_can_be_asked_for(catalog: Catalog) -> None:
    path = {"media": [["A", "B"]]}
    catalog.put(member("a", "4", path))
    catalog.put(member("b", "4", {"media": []}))
    catalog.put(member("c", "5", path))
    catalog.put(ImageDocument(id="d"))

    def ids(*arguments: Any, **options: Any) -> list[str]:
        found = [document.id for document in catalog.documents(*arguments, **options)]
        assert catalog.count(*arguments, **options) == len(found)
        return found

    assert ids() == ["a", "b", "c", "d"]
    assert ids("4") == ["a", "b"]
    assert ids("4", labelled=True) == ["a"]
    assert ids("4", labelled=False) == ["b"]
    assert ids(labelled=True) == ["a", "c"]
    assert ids(labelled=False) == ["b", "d"]
    assert ids("absent") == []
    assert catalog.projects() == ["4", "5"]


def test_leaving_a_project_keeps_the_rest(catalog: Catalog) -> None:
    document = ImageDocument.model_validate({**THESIS, "id": "a"}).in_project("5", labels())
    document = document.in_project(
        "4", labels(accepted={"media": [["A"]]}, updated_at=datetime(2026, 1, 1, tzinfo=UTC))
    )
    document = document.annotated("4", [AnnotatorLabels(annotator_id=3, taxonomy=[["A"]])], has_review=False)
    assert document.total_annotations == 3
    catalog.put(document)
    catalog.leave_project("4", ["a", "missing"])
    left = catalog.get("a")
    assert left is not None
    assert list(left.projects) == ["5"]
    assert [entry.annotator_id for entry in left.labels_with_taxonomy] == [706, 709]
    assert left.total_annotations == 2
    assert catalog.projects() == ["5"]
    assert catalog.get("missing") is None


def test_labels_of_a_project_replace_its_older_ones() -> None:
    document = ImageDocument(id="a").annotated(
        "4", [AnnotatorLabels(annotator_id=1, taxonomy=[["A"]])], has_review=True
    )
    document = document.annotated("4", [], has_review=False)
    assert (document.labels_with_taxonomy, document.total_annotations) == ([], 0)
    assert document.has_imagerecognition_labels is False


def test_accepted_paths_are_tuples() -> None:
    accepted = labels(accepted={"media": [["A", "B"]], "room": []})
    assert accepted.paths("media") == (("A", "B"),)
    assert accepted.paths("room") == accepted.paths("unknown") == ()
    assert accepted.labelled
    assert not labels(accepted={"room": []}).labelled


def test_get_many_gives_what_is_there(catalog: Catalog) -> None:
    catalog.update_many({f"{number}": lambda document: document for number in range(40)})
    found = catalog.get_many([*(f"{number}" for number in range(20, 60)), "20", "", "a/b"])
    assert set(found) == {f"{number}" for number in range(20, 40)}
    assert all(id == document.id and document.etag for id, document in found.items())


def test_find_gives_documents_in_order(catalog: Catalog) -> None:
    path = {"media": [["A", "B"]]}
    for id in ("c", "a"):
        document = member(id, "4", path)
        catalog.put(document.annotated("4", [AnnotatorLabels(annotator_id=1, taxonomy=[["A", "B"]])], has_review=True))
    catalog.put(ImageDocument(id="b", is_blurred=True))
    catalog.put(ImageDocument(id="d", face_rects=[[0, 0, 9, 9]]))

    def ids(query: LabelQuery) -> list[str]:
        return [found.document.id for found in catalog.find(query)]

    assert ids(LabelQuery()) == ["a", "c"]
    assert ids(LabelQuery(blurred=None)) == ["a", "b", "c"]
    assert ids(LabelQuery(blurred=None, private=None)) == ["a", "b", "c", "d"]
    assert ids(LabelQuery(private=True)) == ["d"]
    assert ids(LabelQuery(include=("B",), reviewed=True, min_annotators=1, project="4")) == ["a", "c"]
    assert ids(LabelQuery(include=("B",), exclude=("A",))) == []
    assert ids(LabelQuery(project="5")) == []
    assert [found.document for found in catalog.find(LabelQuery(labelled=True))] == [
        catalog.get("a"),
        catalog.get("c"),
    ]


def test_many_documents_come_in_pages(catalog: Catalog) -> None:
    ids = [f"{number:05}" for number in range(1203)]
    assert catalog.update_many({id: lambda document: document for id in ids}) == 1203
    found: list[str] = []
    for document in catalog.documents():
        if len(found) == 10:  # a write while we read
            catalog.put(ImageDocument(id="99999"))
        found.append(document.id)
    assert found == [*ids, "99999"]


def test_threads_lose_no_update(catalog: Catalog) -> None:
    def count(document: ImageDocument) -> ImageDocument:
        return document.model_copy(update={"total_annotations": (document.total_annotations or 0) + 1})

    threads = [threading.Thread(target=lambda: [catalog.update("a", count) for _ in range(25)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = catalog.get("a")
    assert read is not None
    assert read.total_annotations == 200


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteCatalog]:
    with SqliteCatalog(tmp_path / "catalog.sqlite") as catalog:
        yield catalog


def test_sqlite_updates_all_or_nothing(sqlite: SqliteCatalog) -> None:
    def broken(document: ImageDocument) -> ImageDocument:
        raise RuntimeError(document.id)

    with pytest.raises(RuntimeError):
        sqlite.update_many({"a": lambda document: document, "b": broken})
    assert sqlite.count() == 0


def test_sqlite_names_a_document_that_cannot_be_read(sqlite: SqliteCatalog, tmp_path: Path) -> None:
    sqlite.put(ImageDocument(id="a"))
    database = Database(tmp_path / "catalog.sqlite", "SELECT 1")
    with database.write() as connection:
        connection.execute("""UPDATE documents SET body = '{"id": "a", "resolution_width": "wide"}'""")
    database.close()
    with pytest.raises(DamagedError, match=r"document a .* resolution_width"):
        sqlite.get("a")
    assert list(sqlite.find(LabelQuery())) == []


def test_documents_that_nothing_uses_are_dropped(catalog: Catalog) -> None:
    ours, kept, twice = (image_id(f"/{name}.jpg") for name in ("ours", "kept", "twice"))
    for id, uri in ((ours, "/ours.jpg"), (kept, "/kept.jpg"), (twice, "/twice.jpg")):
        document = member(id).model_copy(update={"uri_orig": uri})
        catalog.put(document.annotated("4", [AnnotatorLabels(annotator_id=1)], has_review=False))
    catalog.update(twice, lambda document: document.in_project("5", labels()))
    catalog.put(ImageDocument.model_validate(THESIS))
    catalog.put(ImageDocument(id="marked", is_blurred=False))
    catalog.leave_project("4", [ours, twice, "missing"])
    assert catalog.drop([ours, kept, twice, THESIS["id"], "marked", "missing"]) == 1
    left = {document.id: sorted(document.projects) for document in catalog.documents()}
    assert left == {kept: ["4"], twice: ["5"], THESIS["id"]: [], "marked": []}
    assert catalog.drop([ours]) == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"uri_orig": "https://h/4711.jpg", "file_hash": "5f9d", "resolution_width": 4000, "resolution_height": 3000},
        {"uri_orig": "4711.jpg", "has_imagerecognition_labels": True, "total_annotations": 3, "has_review": True},
        {"file_hash": "5f9d"},
        {"total_annotations": 0, "has_review": False},
        {},
    ],
)
def test_a_document_that_another_program_made_is_never_dropped(catalog: Catalog, fields: dict[str, Any]) -> None:
    made = catalog.put(ImageDocument(id="00004711", **fields))
    assert not made.unused
    assert catalog.drop(["00004711"]) == 0
    catalog.update("00004711", lambda document: document.in_project("4", labels()))
    catalog.leave_project("4", ["00004711"])
    assert catalog.drop(["00004711"]) == 0
    left = catalog.get("00004711")
    assert left is not None
    changing = {"etag", *SYSTEM}
    assert left.model_dump(exclude=changing) == made.model_dump(exclude=changing)


def test_reasons_are_counted_for_images_without_a_label(catalog: Catalog) -> None:
    reasons = {"a": "skipped", "b": "skipped", "c": None, "d": "no_agreement"}
    for id, reason in reasons.items():
        catalog.put(ImageDocument(id=id).in_project("4 @home", labels(reason=reason)))
    catalog.put(member("e", "4 @home", {"c": [["A"]]}))
    catalog.put(member("f", "other"))
    assert catalog.count_reasons("4 @home") == {"skipped": 2, None: 1, "no_agreement": 1}
    assert catalog.count_reasons("nobody") == {}
