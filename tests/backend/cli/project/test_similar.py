"""`taxonomist similar`: look-alikes of an image, with the suggestion for it or why there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

import taxonomist
from taxonomist.backend.services import Services
from tests.backend.cli.conftest import Run, run_json
from tests.small_world import CONFIG, PATHS, image_bytes, publish_backbone


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(image_bytes(PATHS[2], 999))
    return photo


def reason(services: Services, photo: Path) -> str:
    """Return why Python has no suggestion, from the only project."""
    (prediction,) = taxonomist.open_home(services.settings.home).project().predict([photo])
    return prediction.reason


def test_the_suggestion_comes_with_its_probability(run: Run, trained: Services, photo: Path) -> None:
    found = run_json(run, "similar", photo, "-k", 2, "--suggestions")
    (suggestion,) = found["suggestions"]
    assert (suggestion["path"], suggestion["reason"], len(found["look_alikes"])) == (list(PATHS[2]), "", 2)
    assert run_json(run, "similar", photo, "-k", 2) == found["look_alikes"]
    code, out, err = run("similar", photo, "-k", 2)
    assert code == 0, err
    assert out.startswith(f"Suggestion: Cold › Blue ({suggestion['score']:.2f})")
    assert reason(trained, photo) == ""


def test_a_control_that_the_version_has_not_learned(run: Run, trained: Services, photo: Path) -> None:
    other = '<Taxonomy name="use" toName="image"><Choice value="Indoor"/></Taxonomy>'
    trained.projects.update("7", label_config=CONFIG.replace("</View>", f"{other}</View>"))
    out = run("similar", photo)[1]
    assert "Suggestion, colour: Cold › Blue" in out
    assert "Suggestion, use: none. taxonomist-v1 has not learned the control use" in out


def test_a_broken_promise_is_named(run: Run, trained: Services, photo: Path) -> None:
    trained.suggestions.keep_floors("7", "taxonomist-v1", {"colour": float("inf")})
    assert "were not right often enough" in run_json(run, "similar", photo, "--suggestions")["suggestions"][0]["reason"]


def test_before_a_model_the_look_alikes_answer(run: Run, world: Services, photo: Path) -> None:
    run_json(run, "embed")
    found = run_json(run, "similar", photo, "--suggestions")
    assert (found["version"], found["suggestions"][0]["path"]) == (None, list(PATHS[2]))
    leaves = CONFIG.replace('name="colour"', 'name="colour" leafsOnly="true"')  # no two colours have half of the votes
    world.projects.update("7", label_config=leaves)
    (prediction,) = taxonomist.open_home(world.settings.home, neighbours=80).project().predict([photo])
    assert "the labelled look-alikes do not agree" in prediction.reason


def test_without_labels_it_says_so(run: Run, services: Services, photo: Path) -> None:
    publish_backbone(services)
    services.projects.update("7", label_config=CONFIG)
    out = run("similar", photo)[1]
    assert "Suggestion: none. There is no model yet, and no image has an accepted label." in out
    assert reason(services, photo) == "There is no model yet, and no image has an accepted label."


def test_an_empty_home_says_what_to_do_first(run: Run, photo: Path) -> None:
    for form in ((), ("--json",)):
        code, out, err = run("similar", photo, *form)
        assert (code, out) == (2, "")
        assert "Run `taxonomist import` or `taxonomist connect` first." in err
