"""An import of a manifest: taken whole or not at all, and the project follows the file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from taxonomist.backend.labelling.decisions import decide_all_dirty
from taxonomist.backend.labelling.import_result import ImportResult
from taxonomist.backend.labelling.manifests import ManifestOptions, import_manifest
from taxonomist.backend.services import Services
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal import EARLIER_IMPORT, AnnotationSaved, Event, TaskSaved
from taxonomist.taxonomy.errors import ConfigError, ImageForbiddenError, ImageNotFoundError, TaxonomistError
from taxonomist.taxonomy.label_config import parse_label_config, write_label_config

ROWS = {f"{number:02d}.jpg": ("Bath", "Sink") if number % 2 else ("Kitchen", "Tap") for number in range(20)}


def write(folder: Path, rows: Mapping[str, Sequence[str]] | Sequence[Sequence[str]], name: str = "m.csv") -> Path:
    """Write a manifest with two levels, and a file with its own content for each name."""
    folder.mkdir(exist_ok=True)
    lines = ["file,level1,level2,product,annotator"]
    for row in [[file, *path] for file, path in rows.items()] if isinstance(rows, Mapping) else rows:
        cells = [*row, *[""] * (5 - len(row))]
        lines.append(",".join(cells))
        image = folder / "images" / cells[0]
        image.parent.mkdir(parents=True, exist_ok=True)
        if not image.exists():
            image.write_bytes(f"image {folder.name} {cells[0]}".encode())
    (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return folder / name


def labels(services: Services, project: str = "p") -> dict[str, list[list[str]]]:
    """Return the accepted paths by the name of the image."""
    return {
        document.projects[project].uri.rpartition("/")[2]: document.projects[project].accepted.get("taxonomy", [])
        for document in services.catalog.documents(project)
    }


def follow(services: Services, manifest: Path, **options: Any) -> ImportResult:
    images = options.pop("images", None)
    return import_manifest(services, manifest, "p", images=images, options=ManifestOptions(**options))


def state(home: Path) -> dict[str, Any]:
    """Return every table of every database and the bytes of every other file; without logs and locks."""
    found: dict[str, Any] = {}
    for file in sorted(path for path in home.rglob("*") if path.is_file()):
        if file.suffix == ".sqlite":
            with closing(sqlite3.connect(file)) as connection:
                names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
                found[file.name] = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}
        elif not file.name.endswith(("-wal", "-shm", "lock", "home.json")):
            found[str(file.relative_to(home))] = file.read_bytes()
    return found


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    return tmp_path / "catalogue"


# --- what the summary says


def test_the_summary_adds_up(services: Services, catalogue: Path) -> None:
    rows = [["a.jpg", "Bath", "Sink"], ["b.jpg", "Bath"], ["c.jpg"], ["d.jpg", "Bath", "", "", "anna"]]
    manifest = write(catalogue, rows)
    manifest.write_text(manifest.read_text() + "\n,,,,\nnone.jpg,Bath,,,\na.jpg,Bath,Sink,,\n")
    result = follow(services, manifest, skip_bad_rows=True)
    assert (result.entries, result.taken, result.left_out) == (7, 5, 2)
    assert result.left_out_reasons == {"file that is not there": 1, "empty row": 1}
    assert (result.images, result.annotations, result.accepted, result.waiting) == (4, 3, 2, 1)
    assert result.unlabelled == {"not_annotated": 1}
    assert result.source == "m.csv"


def test_questions_and_columns_are_in_the_summary(services: Services, catalogue: Path) -> None:
    rows = [["a.jpg", "Table", "x", "P1"], ["b.jpg", "table", "Wood", "p1"], ["c.jpg", "table", "Wod", "p2", "Anna"]]
    manifest = write(catalogue, [*rows, ["c.jpg", "table", "", "p2", "anna"]])
    manifest.write_text(manifest.read_text().replace("annotator", "annotator;price", 1).replace(";price", ""))
    result = follow(services, manifest)
    assert result.questions == (
        "'Table' (1 rows) and 'table' (3 rows) differ only in case: is one of them meant?",
        "'table › Wood' (1 rows) and 'table › Wod' (1 rows) differ by one letter: is one of them meant?",
        "The annotators 'Anna' and 'anna' differ only in case: are they one person?",
        "The products 'P1' and 'p1' differ only in case: are they one product?",
    )
    assert labels(services)["a.jpg"] == [["Table", "x"]]  # never merged
    assert labels(services)["b.jpg"] == [["table", "Wood"]]


def test_spellings_that_look_the_same_are_one_node(services: Services, catalogue: Path) -> None:
    rows = {
        "a.jpg": ["Küche", "Tap"],
        "b.jpg": [unicodedata.normalize("NFD", "Küche"), "Tap "],
        "c.jpg": ["Küche", "Tap\u00a0"],
    }
    result = follow(services, write(catalogue, rows))
    assert result.questions == ()
    assert parse_label_config(services.projects.get("p").label_config).trees[0].paths == (("Küche",), ("Küche", "Tap"))


def test_names_take_the_spelling_of_the_projects_taxonomy(services: Services, catalogue: Path) -> None:
    node = unicodedata.normalize("NFD", "Küche")
    services.projects.update("p", label_config=write_label_config([(node, "Tap  1")]).replace("<View>", "<View >"))
    result = follow(services, write(catalogue, {"a.jpg": ["Küche", "Tap 1"], "b.jpg": ["Küche", "Oven"]}))
    assert labels(services)["a.jpg"] == [[node, "Tap  1"]]
    assert result.unknown_names == {f"{node} › Oven": 1}
    assert labels(services)["b.jpg"] == [[node]]  # as far as it is known


# --- whole or not at all


@pytest.mark.parametrize(
    "row", ["20.jpg,Bath,Sink,p", "none.jpg,Bath,Sink,,", "00.jpg,Bath,Sink,,", "01.jpg,,Sink,,", "01.jpg,B\x0b,,,"]
)
def test_one_bad_row_leaves_everything_as_before(services: Services, catalogue: Path, row: str) -> None:
    manifest = write(catalogue, ROWS)
    text = manifest.read_text()
    manifest.write_text(f"{text}\n{row}\n")
    with pytest.raises(ConfigError, match=r"m\.csv, line \d+: "):
        follow(services, manifest)
    assert state(services.settings.home) == {}
    manifest.write_text(text)
    follow(services, manifest)
    before = state(services.settings.home)
    manifest.write_text(f"{text.replace('Tap', 'Oven')}\n{row}\n")
    with pytest.raises(ConfigError, match=r"m\.csv, line \d+: "):
        follow(services, manifest)
    assert state(services.settings.home) == before


def test_the_error_lists_the_bad_rows(services: Services, catalogue: Path) -> None:
    manifest = write(catalogue, ROWS)
    manifest.write_text(manifest.read_text() + "\nx,Bath" * 30)
    with pytest.raises(ConfigError) as error:
        follow(services, manifest)
    lines = str(error.value).splitlines()
    assert lines[0].startswith(f"{manifest}, line 22: 2 fields, but the header has 5")
    assert "29 more rows cannot be taken, so nothing is imported." in lines[0]
    assert lines[-2:] == ["and 10 more", "Correct the file, or give --skip-bad-rows."]


def test_the_others_are_taken_when_bad_rows_are_skipped(services: Services, catalogue: Path) -> None:
    """No label goes because its row is missing: it may be one of those that cannot be read."""
    manifest = write(catalogue, ROWS)
    follow(services, manifest)
    lines = manifest.read_text().splitlines()
    lines[1] = lines[1].replace("Tap", '"Tap')
    del lines[2]
    lines[3] = lines[3].replace("Bath,Sink", "Kitchen,Tap")
    manifest.write_text("\n".join(lines))
    result = follow(services, manifest, skip_bad_rows=True)
    assert (result.entries, result.taken, result.kept) == (19, 18, 2)
    assert result.changes["changed labels"] == 1
    assert len(labels(services)) == 20
    assert labels(services)["00.jpg"] == [["Kitchen", "Tap"]]


def test_a_label_that_a_config_cannot_hold_is_refused_before_anything_is_stored(
    services: Services, catalogue: Path
) -> None:
    catalogue.mkdir()
    (catalogue / "a.jpg").write_bytes(b"")
    header = ",".join(f"level{number}" for number in range(1, 1501))
    (catalogue / "m.csv").write_text(f"file,{header}\na.jpg{',x' * 1500}\n")
    with pytest.raises(ConfigError, match="more than 200 levels"):
        follow(services, catalogue / "m.csv")
    assert state(services.settings.home) == {}


# --- the project follows the file


def test_the_same_file_twice_changes_nothing(services: Services, catalogue: Path) -> None:
    manifest = write(catalogue, ROWS)
    first = follow(services, manifest)
    before = state(services.settings.home)
    again = follow(services, manifest)
    assert state(services.settings.home) == before
    assert not any(again.changes.values())
    assert (again.accepted, again.images) == (first.accepted, first.images) == (20, 20)


@pytest.mark.parametrize("time", [0, 4_000_000_000])
def test_the_project_follows_a_corrected_file(services: Services, catalogue: Path, time: int) -> None:
    """A changed label, an emptied one, a removed row, a new image with a new kind; whatever the file's time."""
    manifest = write(catalogue, ROWS | {"20.jpg": ("Bath", "Sink"), "21.jpg": ("Bath", "Sink")})
    follow(services, manifest)
    rows: dict[str, Sequence[str]] = dict(ROWS) | {"21.jpg": ("",), "99.jpg": ("Garden", "Hose", "p9")}
    rows["00.jpg"] = ("Bath", "Sink")
    os.utime(write(catalogue, rows), (time, time))
    result = follow(services, manifest)
    assert {what: count for what, count in result.changes.items() if count} == {
        "new images": 1,
        "new labels": 1,
        "changed labels": 1,
        "emptied labels": 1,
        "removed labels": 1,
        "removed images": 1,
    }
    folder = catalogue / "images"
    assert result.changed == (
        f"{folder}/00.jpg: Kitchen › Tap → Bath › Sink",
        f"{folder}/21.jpg: Bath › Sink → no label",
        f"{folder}/20.jpg: the image is removed, with Bath › Sink",
    )
    expected = {file: [list(path)] for file, path in ROWS.items()}
    expected |= {"00.jpg": [["Bath", "Sink"]], "21.jpg": [], "99.jpg": [["Garden", "Hose"]]}
    assert labels(services) == expected
    again = follow(services, write(catalogue, ROWS | {"20.jpg": ("Bath", "Sink")}), confirmed=True)
    assert again.changes["new images"] == 1  # what was removed can come back
    assert labels(services)["20.jpg"] == [["Bath", "Sink"]]


