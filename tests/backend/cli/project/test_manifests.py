"""Manifests as people report them: each situation through the command line, from the file to the catalogue."""

from __future__ import annotations

import os
import shutil
import tracemalloc
import unicodedata
from datetime import UTC, datetime
from pathlib import Path

import pytest

from taxonomist.backend.services import Services
from taxonomist.storage.catalog.documents import ProjectLabels
from taxonomist.storage.journal import EARLIER_IMPORT, TaskSaved
from taxonomist.taxonomy.label_config import write_label_config
from tests.backend.cli.conftest import Run, run_json
from tests.small_world import image_bytes

NAMES = tuple(f"{number:02d}.jpg" for number in range(12))
LABELS = ("Warm,Red", "Cold,Blue")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        path = tuple(LABELS[number % 2].split(","))
        (folder / name).write_bytes(image_bytes(path, number))
    return folder


def write(folder: Path, header: str, rows: dict[str, str] | None = None, name: str = "m.csv", **how: str) -> Path:
    """Write a manifest with all images; `rows` replaces the label and product of some."""
    lines = [f"{file},{LABELS[number % 2]},p{number // 2}" for number, file in enumerate(NAMES)]
    changed = {file: f"{file},{rest}" for file, rest in (rows or {}).items()}
    lines = [changed.get(line.partition(",")[0], line) for line in lines]
    text = "\n".join([header, *lines, *(line for file, line in changed.items() if file not in NAMES)])
    (folder / name).write_text(text.replace(",", how.get("delimiter", ",")), encoding=how.get("encoding", "utf-8"))
    return folder / name


def stored(services: Services) -> dict[str, ProjectLabels]:
    """Return what the project has, by the name of the image."""
    documents = Services(services.settings).catalog.documents("p")
    return {(document.uri_orig or "").rpartition("/")[2]: document.projects["p"] for document in documents}


def label(services: Services, name: str) -> list[list[str]]:
    return stored(services)[name].accepted.get("taxonomy", [])


@pytest.mark.parametrize(
    ("header", "delimiter", "encoding"),
    [
        ("file,Level1,Level2,Product", ",", "utf-8"),
        ("FILE,level 1,level_2,PRODUCT", ";", "utf-8-sig"),
        ("File,Level_1,LEVEL 2,product", "\t", "utf-16"),
    ],
)
def test_any_dialect(run: Run, services: Services, images: Path, header: str, delimiter: str, encoding: str) -> None:
    manifest = write(images, header, delimiter=delimiter, encoding=encoding)
    assert run_json(run, "import", manifest, "--project", "p")["labelled"] == 12
    assert label(services, "00.jpg") == [["Warm", "Red"]]
    assert stored(services)["03.jpg"].group == "p1"


def test_an_unknown_column_is_named(run: Run, images: Path) -> None:
    result = run_json(run, "import", write(images, "file,level1,level2,Prodcut"), "--project", "p")
    assert result["unknown_columns"] == ["Prodcut (is 'product' meant?)"]
    assert "columns that are not used: Prodcut" in run("import", images / "m.csv", "--project", "p")[1]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (",Red,p1", "level1 is empty, but level2 is 'Red'"),
        ('Warm,"Red 24,p1', 'a quote (") opens a field and is not closed'),
        ('Warm,Red 24",p1', 'a quote (") opens a field and is not closed'),
        ("Warm, Red, dark,p1", "5 fields, but the header has 4"),
        ("Warm,Re\x0bd,p1", "level2 'Re\\x0bd' has the control character U+000B"),
        ("Warm,Red,p\x1b1", "product 'p\\x1b1' has the control character U+001B"),
    ],
)
def test_a_bad_row_is_an_error_with_its_line(
    run: Run, services: Services, images: Path, row: str, problem: str
) -> None:
    manifest = write(images, "file,level1,level2,product", {"04.jpg": row})
    code, out, err = run("import", manifest, "--project", "p")
    assert (code, out) == (2, "")
    assert f"m.csv, line 6: {problem}" in err
    assert stored(services) == {}
    assert run_json(run, "import", write(images, "file,level1,level2,product"), "--project", "p")["labelled"] == 12


