"""The sources of a project: several manifests, deliveries with the same names, and manifests of earlier versions."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from taxonomist.backend.labelling.decisions import decide_all_dirty, decide_anew
from taxonomist.backend.services import Services
from taxonomist.storage.catalog import ImageDocument
from taxonomist.storage.journal import EARLIER_IMPORT, AnnotationSaved, Event, TaskSaved
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.label_config import write_label_config
from tests.backend.labelling.manifests.small_manifests import ROWS, follow, labels, state, write


def test_another_source_adds(services: Services, tmp_path: Path) -> None:
    """A second delivery in a folder of its own, whose files may have the same names."""
    first, second = tmp_path / "first", tmp_path / "second"
    follow(services, write(first, ROWS))
    result = follow(services, write(second, {"00.jpg": ("Garden", "Hose")}), source="second")
    assert result.changes["new images"] == 1
    assert services.catalog.count("p") == 21
    reader = services.images("p")
    assert reader.read(str(first / "images" / "00.jpg")) == b"image first 00.jpg"
    assert reader.read(str(second / "images" / "00.jpg")) == b"image second 00.jpg"
    follow(services, write(first, dict(list(ROWS.items())[1:])))  # the first source does not own the second one's
    assert services.catalog.count("p") == 20


def test_sources_that_disagree_are_asked_about(services: Services, catalogue: Path) -> None:
    follow(services, write(catalogue, ROWS))
    result = follow(services, write(catalogue, {"00.jpg": ("Bath", "Sink")}, name="again.csv"))
    known, question = result.questions
    assert known == (
        "1 of the images are in the source 'm.csv' too: should the project follow this file there (--source 'm.csv')?"
    )
    assert "is 'Bath › Sink' here and 'Kitchen › Tap' in the source 'm.csv': the newer label counts" in question
    assert labels(services)["00.jpg"] == [["Bath", "Sink"]]


def test_an_image_of_two_sources_stays_until_both_have_withdrawn_it(services: Services, catalogue: Path) -> None:
    follow(services, write(catalogue, ROWS))
    follow(services, write(catalogue, {"00.jpg": ("Kitchen", "Tap")}, name="again.csv"))
    rest = dict(list(ROWS.items())[1:])
    follow(services, write(catalogue, rest))
    assert labels(services)["00.jpg"] == [["Kitchen", "Tap"]]


@pytest.mark.parametrize("embedded", [True, False])
def test_another_delivery_of_the_same_name_is_no_move(services: Services, tmp_path: Path, embedded: bool) -> None:
    """`delivery-1/m.csv` and `delivery-2/m.csv` name the same files, which are other images."""
    first, second = tmp_path / "delivery-1", tmp_path / "delivery-2"
    follow(services, write(first, ROWS))
    if embedded:  # then the images need not be where they were
        for document in list(services.catalog.documents("p")):
            digest = hashlib.sha256(services.images("p").read(document.projects["p"].uri)).hexdigest()
            services.catalog.put(document.model_copy(update={"file_hash": digest}))
        shutil.rmtree(first)
    before = state(services.settings.home)
    with pytest.raises(ConfigError, match=r"is another image than the one .* Give another --source"):
        follow(services, write(second, ROWS))
    assert state(services.settings.home) == before
    assert follow(services, second / "m.csv", source="delivery-2").changes["new images"] == 20


def test_a_file_that_is_missing_is_not_taken_from_another_delivery(services: Services, tmp_path: Path) -> None:
    follow(services, write(tmp_path / "first", ROWS))
    manifest = write(tmp_path / "second", {"00.jpg": ("Bath", ""), "01.jpg": ("Bath", "")}, name="second.csv")
    (tmp_path / "second" / "images" / "01.jpg").unlink()
    with pytest.raises(ConfigError, match=r"line 3: no file '01\.jpg' in"):
        follow(services, manifest)


def test_a_new_delivery_where_another_one_was(services: Services, tmp_path: Path) -> None:
    """The first delivery is moved to an archive, the second one has the same names in the same place."""
    incoming, archive = tmp_path / "incoming", tmp_path / "archive"
    follow(services, write(incoming, ROWS), source="january")
    shutil.move(incoming, archive)
    follow(services, archive / "m.csv", source="january")
    manifest = write(incoming, ROWS)
    for image in (incoming / "images").iterdir():
        image.write_bytes(b"another " + image.name.encode())
    result = follow(services, manifest, source="february")
    assert result.changes["new images"] == 20
    assert services.catalog.count("p") == 40
    contents = {services.images("p").read(document.projects["p"].uri) for document in services.catalog.documents("p")}
    assert len(contents) == 40
    assert not any(follow(services, incoming / "m.csv", source="february").changes.values())
    assert not any(follow(services, archive / "m.csv", source="january").changes.values())


def test_a_source_that_is_not_a_manifest(services: Services, catalogue: Path, tmp_path: Path) -> None:
    from taxonomist.backend.labelling.label_studio_export import import_export

    services.projects.update("p", label_config=write_label_config(ROWS.values()))
    (tmp_path / "export.json").write_text(json.dumps([{"id": 1, "data": {"image": "https://x/1.jpg"}}]))
    import_export(services, tmp_path / "export.json", project="p")
    with pytest.raises(ConfigError, match="is not a manifest"):
        follow(services, write(catalogue, ROWS), source="export.json")


def test_the_record_of_an_earlier_version_names_one_folder(services: Services, catalogue: Path) -> None:
    follow(services, write(catalogue, ROWS))
    path = services.settings.home / "projects" / "p.json"
    record = json.loads(path.read_text())
    folder = record.pop("image_folders")[0]["folders"][0]
    path.write_text(json.dumps(record | {"images_folder": str(catalogue)}))
    (entry,) = Services(services.settings).projects.get("p").image_folders
    assert (entry.address, entry.folders) == (str(catalogue), (catalogue,))
    assert Services(services.settings).images("p").read(f"{folder}/00.jpg") == b"image catalogue 00.jpg"
    assert not any(follow(Services(services.settings), catalogue / "m.csv").changes.values())


def record_before_sources(services: Services, catalogue: Path, rows: Mapping[str, Sequence[str]]) -> None:
    """Record an import of a release without sources: tasks had the addresses of their images as ids."""
    time = datetime(2031, 1, 1, tzinfo=UTC)  # the file's time was used, and may lie in the future
    events: list[Event] = []
    for name, path in rows.items():
        uri = str(catalogue / "images" / name)
        region = {"from_name": "taxonomy", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [list(path)]}}
        data = {"id": f"{uri}|import", "task": uri, "completed_by": "import", "ground_truth": True, "result": [region]}
        data |= {"created_at": time.isoformat(), "updated_at": time.isoformat()}
        events += [
            TaskSaved("p", EARLIER_IMPORT, uri, uri, time),
            AnnotationSaved("p", EARLIER_IMPORT, f"{uri}|import", uri, uri, time, time, data),
        ]
    services.projects.update("p", label_config=write_label_config([("Bath", "Sink"), ("Kitchen", "Tap")]))
    services.journal.record(events)
    decide_all_dirty(services, "p")


def test_images_from_before_sources_had_names_are_followed(services: Services, catalogue: Path) -> None:
    """What the file does not name stays, and the summary says so."""
    manifest = write(catalogue, ROWS)
    record_before_sources(services, catalogue, ROWS | {"old.jpg": ("Bath", "Sink")})
    assert services.journal.adopt("p", "export.json", former=EARLIER_IMPORT) == 0  # an export takes none of them over
    result = follow(services, write(catalogue, ROWS | {"00.jpg": ("Bath", "Sink")}))
    assert (result.of_earlier_imports, result.unnamed_images) == (1, (str(catalogue / "images" / "old.jpg"),))
    assert {what: count for what, count in result.changes.items() if count} == {"changed labels": 1}
    expected = {name: [list(path)] for name, path in ROWS.items()}
    assert labels(services) == expected | {"00.jpg": [["Bath", "Sink"]], "old.jpg": [["Bath", "Sink"]]}
    assert not any(follow(services, manifest).changes.values())
    follow(services, write(catalogue, dict(list(ROWS.items())[1:])))
    assert "00.jpg" not in labels(services)


def test_products_that_an_earlier_release_has_lost_come_back(services: Services, catalogue: Path) -> None:
    """They are in the rows of manifests; those of an import before sources had names, in its file alone."""
    rows = [["a.jpg", "Bath", "Sink", "p1"], ["b.jpg", "Kitchen", "Tap", "p2"], ["c.jpg", "Bath", "Sink"]]

    def groups() -> list[tuple[str | None, str | None]]:
        documents = sorted(services.catalog.documents("p"), key=lambda document: document.projects["p"].uri)
        return [(document.projects["p"].group, document.projects["p"].group_by) for document in documents]

    def lose(document: ImageDocument) -> ImageDocument:
        lost = document.projects["p"].model_copy(update={"group": None, "group_by": None})
        return document.in_project("p", lost)

    def field_was_set_and_unset() -> None:
        services.catalog.update_many({document.id: lose for document in services.catalog.documents("p")})
        services.projects.update("p", decided_with="the rules of an earlier release")

    known = [("p1", None), ("p2", None), (None, None)]
    record_before_sources(services, catalogue, {row[0]: row[1:3] for row in rows})
    field_was_set_and_unset()
    follow(services, write(catalogue, rows))
    assert groups() == known
    field_was_set_and_unset()
    decide_anew(services, "p")
    assert groups() == known
