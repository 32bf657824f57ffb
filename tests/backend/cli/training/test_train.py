"""The end of `taxonomist train`: figures of both versions, what became of it, and what to do next."""

from __future__ import annotations

from pathlib import Path

import taxonomist
from taxonomist.backend.connection.settings import change_settings
from taxonomist.backend.services import Services
from tests.backend.cli.conftest import Run, run_json
from tests.small_world import publish_backbone, write_catalogue


def test_the_first_version_has_none_before_it(run: Run, world: Services) -> None:
    code, out, err = run("train")
    assert code == 0, err
    assert out.startswith("taxonomist-v1 is served now: It is the first model of the project.")
    assert " ".join(out.split()).count("served before none") == 1
    assert "16 unseen images of 16 products" in out
    assert "of 16 test images get a path" in out
    assert "rollback" not in out
    folder = world.settings.home / "models" / "project-7" / "v1"
    assert f"Report: {folder}/report.md" in out
    assert f"What is taken for what: {folder}/confusion-*.csv" in out
    assert (folder / "confusion-colour-2.csv").read_text().startswith("true,predicted,images,share_of_true")
    assert "Next: `taxonomist predict FOLDER --project 7`" in out


def test_both_versions_are_shown_in_each_form(run: Run, trained: Services) -> None:
    code, out, err = run("train", "--force")
    assert code == 0, err
    assert "┃ on the test images  ┃ taxonomist-v2 ┃ taxonomist-v1 ┃" in out
    assert "Next: `taxonomist models rollback --project 7` goes back to taxonomist-v1." in out
    found = run_json(run, "train", "--force")
    assert (found["version"], found["champion_before"], found["trained"], found["served"]) == ("v3", "v2", True, True)
    colour = found["controls"]["colour"]
    suggested = colour["suggested"]
    assert (found["test_images"], found["test_products"], suggested["images"]) == (16, 16, 16)
    assert 0 < suggested["right"] <= suggested["judged"] <= suggested["suggested"] <= 16
    assert colour["metrics_before"]["hierarchical_f1"] == found["comparison"]["champion_f1"]
    assert (colour["target"], found["outcome"].startswith("taxonomist-v3 is served now")) == (0.9, True)


def test_nothing_new_compares_nothing(run: Run, trained: Services) -> None:
    out = run("train")[1]
    assert out.startswith("Nothing is trained")
    assert "┃ on the test images  ┃ taxonomist-v1 ┃\n" in out
    found = run_json(run, "train")
    assert (found["trained"], found["version"], found["champion_before"]) == (False, "v1", "v1")


def test_its_progress_never_goes_back(trained: Services) -> None:
    shares: list[float] = []
    taxonomist.open_home(trained.settings.home).project("7").train(lambda _, share: shares.append(share), force=True)
    assert shares == sorted(shares)
    assert (len(set(shares)) > 3, shares[-1]) == (True, 1.0)


def test_a_candidate_says_how_to_serve_it(run: Run, trained: Services) -> None:
    change_settings(trained, "7", ["promotion=manual"])
    out = run("train", "--force")[1]
    assert "taxonomist-v2, a candidate" in out
    assert "Next: `taxonomist models promote v2 --project 7` serves taxonomist-v2." in out


def test_what_is_missing_is_said(run: Run, services: Services, tmp_path: Path) -> None:
    manifest = write_catalogue(tmp_path / "few", 8)
    manifest.write_text(manifest.read_text().replace(",product", ",other"))
    publish_backbone(services)
    run("import", manifest, "--project", "colours")
    code, out, err = run("train")
    assert code == 0, err
    assert "more images for taxonomy: before, it suggests no single path." in out
    assert "Next: Name the products" in out
    assert "`taxonomist settings --project colours product_field=FIELD`" in out


def test_python_returns_the_same(trained: Services) -> None:
    result = taxonomist.open_home(trained.settings.home).project("7").train(force=True)
    assert (result.version, result.champion_before, result.served, result.trained) == ("v2", "v1", True, True)
    assert result.comparison is not None
    assert result.controls[0].metrics is not None
    assert result.controls[0].metrics.hierarchical_f1 == result.comparison.f1
    assert result.report.is_dir()


def test_an_empty_home_says_what_to_do_first(run: Run) -> None:
    for form in ((), ("--json",)):
        code, out, err = run("train", *form)
        assert (code, out) == (2, "")
        assert "Run `taxonomist import` or `taxonomist connect` first." in err