def test_labels_that_go_and_come_back(services: Services, catalogue: Path) -> None:
    manifest = write(catalogue, ROWS)
    for rows in (ROWS, ROWS | {"03.jpg": ("",)}, ROWS, ROWS | {"03.jpg": ("Kitchen", "Tap")}, ROWS):
        write(catalogue, rows)
        follow(services, manifest)
    assert labels(services)["03.jpg"] == [["Bath", "Sink"]]


def test_the_tree_grows(services: Services, catalogue: Path) -> None:
    follow(services, write(catalogue, ROWS))
    follow(services, write(catalogue, ROWS | {"20.jpg": ("Bath", "Tub"), "21.jpg": ("Garden", "Hose")}))
    paths = parse_label_config(services.projects.get("p").label_config).trees[0].paths
    assert paths == (
        *(("Kitchen",), ("Kitchen", "Tap"), ("Bath",), ("Bath", "Sink"), ("Bath", "Tub")),
        *(("Garden",), ("Garden", "Hose")),
    )
    assert labels(services)["20.jpg"] == [["Bath", "Tub"]]


def test_a_config_of_label_studio_does_not_grow(services: Services, catalogue: Path) -> None:
    config = write_label_config([("Bath", "Sink"), ("Kitchen", "Tap")])
    services.projects.update("p", label_config=config, created="1700000000")
    result = follow(services, write(catalogue, ROWS | {"20.jpg": ("Bath", "Sinks")}))
    assert services.projects.get("p").label_config == config
    assert result.unknown_names == {"Bath › Sinks": 1}
    assert "did you mean" in result.problems[0]