def test_spellings_that_look_the_same_are_one_class(run: Run, services: Services, images: Path) -> None:
    spellings = ["Küche", unicodedata.normalize("NFD", "Küche"), "Küche\u00a0", "  Küche"]
    rows = {f"{number:02d}.jpg": f"Top,{name} 1,p" for number, name in enumerate(spellings)}
    result = run_json(run, "import", write(images, "file,level1,level2,product", rows), "--project", "p")
    assert {str(label(services, name)) for name in rows} == {"[['Top', 'Küche 1']]"}
    assert result["questions"] == []


def test_names_that_differ_in_case_are_asked_about(run: Run, services: Services, images: Path) -> None:
    manifest = write(images, "file,level1,level2,product", {"00.jpg": "Warm,red,p0"})
    result = run_json(run, "import", manifest, "--project", "p")
    assert "'Warm › red' (1 rows) and 'Warm › Red' (5 rows) differ only in case" in result["questions"][0]
    assert label(services, "00.jpg") == [["Warm", "red"]]


def test_a_corrected_file_is_followed(run: Run, services: Services, images: Path) -> None:
    header = "file,level1,level2,product"
    manifest = write(images, header)
    run_json(run, "import", manifest, "--project", "p")
    corrected = {"00.jpg": "Cold,Green,p0", "01.jpg": ",,p0", "new.jpg": "Grey,,p9"}
    shutil.copy(images / "00.jpg", images / "new.jpg")
    write(images, header, corrected)
    text = manifest.read_text().replace("11.jpg,Cold,Blue,p5\n", "")
    manifest.write_text(text)
    os.utime(manifest, (0, 0))
    code, _, err = run("import", manifest, "--project", "p")
    assert code == 2
    assert "withdraws 2 labels and 1 images, which is more than a tenth" in err
    result = run_json(run, "import", manifest, "--project", "p", "--yes")
    assert label(services, "00.jpg") == [["Cold", "Green"]]
    assert label(services, "01.jpg") == []
    assert label(services, "new.jpg") == [["Grey"]]
    assert "11.jpg" not in stored(services)
    assert result["changes"]["changed labels"] == 1


@pytest.mark.parametrize("linked", ["folder", "files"])
def test_linked_images_train(run: Run, services: Services, images: Path, tmp_path: Path, linked: str) -> None:
    from tests.small_world import publish_backbone

    publish_backbone(services)
    catalogue = tmp_path / "catalogue"
    catalogue.mkdir()
    if linked == "folder":
        (catalogue / "images").symlink_to(images)
    else:
        (catalogue / "images").mkdir()
        for name in NAMES:
            (catalogue / "images" / name).symlink_to(f"../../images/{name}")
    manifest = write(catalogue, "file,level1,level2,product")
    assert run_json(run, "import", manifest, "--project", "p")["labelled"] == 12
    assert "12 of 12 images have an embedding" in run_json(run, "embed", "--project", "p")["outcome"]


def test_a_second_delivery_and_a_moved_folder(run: Run, services: Services, images: Path, tmp_path: Path) -> None:
    header = "file,level1,level2,product"
    first = tmp_path / "first"
    shutil.copytree(images, first)
    run_json(run, "import", write(first, header), "--project", "p")
    second = write(images, header, name="second.csv")
    result = run_json(run, "import", second, "--project", "p", "--images", images)
    assert (result["source"], result["labelled"]) == ("second.csv", 24)
    shutil.move(first, tmp_path / "moved")
    again = run_json(run, "import", tmp_path / "moved" / "m.csv", "--project", "p", "--images", tmp_path / "moved")
    assert (again["labelled"], any(again["changes"].values())) == (24, False)
    reader = Services(services.settings).images("p")
    assert all(reader.read(entry.uri) for entry in stored(services).values())


