"""The stages as commands, one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from taxonomist.backend.data_stages.files import read_split
from taxonomist.backend.services import Services
from taxonomist.storage.catalog import ImageDocument
from taxonomist.storage.prepared_images import PreparedImageStore
from tests.backend.cli.conftest import Run, run_json
from tests.small_world import SIZE

pytestmark = pytest.mark.usefixtures("world")  # eighty labelled images


def test_from_labels_to_images(run: Run, world: Services, tmp_path: Path) -> None:
    chosen = run_json(run, "data", "query", "--out", tmp_path / "data", "--labelled", "--exclude", "Green")
    assert (chosen["images"], chosen["labelled"], chosen["labels"]) == (60, 60, {"Warm": 40, "Cold": 20})
    assert chosen["left_out"] == {"has a label to exclude": 20}

    split = run_json(run, "data", "split", "--query", tmp_path / "data", "--seed", 5)
    assert split["images"] == {"train": 38, "validation": 10, "test": 12}
    assert [counts["label"] for counts in split["classes"]] == ["Cold", "Warm"]
    assert split["classes"][0]["copies"] == split["classes"][1]["copies"] == split["classes"][1]["train"]
    plain = run_json(
        run, "data", "split", "--query", tmp_path / "data", "--seed", 5, "--no-oversample", "--out", tmp_path / "b"
    )
    assert plain["images"] == split["images"]
    assert [counts["copies"] for counts in plain["classes"]] == [counts["train"] for counts in plain["classes"]]
    deeper = run_json(run, "data", "split", "--query", tmp_path / "data", "--level", 2, "--out", tmp_path / "c")
    assert len(deeper["classes"]) == 3

    fetch = ("data", "fetch", "--query", tmp_path / "data", "--out", tmp_path / "images")
    part = run_json(run, *fetch, "--split", tmp_path / "data", "--part", "train")  # of the size that is served
    assert (part["size"], part["new"]) == (SIZE, 38)
    assert run_json(run, *fetch)["new"] == 22
    training = {image.id for image in read_split(tmp_path / "data") if image.part == "train"}
    assert {output["pictures"] == output["images"] for output in (chosen, split, part)} == {True}  # the former name
    assert training == set(PreparedImageStore(tmp_path / "images", SIZE).snapshot()[0][:38])


def test_without_json_the_output_is_text(run: Run, tmp_path: Path) -> None:
    _, out, _ = run("data", "query", "--out", tmp_path, "--include", "Red", "--min-annotators", 1)
    assert "left out: 60, each has none of the labels to include" in out
    _, out, _ = run("data", "split", "--query", tmp_path, "--level", 2)
    assert "Warm › Red" in out
    _, out, _ = run("data", "fetch", "--query", tmp_path, "--out", tmp_path / "p", "--size", 64)
    assert "64 pixels" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["split", "--query", "none"], 2, "data query --out none"),
        (["fetch", "--query", "none", "--out", "p"], 2, "data query --out none"),
        (["fetch", "--query", "none", "--out", "p", "--part", "tests"], 2, "no part 'tests'"),
        (["query", "--out", "q", "--include", "Purple"], 2, "has none of the labels to include (80)"),
        (["query", "--out", "q", "--address", "x/{name}"], 2, "{uri_orig}"),
    ],
)
def test_errors_are_one_line_with_a_hint(run: Run, arguments: list[str], code: int, message: str) -> None:
    exit_code, out, err = run("data", *arguments)
    assert (exit_code, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_a_split_knows_the_near_duplicates_of_images_without_a_product(
    run: Run, world: Services, tmp_path: Path
) -> None:
    """The images of one colour are near-duplicates."""

    def forget_product(document: ImageDocument) -> ImageDocument:
        return document.in_project("7", document.projects["7"].model_copy(update={"group": None}))

    run("data", "query", "--out", tmp_path, "--labelled")
    assert run_json(run, "data", "split", "--query", tmp_path)["without_product"] == 0
    world.catalog.update_many({document.id: forget_product for document in world.catalog.documents("7")})
    run("embed", "--project", "7")
    run("data", "query", "--out", tmp_path, "--labelled")
    split = run_json(run, "data", "split", "--query", tmp_path, "--level", 2)
    assert (split["without_product"], split["near_duplicates"], split["not_embedded"]) == (80, 80, 0)
    assert {max(counts[part] for part in ("train", "validation", "test")) for counts in split["classes"]} == {20}
    _, out, _ = run("data", "split", "--query", tmp_path)
    assert "products unknown: 80 images; 80 of them have near-duplicates" in out