def test_choices_are_named_by_alias_or_value(services: Services, catalogue: Path) -> None:
    config = write_label_config([("Bath", "Sink"), ("Kitchen", "Tap")]).replace('value="Tap"', 'value="Tap" alias="t"')
    services.projects.update("p", label_config=config)
    result = follow(services, write(catalogue, {"a.jpg": ("Kitchen", "Tap"), "b.jpg": ("Kitchen", "t")}))
    assert result.unknown_names == {}
    assert labels(services) == {"a.jpg": [["Kitchen", "t"]], "b.jpg": [["Kitchen", "t"]]}


def test_a_given_config_is_used(services: Services, catalogue: Path, tmp_path: Path) -> None:
    """Also for a project that has one, and under another name of the control."""
    follow(services, write(catalogue, ROWS))
    paths = [("Kitchen", "Tap"), ("Bath", "Sink"), ("Bath", "Tub")]
    (tmp_path / "config.xml").write_text(write_label_config(paths, control="kind"), encoding="utf-8")
    result = follow(services, catalogue / "m.csv", config=tmp_path / "config.xml")
    assert (result.accepted, result.changes["new labels"]) == (20, 20)
    document = services.catalog.get(image_id(str(catalogue / "images" / "01.jpg")))
    assert document is not None
    assert document.projects["p"].accepted == {"kind": [["Bath", "Sink"]]}