def test_one_file_with_two_labels_is_an_error(run: Run, services: Services, images: Path) -> None:
    manifest = write(images, "file,level1,level2,product")
    manifest.write_text(manifest.read_text() + "\n00.jpg,Cold,Blue,p0\n")
    code, _, err = run("import", manifest, "--project", "p")
    assert code == 2
    assert "line 2: '00.jpg' has 'Warm › Red' here and 'Cold › Blue' in line 14" in err
    assert stored(services) == {}
    assert run_json(run, "import", manifest, "--project", "p", "--multi-label")["labelled"] == 12
    assert len(label(services, "00.jpg")) == 2


def test_images_of_an_earlier_import_that_the_file_does_not_name_are_listed(
    run: Run, services: Services, images: Path
) -> None:
    manifest = write(images, "file,level1,level2,product")
    assert "stay:" not in run("import", manifest, "--project", "p")[1]
    gone = str(images / "gone.jpg")
    services.journal.record([TaskSaved("p", EARLIER_IMPORT, gone, gone, datetime(2026, 1, 1, tzinfo=UTC))])
    for options in ((), ("--dry-run",)):
        services.journal.fold()
        out = run("import", manifest, "--project", "p", *options)[1]
        assert "stay: 1 images of imports by an earlier release that this file does not name" in out
        assert f"taxonomist forget --image ADDRESS:\n  {gone}" in out
    result = run_json(run, "import", manifest, "--project", "p")
    assert (result["of_earlier_imports"], result["unnamed_images"]) == (1, [gone])
    assert run("forget", "--image", gone, "--yes")[0] == 0
    assert run_json(run, "import", manifest, "--project", "p")["of_earlier_imports"] == 0


def labels_of(nodes: int, levels: int) -> list[str]:
    """Return labels of so many levels, whose names all differ; the last one may have fewer."""
    names = [f"n{number}" for number in range(nodes)] + [""] * (-nodes % levels)
    return [",".join(names[start : start + levels]) for start in range(0, nodes, levels)]


@pytest.mark.parametrize(
    ("nodes", "levels", "reason"),
    [
        (64, 64, None),
        (65, 65, "a path of 65 levels"),
        pytest.param(50_000, 8, None, marks=pytest.mark.slow),
        (50_001, 8, "more than 50,000 choices"),
    ],
)
def test_a_taxonomy_has_at_most_64_levels_and_50000_nodes(
    run: Run, services: Services, images: Path, nodes: int, levels: int, reason: str | None
) -> None:
    header = ",".join(f"level{level + 1}" for level in range(levels))
    rows = [f"{NAMES[0]},{label}" for label in labels_of(nodes, levels)]
    (images / "m.csv").write_text("\n".join([f"file,{header}", *rows]))
    code, _, err = run("import", images / "m.csv", "--project", "p", "--multi-label")
    if reason is None:
        assert (code, len(services.label_config("p").trees[0])) == (0, nodes)
    else:
        assert (code, reason in err, services.projects.exists("p")) == (2, True, False)


@pytest.mark.slow
@pytest.mark.parametrize("over", [0, 1])
def test_a_given_config_has_50000_choices(run: Run, services: Services, images: Path, over: int) -> None:
    nodes = [("Warm", "Red"), ("Cold", "Blue"), *((f"g{n // 249}", f"n{n}") for n in range(200 * 249 - 4 + over))]
    (images / "config.xml").write_text(write_label_config(nodes), encoding="utf-8")
    manifest = write(images, "file,level1,level2,product")
    code, _, err = run("import", manifest, "--project", "p", "--config", images / "config.xml")
    if over:
        assert (code, "50,001 choices; at most 50,000" in err) == (2, True)
        assert not services.projects.exists("p")
    else:
        assert (code, len(services.label_config("p").trees[0])) == (0, 50_000)


def test_a_given_config_is_read_up_to_its_limit(run: Run, images: Path) -> None:
    (images / "config.xml").write_bytes(b" " * 60_000_000)
    manifest = write(images, "file,level1,level2,product")
    tracemalloc.start()
    try:
        code, _, err = run("import", manifest, "--project", "p", "--config", images / "config.xml")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (code, "characters; at most 4,000,000" in err) == (2, True)
    assert most < 40_000_000
