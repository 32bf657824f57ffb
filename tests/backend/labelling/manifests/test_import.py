"""An import of a manifest: taken whole or not at all, and the project follows the file."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest

from taxonomist.backend.services import Services
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.label_config import parse_label_config, write_label_config
from tests.backend.labelling.manifests.small_manifests import ROWS, follow, labels, state, write

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
    with pytest.raises(ConfigError, match="At most 64 levels"):
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