def test_a_config_that_cannot_be_read_changes_nothing(services: Services, catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "config.xml").write_text("<View>", encoding="utf-8")
    with pytest.raises(ConfigError, match="XML"):
        follow(services, write(catalogue, ROWS), config=tmp_path / "config.xml")
    assert state(services.settings.home) == {}


def test_products_follow(services: Services, catalogue: Path) -> None:
    def groups() -> dict[str, str | None]:
        return {doc.projects["p"].uri[-6:]: doc.projects["p"].group for doc in services.catalog.documents("p")}

    follow(services, write(catalogue, [["a.jpg", "x", "", "p1"], ["b.jpg", "y", "", "p2"], ["c.jpg", "y"]]))
    result = follow(services, write(catalogue, [["a.jpg", "x", "", "p9"], ["b.jpg", "y"], ["c.jpg", "y", "", "p2"]]))
    assert result.changes["changed products"] == 3
    assert groups() == {"/a.jpg": "p9", "/b.jpg": None, "/c.jpg": "p2"}


def test_a_manifest_without_labels_follows_too(services: Services, catalogue: Path) -> None:
    follow(services, write(catalogue, [["a.jpg"], ["b.jpg"]]))
    assert services.catalog.count("p") == 2
    follow(services, write(catalogue, [["b.jpg"]]), confirmed=True)
    assert services.catalog.count("p") == 1
    assert follow(services, write(catalogue, [["b.jpg", "x"]])).accepted == 1


def test_several_annotators(services: Services, catalogue: Path) -> None:
    rows = [["a.jpg", "Bath", "Sink", "", name] for name in ("anna", "bela", "carl")]
    follow(services, write(catalogue, rows))
    rows[1][1:3] = ["Kitchen", "Tap"]
    assert follow(services, write(catalogue, rows)).accepted == 1
    result = follow(services, write(catalogue, rows[:2]), confirmed=True)  # carl's row is gone: one against one
    assert (result.changes["removed labels"], result.accepted) == (1, 0)


def test_several_labels_of_one_annotator(services: Services, catalogue: Path) -> None:
    rows = [["a.jpg", "Bath", "Sink"], ["a.jpg", "Kitchen", "Tap"]]
    with pytest.raises(ConfigError, match=r"line 2: 'a\.jpg' has 'Bath › Sink' here and 'Kitchen › Tap' in line 3"):
        follow(services, write(catalogue, rows))
    result = follow(services, write(catalogue, rows), multi_label=True)
    assert (result.images, result.annotations, result.accepted) == (1, 1, 1)
    assert labels(services) == {"a.jpg": [["Bath", "Sink"], ["Kitchen", "Tap"]]}


# --- withdrawing


def test_more_than_a_tenth_needs_a_confirmation(services: Services, catalogue: Path) -> None:
    follow(services, write(catalogue, ROWS))
    kept = dict(list(ROWS.items())[3:])
    before = state(services.settings.home)
    with pytest.raises(ConfigError, match=r"withdraws 3 labels and 3 images, which is more than a tenth.*--yes"):
        follow(services, write(catalogue, kept))
    assert state(services.settings.home) == before
    follow(services, write(catalogue, kept), confirmed=True)
    assert len(labels(services)) == 17
    follow(services, write(catalogue, dict(list(kept.items())[1:])))  # one of 17 is not
    assert len(labels(services)) == 16


