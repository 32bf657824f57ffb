"""Rows of a manifest: what is understood, what is refused with its line, and where the files are."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from taxonomist.backend.labelling.manifests.reading.manifest import Manifest, open_manifest
from taxonomist.taxonomy.errors import ConfigError


def read(folder: Path, text: str, *, files: str = "a.jpg b.jpg c.jpg", multi_label: bool = False) -> Manifest:
    for name in files.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"image")
    (folder / "manifest.csv").write_text(text, encoding="utf-8")
    return open_manifest(folder / "manifest.csv", multi_label=multi_label)


def bad(manifest: Manifest) -> list[tuple[int, str]]:
    return [(row.line, row.problem) for row in manifest.checked.bad]


@pytest.mark.parametrize(
    "header",
    [
        "file,level1,level2,product,annotator",
        "File;LEVEL1;Level2;Product;Annotator",
        " FILE \tLevel 1\tlevel_2\tPRODUCT\tannotator ",
        '"file","Level-1","Level\u00a002","product","Annotator"',
        "\ufeff\u200bFile;level.1;Level #2;(product);annotator:",
        "ﬁle,ｌｅｖｅｌ１,level２,Product,Annotator",
    ],
)
def test_headers(tmp_path: Path, header: str) -> None:
    delimiter = next(mark for mark in ",;\t" if mark in header)
    row = delimiter.join(["a.jpg", "Bath", "Sink", "p1", "anna"])
    (found,) = read(tmp_path, f"{header}\n{row}\n").checked.rows
    assert (found.path, found.product, found.annotator) == (("Bath", "Sink"), "p1", "anna")


def test_columns_in_any_order_and_ten_levels(tmp_path: Path) -> None:
    names = [f"level{number}" for number in range(10, 0, -1)]
    cells = [f"L{number}" for number in range(10, 0, -1)]
    (row,) = read(tmp_path, f"{','.join(names)},file\n{','.join(cells)},a.jpg\n").checked.rows
    assert row.path == tuple(f"L{number}" for number in range(1, 11))


def test_unknown_columns_are_named(tmp_path: Path) -> None:
    manifest = read(tmp_path, "#,file,level1,price,prodcut,levle2,\n1,a.jpg,Bath,3,p,Sink,\n")
    assert manifest.unknown_columns == ("#", "price", "prodcut (is 'product' meant?)", "levle2 (is 'level2' meant?)")
    assert len(manifest.checked.rows) == 1


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("name,level1", "has no column 'file'. Its columns are: 'name', 'level1'"),
        ("fille,level1", "Is 'fille' meant?"),
        ("file,level1,level3", "has no column 'level2', but 'level1', 'level3'"),
        ("file,level0,level1", "has no column 'level2', but 'level0', 'level1'. Levels count from 1"),
        ("file,Level 1,level_1", "has two columns for 'level1': 'Level 1' and 'level_1'"),
        ("file,File", "has two columns for 'file'"),
        ('fi"le,level1', "line 1: a quote"),
    ],
)
def test_headers_that_are_refused(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, f"{header}\na.jpg,x\n")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a.jpg,Bath,,Corner,p,", "level2 is empty, but level3 is 'Corner'"),
        ("a.jpg,,Sink,,p,", "level1 is empty, but level2 is 'Sink'"),
        ("a.jpg,,\u00a0,Corner,p,", "level1 is empty, but level3 is 'Corner'"),
        ("a.jpg,Ba\x0bth,,,p,", "level1 'Ba\\x0bth' has the control character U+000B at position 3"),
        ("a.jpg,Bath\x1f,,,p,", "level1 'Bath\\x1f' has the control character U+001F at position 5"),
        ('a.jpg,"Ba\nth",,,p,', "level1 'Ba\\nth' has the control character U+000A at position 3"),
        ("a.jpg,Bath,,,p\x00,", "product 'p\\x00' has the control character U+0000 at position 2"),
        ("a.jpg,Bath,,,p,an\x7fna", "annotator 'an\\x7fna' has the control character U+007F at position 3"),
        ("a\x01.jpg,Bath,,,p,", "file 'a\\x01.jpg' has the control character U+0001 at position 2"),
        (",Bath,,,p,", "the column 'file' is blank"),
        ("a.jpg,Bath,,,p,,", "7 fields, but the header has 6"),
    ],
)
def test_rows_that_are_refused(tmp_path: Path, row: str, problem: str) -> None:
    text = f"file,level1,level2,level3,product,annotator\nb.jpg,Bath,,,p,\n{row}\nc.jpg,,,,,\n"
    manifest = read(tmp_path, text)
    ((line, found),) = bad(manifest)
    assert line == 3
    assert found.startswith(problem)
    assert [row.file.name for row in manifest.checked.rows] == ["b.jpg", "c.jpg"]


@pytest.mark.parametrize("column", range(6))
def test_no_problem_has_a_long_value(tmp_path: Path, column: int) -> None:
    cells = ["a.jpg", "Bath", "Sink", "Corner", "p", "anna"]
    for damage in ("\x01", ""):
        cells[column] = damage + "wide " * 20_000
        text = f"file,level1,level2,level3,product,annotator\n{','.join(cells)}\n"
        problems = [problem for _, problem in bad(read(tmp_path, text))]
        assert all(len(problem) < 600 and problem.isprintable() for problem in problems)
        assert problems or (column and not damage)


def test_a_value_below_no_name(tmp_path: Path) -> None:
    manifest = read(tmp_path, "file,level1,,\na.jpg,Bath,,\nb.jpg,Bath,,Sink\n")
    assert bad(manifest) == [(3, "column 4 has no name in the header, but the value 'Sink' here")]


def test_spellings_that_look_the_same_are_one_path(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "Küche")
    rows = ["a.jpg,Küche,Ess  tisch", f"b.jpg,{decomposed},Ess\u00a0tisch", "c.jpg,Küche , Ess tisch"]
    manifest = read(tmp_path, "file,level1,level2\n" + "\n".join(rows))
    assert {row.path for row in manifest.checked.rows} == {("Küche", "Ess tisch")}


def test_rows_that_contradict_each_other(tmp_path: Path) -> None:
    rows = ["a.jpg,Bath,,p1,", "a.jpg,Bath,Sink,p1,", "b.jpg,Bath,,p1,", "b.jpg,Bath,,p2,", "c.jpg,Bath,,,anna"]
    rows += ["c.jpg,Kitchen,,,bela", "./a.jpg,Kitchen,,,"]
    text = "file,level1,level2,product,annotator\n" + "\n".join(rows)
    manifest = read(tmp_path, text)
    assert bad(manifest) == [
        (2, "'a.jpg' has 'Bath' here and 'Bath › Sink' in line 3"),
        (3, "'a.jpg' has 'Bath › Sink' here and 'Bath' in line 2"),
        (4, "'b.jpg' has product 'p1' here and 'p2' in line 5"),
        (5, "'b.jpg' has product 'p2' here and 'p1' in line 4"),
        (8, "'a.jpg' has 'Kitchen' here and 'Bath' in line 2"),
    ]
    assert [row.line for row in manifest.checked.rows] == [6, 7]  # two annotators may differ
    assert [line for line, _ in bad(read(tmp_path, text, multi_label=True))] == [4, 5]


def test_the_same_row_twice_contradicts_nothing(tmp_path: Path) -> None:
    manifest = read(tmp_path, "file,level1\na.jpg,Bath\na.jpg,Bath\na.jpg,\n")
    assert bad(manifest) == []


def test_every_row_is_counted(tmp_path: Path) -> None:
    manifest = read(tmp_path, "file,level1\na.jpg,Bath\n,\n\nnone.jpg,Bath\nb.jpg,x,y\n ,\n")
    checked = manifest.checked
    assert (len(checked.rows), len(checked.bad), checked.empty, checked.count) == (1, 2, (3, 7), 5)


# --- files


def test_a_missing_file_is_reported_with_the_nearest_name(tmp_path: Path) -> None:
    manifest = read(tmp_path, "file\nIMG_17.JPG\nsub/other.jpg\nxyz.png\n", files="img_17.jpg images/sub/othr.jpg")
    problems = [problem for _, problem in bad(manifest)]
    assert problems[0].endswith("the nearest name is 'img_17.jpg'")
    assert problems[1].endswith("the nearest name is 'sub/othr.jpg'")
    assert problems[2] == f"no file 'xyz.png' in {tmp_path} or {tmp_path}/images"


def test_file_names_are_found_in_any_spelling(tmp_path: Path) -> None:
    on_disk = [unicodedata.normalize("NFD", "Bäder/Küche 1.jpg"), "x\u00a0 y.jpg"]
    for name in on_disk:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    manifest = read(tmp_path, "file\nBäder\\Küche 1.jpg\nx y.jpg\n")
    assert [row.found.name for row in manifest.checked.rows] == on_disk


def test_two_files_that_look_the_same(tmp_path: Path) -> None:
    """The exact name is meant where it is there; another spelling may mean either."""
    for name in ("Bad\u00a01.jpg", "Bad  1.jpg"):
        (tmp_path / name).write_bytes(b"")
    manifest = read(tmp_path, "file\nBad  1.jpg\nBad 1.jpg\n")
    assert [row.found.name for row in manifest.checked.rows] == ["Bad  1.jpg"]
    ((_, problem),) = bad(manifest)
    assert "which look the same" in problem


@pytest.mark.parametrize("name", ["../secret.jpg", "images/../../secret.jpg", "/etc/passwd", "{outside}/secret.jpg"])
def test_nothing_outside_the_folders_is_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"")
    manifest = read(tmp_path / "catalogue", f"file\n{name.format(outside=tmp_path)}\n")
    ((_, problem),) = bad(manifest)
    assert "is not inside" in problem


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    manifest = read(tmp_path, "file\nimages\n", files="images/a.jpg")
    assert bad(manifest) == [(2, "'images' is not a file")]


def test_absolute_paths_inside_the_folder(tmp_path: Path) -> None:
    manifest = read(tmp_path, f"file\n{tmp_path}/images/a.jpg\n", files="images/a.jpg")
    assert [row.file for row in manifest.checked.rows] == [tmp_path / "images" / "a.jpg"]


def test_one_name_in_two_folders(tmp_path: Path) -> None:
    manifest = read(tmp_path, "file\na.jpg\nb.jpg\n", files="one/a.jpg two/a.jpg two/b.jpg")
    manifest = open_manifest(tmp_path / "manifest.csv", [tmp_path / "one", tmp_path / "two"])
    assert bad(manifest) == [(2, f"'a.jpg' is in {tmp_path}/one and in {tmp_path}/two")]
    assert [row.file for row in manifest.checked.rows] == [tmp_path / "two" / "b.jpg"]


def test_links_are_followed_and_their_targets_known(tmp_path: Path) -> None:
    """A linked folder, a linked file, and a link to an object that was not fetched (git-annex)."""
    store = tmp_path / "store"
    read(store, "file\n", files="a.jpg objects/b")
    catalogue = tmp_path / "catalogue"
    (catalogue / "images").mkdir(parents=True)
    (catalogue / "linked").symlink_to(store)
    (catalogue / "images" / "b.jpg").symlink_to(store / "objects" / "b")
    (catalogue / "images" / "gone.jpg").symlink_to("../objects/c")
    manifest = read(catalogue, "file\nlinked/a.jpg\nb.jpg\ngone.jpg\n", files="")
    assert [row.found.target for row in manifest.checked.rows] == [f"{store}/a.jpg", f"{store}/objects/b"]
    ((_, problem),) = bad(manifest)
    assert problem == (
        f"'gone.jpg' is a link to {catalogue}/objects/c, which is not there; fetch it first (dvc pull, git annex get)"
    )


def test_a_name_that_is_not_unicode_does_not_stop_the_search(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.jpg")).write_bytes(b"")
    manifest = read(tmp_path, "file\na.jpg\nb-.jpg\n", files="a.jpg")
    assert [row.found.name for row in manifest.checked.rows] == ["a.jpg"]
    assert [line for line, _ in bad(manifest)] == [3]
