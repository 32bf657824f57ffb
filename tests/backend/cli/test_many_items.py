"""Commands that process many items: what they say and how they end when all of them fail, or there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from taxonomist.backend.services import Services
from tests.backend.cli.conftest import Run, run_json
from tests.small_world import publish_backbone, write_catalogue


@pytest.fixture
def gone(run: Run, services: Services, tmp_path: Path) -> Services:
    """Six labelled images whose files are gone since they were imported."""
    publish_backbone(services)
    run_json(run, "import", write_catalogue(tmp_path / "c", 6), "--project", "colours")
    for file in (tmp_path / "c" / "images").iterdir():
        file.unlink()
    return services


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["prepare"], 5),
        (["prepare", "--json"], 5),
        (["embed"], 6),
        (["train"], 5),
        (["pretrain", "--preset", "smoke"], 5),
    ],
)
def test_only_failures_are_a_failure(run: Run, gone: Services, arguments: list[str], code: int) -> None:
    exit_code, _, err = run(*arguments)
    assert exit_code == code
    assert "There is no image" in err
    assert "Traceback" not in err


def test_fetch_with_only_failures(run: Run, gone: Services, tmp_path: Path) -> None:
    run_json(run, "data", "query", "--out", tmp_path / "query")
    code, _, err = run("data", "fetch", "--query", tmp_path / "query", "--out", tmp_path / "images")
    assert (code, "None of the 6 images could be fetched" in err) == (6, True)


def test_one_failure_of_many_is_none(run: Run, services: Services, tmp_path: Path) -> None:
    publish_backbone(services)
    run_json(run, "import", write_catalogue(tmp_path / "c", 6), "--project", "colours")
    (tmp_path / "c" / "images" / "0000.jpg").unlink()
    assert len(run_json(run, "prepare")["failures"]) == 1
    assert "5 of 6 images have an embedding, 1 cannot be read" in run_json(run, "embed")["outcome"]


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff"])
def test_similar_on_an_unreadable_file(run: Run, services: Services, tmp_path: Path, content: bytes) -> None:
    publish_backbone(services)
    run_json(run, "import", write_catalogue(tmp_path / "c", 4), "--project", "colours")
    (tmp_path / "query.jpg").write_bytes(content)
    assert run("similar", tmp_path / "query.jpg")[0] == 6
    assert run("similar", tmp_path / "none.jpg")[0] == 6


def test_a_query_for_an_unknown_project(run: Run, services: Services, tmp_path: Path) -> None:
    code, _, err = run("data", "query", "--out", tmp_path / "query", "--project", "nope")
    assert code == 4
    assert "Project nope is not known." in err
    run_json(run, "import", write_catalogue(tmp_path / "c", 4), "--project", "colours")
    code, _, err = run("data", "query", "--out", tmp_path / "query", "--project", "nope")
    assert (code, "Known projects: colours." in err) == (4, True)
    assert run_json(run, "data", "query", "--out", tmp_path / "query", "--project", "colours")["images"] == 4