def test_a_file_without_rows(services: Services, catalogue: Path) -> None:
    manifest = write(catalogue, [])
    with pytest.raises(ConfigError, match="has no row that can be taken"):
        follow(services, manifest)
    follow(services, write(catalogue, ROWS))
    with pytest.raises(ConfigError, match="withdraws 20 labels"):
        follow(services, write(catalogue, []))
    follow(services, write(catalogue, []), confirmed=True)
    assert labels(services) == {}
    assert follow(services, manifest).entries == 0


def test_a_dry_run_shows_and_stores_nothing(services: Services, catalogue: Path) -> None:
    result = follow(services, write(catalogue, ROWS), dry_run=True)
    assert (result.dry_run, result.images, result.changes["new labels"]) == (True, 20, 20)
    assert state(services.settings.home) == {}
    follow(services, write(catalogue, ROWS))
    before = state(services.settings.home)
    result = follow(services, write(catalogue, dict(list(ROWS.items())[5:]) | {"99.jpg": ("New", "")}), dry_run=True)
    assert (result.changes["removed images"], result.changes["new images"]) == (5, 1)
    assert len(result.changed) == 5
    assert state(services.settings.home) == before


# --- sources and folders


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


def test_several_folders(services: Services, tmp_path: Path) -> None:
    for folder, file in (("one", "a.jpg"), ("two", "b.jpg")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_bytes(folder.encode())
    (tmp_path / "m.csv").write_text("file,level1\na.jpg,x\nb.jpg,y\n")
    result = follow(services, tmp_path / "m.csv", images=[tmp_path / "one", tmp_path / "two"])
    assert result.accepted == 2
    assert services.images("p").read(str(tmp_path / "two" / "b.jpg")) == b"two"
    assert follow(services, tmp_path / "m.csv").changes["new images"] == 0  # the project knows its folders


@pytest.mark.parametrize("by_option", [True, False])
def test_a_moved_folder_keeps_its_images(services: Services, tmp_path: Path, by_option: bool) -> None:
    """Their ids stay, and with them embeddings and parts; new files of the new place belong to them."""
    old, new = tmp_path / "old", tmp_path / "new"
    follow(services, write(old, ROWS))
    ids = sorted(document.id for document in services.catalog.documents("p"))
    shutil.move(old, new)
    result = follow(services, new / "m.csv", images=[new / "images"] if by_option else None)
    assert not any(result.changes.values())
    assert sorted(document.id for document in services.catalog.documents("p")) == ids
    assert all(services.images("p").read(doc.projects["p"].uri) for doc in services.catalog.documents("p"))
    follow(services, write(new, ROWS | {"20.jpg": ("Bath", "Sink")}))
    assert services.images("p").read(str(old / "images" / "20.jpg")) == b"image new 20.jpg"


def test_a_folder_that_moved_to_a_system_with_other_names(services: Services, tmp_path: Path) -> None:
    """The names were decomposed there (macOS) and are composed now."""
    old, new = tmp_path / "old", tmp_path / "new"
    names = [unicodedata.normalize("NFD", f"Küche/{number}ä.jpg") for number in range(4)]
    follow(services, write(old, dict.fromkeys(names, ("x", ""))))
    ids = sorted(document.id for document in services.catalog.documents("p"))
    manifest = write(new, {unicodedata.normalize("NFC", name): ("x", "") for name in names})
    for name in names:
        shutil.copy(old / "images" / name, new / "images" / unicodedata.normalize("NFC", name))
    assert not any(follow(services, manifest).changes.values())
    assert sorted(document.id for document in services.catalog.documents("p")) == ids
    shutil.rmtree(old)
    for document in services.catalog.documents("p"):
        assert services.images("p").read(document.projects["p"].uri).startswith(b"image old K")


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


@pytest.mark.parametrize("linked", ["folder", "subfolder", "files", "many files"])
def test_linked_images_are_read(services: Services, tmp_path: Path, linked: str) -> None:
    """What the import accepts, the reader reads (DVC, git-annex); other links out of the folder stay refused."""
    store, catalogue = tmp_path / "store" / "objects", tmp_path / "catalogue"
    names = [f"{number:03d}.jpg" for number in range(100)]
    for number, name in enumerate(names):
        place = store / f"{number:02d}" / "key" if linked == "many files" else store
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(name.encode())
    images = catalogue / "images"
    images.parent.mkdir()
    if linked == "folder":
        images.symlink_to(store)
    else:
        images.mkdir()
    if linked == "subfolder":
        (images / "sub").symlink_to(store)
    if "files" in linked:
        for target in sorted(store.rglob("*.jpg")):
            (images / target.name).symlink_to(os.path.relpath(target, images))
    prefix = "sub/" if linked == "subfolder" else ""
    (catalogue / "m.csv").write_text("file,level1\n" + "".join(f"{prefix}{name},x\n" for name in names))
    assert follow(services, catalogue / "m.csv").accepted == 100
    reader = services.images("p")
    for document in services.catalog.documents("p"):
        uri = document.projects["p"].uri
        assert reader.read(uri) == uri.rpartition("/")[2].encode()
    (tmp_path / "secret").write_bytes(b"secret")
    if linked != "folder":
        (images / "out.jpg").symlink_to(tmp_path / "secret")
        with pytest.raises(ImageForbiddenError):
            reader.read(str(images / "out.jpg"))
    for escape in (f"{images}/../../secret", f"{store}/../../secret"):
        with pytest.raises(TaxonomistError):
            reader.read(escape)
    assert not any(follow(services, catalogue / "m.csv").changes.values())


def test_links_to_everywhere_are_refused(services: Services, tmp_path: Path) -> None:
    """More folders than can be listed, whose common folder holds the images themselves."""
    images = tmp_path / "catalogue"
    images.mkdir()
    rows = ["file,level1"]
    for number in range(70):
        target = tmp_path / f"place-{number}" / "a.jpg"
        target.parent.mkdir()
        target.write_bytes(b"")
        (images / f"{number}.jpg").symlink_to(target)
        rows.append(f"{number}.jpg,x")
    (images / "m.csv").write_text("\n".join(rows))
    with pytest.raises(ConfigError, match=r"links to more than 64 folders below .*--images"):
        follow(services, images / "m.csv")
    assert state(services.settings.home) == {}


def test_file_names_that_look_like_addresses(services: Services, tmp_path: Path) -> None:
    names = ["photo:1.jpg", "a#1.jpg", "b?x=1.jpg", "c%20d.jpg", "e&f.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "m.csv").write_text("file,level1\n" + "".join(f"{name},x\n" for name in names))
    assert follow(services, tmp_path / "m.csv").images == 5
    for name in names:
        assert services.images("p").read(str(tmp_path / name)) == name.encode()


def test_a_missing_image_is_missing(services: Services, catalogue: Path) -> None:
    follow(services, write(catalogue, ROWS))
    with pytest.raises(ImageNotFoundError, match="If the folder moved, import its manifest again with --images"):
        services.images("p").read(str(catalogue / "images" / "none.jpg"))


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


def test_images_from_before_sources_had_names_are_followed(services: Services, catalogue: Path) -> None:
    """Their tasks had their addresses as ids and no source. What the file does not name stays."""
    manifest = write(catalogue, ROWS)
    time = datetime(2031, 1, 1, tzinfo=UTC)  # the file's time was used, and may lie in the future
    events: list[Event] = []
    for name, path in (ROWS | {"old.jpg": ("Bath", "Sink")}).items():
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
    assert services.journal.adopt("p", "export.json", former=EARLIER_IMPORT) == 0  # an export takes none of them over
    result = follow(services, write(catalogue, ROWS | {"00.jpg": ("Bath", "Sink")}))
    assert {what: count for what, count in result.changes.items() if count} == {"changed labels": 1}
    expected = {name: [list(path)] for name, path in ROWS.items()}
    assert labels(services) == expected | {"00.jpg": [["Bath", "Sink"]], "old.jpg": [["Bath", "Sink"]]}
    assert not any(follow(services, manifest).changes.values())
    follow(services, write(catalogue, dict(list(ROWS.items())[1:])))
    assert "00.jpg" not in labels(services)
