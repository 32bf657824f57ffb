"""The page of the evaluation: each number is that of the images behind it, and names are text."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest
from flask.testing import FlaskClient

from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.web.console.evaluation.german import EVALUATION
from taxonomist.backend.web.console.language import LANGUAGE
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.training.heads.report.outcomes import OUTCOMES_FILE, ImageOutcome
from tests.backend.web.console.conftest import browser_of
from tests.small_world import publish_outcomes, publish_promise

EVIL = "Straßenmöbel <script>alert('x')</script>"
RED, YELLOW, BLUE, WORST = ("Warm", "Red"), ("Warm", "Yellow"), ("Cold", "Blue"), ("Cold", EVIL)
PATHS: list[TaxonomyPath] = [("Warm",), RED, YELLOW, ("Cold",), BLUE, WORST]
_CELL = re.compile(r'<td class="(?:right|wrong) s\d+"><a href="([^"]+)">(\d+)</a></td>')
_CHANGE = re.compile(r'<td class="n"><a class="\w*" href="([^"]+)">(\d+)</a></td>')


@pytest.fixture
def tested(trained: Services) -> Services:
    """A version that confuses some of the 80 images of the project."""
    ids = sorted(document.id for document in trained.catalog.documents("7"))
    predicted = [RED, RED, YELLOW, BLUE, WORST]
    labels = [RED, YELLOW, BLUE, WORST]
    outcomes = [
        ImageOutcome(id, (labels[place % 4],), predicted[place % 5], (0.9, 0.6)) for place, id in enumerate(ids)
    ]
    publish_outcomes(trained, "7", outcomes, PATHS)
    former = [replace(outcome, likeliest=labels[place % 3]) for place, outcome in enumerate(outcomes[10:])]
    publish_outcomes(trained, "7", former, PATHS)
    return trained


def text_of(client: FlaskClient, path: str, status: int = 200) -> str:
    answer = client.get(f"/project/7/{path}")
    assert answer.status_code == status, path
    return answer.get_data(as_text=True)


@pytest.mark.parametrize("address", ["evaluation", "evaluation?at=Warm", "evaluation?at=Cold&version=v2&than=v3"])
def test_a_number_is_that_of_the_images_that_it_opens(tested: Services, address: str) -> None:
    client = browser_of(tested)
    text = text_of(client, address)
    cells, changes = _CELL.findall(text), _CHANGE.findall(text)
    assert len(cells) > 3
    assert len(changes) > 3
    assert "<script" not in text
    for link, number in cells + changes:
        page = text_of(client, html.unescape(link))
        assert page.count('class="tile"') == int(number)
        assert f'<span class="muted">{number} image' in page


def test_a_german_page_has_none_of_the_english_sentences(tested: Services) -> None:
    client = browser_of(tested)
    client.set_cookie(LANGUAGE, "de")
    cells = _CELL.findall(text_of(client, "evaluation")) + _CHANGE.findall(text_of(client, "evaluation"))
    pages = [text_of(client, address) for address in ("evaluation", "evaluation?at=Cold&nodes=all")]
    assert EVIL in html.unescape(pages[1])
    for text in (*pages, *(text_of(client, html.unescape(link)) for link, _ in cells)):
        assert [sentence for sentence in EVALUATION if " " in sentence and sentence in html.unescape(text)] == []


def test_images_that_were_forgotten_are_missed(tested: Services) -> None:
    client = browser_of(tested)
    link, number = _CELL.findall(text_of(client, "evaluation?at=Warm"))[1]
    ids = re.findall(r'href="image\?id=([^"]+)"', text_of(client, html.unescape(link)))
    tested.catalog.leave_project("7", ids[:1])
    page = text_of(client, html.unescape(link))
    assert page.count('class="tile"') == int(number) - 1
    assert "Images that have left the project since are not shown." in page


def test_images_with_personal_data_are_counted_and_not_shown(tested: Services) -> None:
    client = browser_of(tested)
    link, number = _CELL.findall(text_of(client, "evaluation?at=Warm"))[1]
    (id, *_) = re.findall(r'href="image\?id=([^"]+)"', text_of(client, html.unescape(link)))
    tested.catalog.update(id, lambda document: document.model_copy(update={"face_rects": [[0, 0, 1, 1]]}))
    page = text_of(client, html.unescape(link))
    assert (page.count('class="tile"'), page.count("thumbnail?id=")) == (int(number), int(number) - 1)


def test_a_page_without_outcomes_says_what_to_do(trained: Services) -> None:
    client = browser_of(trained)
    publish_promise(trained, "7", target=0.9, threshold=0.5)
    assert "from an earlier release" in text_of(client, "evaluation")
    publish_outcomes(trained, "7", [])
    assert "has no test images" in text_of(client, "evaluation")
    trained.projects.update("4", title="Empty")
    assert "before the first training" in client.get("/project/4/evaluation").get_data(as_text=True)


def test_a_version_that_cannot_be_read_costs_only_itself(tested: Services) -> None:
    damaged = tested.registry.get(registry_name("7"), "v2").path / OUTCOMES_FILE
    damaged.write_bytes(damaged.read_bytes().replace(b"likeliest", b"unlikeliest"[:9]))
    page = text_of(browser_of(tested), "evaluation?than=v2")
    assert "Version v2 cannot be read." in page
    assert len(_CELL.findall(page)) > 3
    assert "Version v2 cannot be read." in text_of(browser_of(tested), "evaluation?version=v2")


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("evaluation?version=v9", 404),
        ("evaluation?version=../v2", 404),
        ("evaluation?control=taste", 404),
        ("evaluation?at=Warm&at=Green", 404),
        ("evaluation?focus=Green", 404),
        ("evaluation?than=v9", 404),
        ("evaluation?version=v2&than=v2", 404),
        ("evaluation?at=" + "x" * 3000, 404),
        ("images?evaluated=cell", 400),
        ("images?evaluated=change&evaluated=v2&evaluated=colour&evaluated=v3&evaluated=-1&evaluated=better", 400),
        ("images?evaluated=change&evaluated=v2&evaluated=colour&evaluated=v3&evaluated=1&evaluated=best", 400),
        ("images?evaluated=change&evaluated=v2&evaluated=colour&evaluated=v3&evaluated=9&evaluated=better", 404),
        ("images?evaluated=cell&evaluated=v2&evaluated=colour&evaluated=&evaluated==Warm&evaluated=x", 404),
        ("images?evaluated=cell&evaluated=v2&evaluated=<script>&evaluated=&evaluated==Warm&evaluated==Warm", 404),
    ],
)
def test_an_address_that_names_nothing(tested: Services, address: str, status: int) -> None:
    page = text_of(browser_of(tested), address, status)
    assert "<script" not in page
    assert 'class="error"' in page
