"""What the pages show, with the worst that labels and titles can be."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from taxonomist.backend.services import Services
from taxonomist.backend.state.jobs import JobKind, JobState
from taxonomist.backend.status.needs import NeedKind
from taxonomist.backend.web.console import german, language, wording
from taxonomist.backend.web.console.language import LANGUAGE, Language, best_language
from taxonomist.backend.web.console.pages.overview import DONE
from taxonomist.backend.web.people import AuditLog
from taxonomist.backend.web.people.pages import LOG_IN, NOT_YOURS
from taxonomist.backend.web.thumbnails import unreadable_image
from taxonomist.storage.catalog import ImageDocument, ProjectLabels
from taxonomist.storage.set_aside import ItemKind, put_aside
from tests.backend.web.console.conftest import browser_of
from tests.backend.web.sentences import ENGLISH, PageText, own_words, sentences_of_templates

CONSOLE = Path(wording.__file__).parent
EVIL = "<script>alert('x')</script>\" onload=\"x ../..\\ &amp; Ärger"


@pytest.fixture
def troubled(trained: Services) -> Services:
    """A project in which everything waits for a person, with names that are meant to break a page."""
    trained.projects.update("7", title=EVIL, changed_labels=3)
    reasons = ["no_agreement", "too_few_annotators", "unreadable", "unknown_paths"]
    for reason in reasons:
        labels = ProjectLabels(uri=f"/{EVIL}.jpg", reason=reason)
        trained.catalog.put(ImageDocument(id=f"image-{reason}").in_project("7", labels))
    evil = ProjectLabels(uri="/evil.jpg", accepted={"colour": [["Warm", EVIL]]})
    trained.catalog.put(ImageDocument(id="image-evil").in_project("7", evil))
    with trained.journal._database.write() as connection:
        for kind in ItemKind:
            put_aside(connection, kind, "7", f"{kind}-{EVIL}"[:60], EVIL)
    failed = trained.jobs.enqueue(JobKind.TRAIN, "7", EVIL)
    trained.jobs.start(failed.id)
    trained.jobs.finish(failed.id, JobState.FAILED, EVIL)
    trained.jobs.enqueue(JobKind.SYNC, "7", EVIL)
    AuditLog(trained.settings.home).add(EVIL, "promote", project="7", what=EVIL)
    return trained


def all_pages(client: FlaskClient) -> Iterator[TestResponse]:
    for path in ("projects", "project/7/overview?done=retrain", "project/7/set-aside", "project/7/retrain"):
        yield client.get(f"/{path}")
    yield client.get("/project/7/promote?version=v1")
    yield client.get("/project/7/roll-back")
    yield client.get("/project/7/images")
    yield client.get("/project/7/images?suggestion=wrong&node=colour&node=Warm&state=labelled&product=<script>")
    yield client.get("/project/7/image?id=image-evil")
    yield client.get("/project/7/image?id=image-no_agreement")
    yield client.get("/project/7/label-many?node=<script>")
    yield client.get("/project/7/labelled-many")
    yield client.get("/project/7/labelled-many?id=<script>")
    yield client.get("/project/7/evaluation")
    yield client.get("/project/7/evaluation?at=Warm")
    yield client.get("/project/7/evaluation?version=<script>")
    cell = ["cell", "v1", "colour", "", "=Red", "=Red", "Warm"]
    yield client.get(f"/project/7/images?{urlencode([('evaluated', value) for value in cell])}")
    yield client.get("/project/7/changes")
    yield client.get("/project/nobody/overview")
    yield client.post("/project/7/retrain")
    yield client.get("/login", headers={"X-Forwarded-For": "10.1.1.1"})
    yield client.post("/login", data={"password": "x"})


def test_root_answers_browsers_with_the_console_and_label_studio_with_its_health(visited: FlaskClient) -> None:
    for accept in ("*/*", "application/json", None):
        answer = visited.get("/", headers={"Accept": accept} if accept else {})
        assert answer.get_json()["status"] == "UP"
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    assert visited.get("/", headers=browser).headers["Location"] == "projects"


def test_an_overview_says_what_is_served_and_what_waits(troubled: Services) -> None:
    text = html.unescape(browser_of(troubled).get("/project/7/overview").get_data(as_text=True))
    for sentence in (
        "85 images · 81 accepted labels",
        "1 image where annotators disagree",
        "1 image cannot be processed",
        "A job has failed: Training",
        "of the images have an accepted label",
        "The worker does not run",
    ):
        assert sentence in text


def test_an_empty_home_and_a_project_without_anything(services: Services) -> None:
    client = browser_of(services)
    assert "There is no project yet" in client.get("/projects").get_data(as_text=True)
    services.projects.update("4", title="Nothing")
    shown = client.get("/project/4/overview")
    assert (shown.status_code, "no test images" in shown.get_data(as_text=True)) == (200, True)
    assert client.get("/project/4/roll-back").status_code == 200


def test_names_and_titles_are_text(troubled: Services) -> None:
    for answer in all_pages(browser_of(troubled)):
        parser = PageText("en")
        parser.feed(answer.get_data(as_text=True))
        assert not [tag for tag in parser.tags if tag.startswith(("script", "iframe")) or "onload'" in tag]


@pytest.mark.parametrize("project", ["..", "../7", "%2e%2e", "a/b", "7%00", "x" * 300, "<script>", "\u202e7"])
def test_odd_names_of_projects(visited: FlaskClient, project: str) -> None:
    answer = visited.get(f"/project/{project}/overview")
    assert answer.status_code in {400, 404}
    assert "<script>" not in answer.get_data(as_text=True)


def test_headers_of_each_page(troubled: Services) -> None:
    client = browser_of(troubled)
    for answer in all_pages(client):
        if answer.status_code == 303:
            continue
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"
        parser = PageText("en")
        parser.feed(answer.get_data(as_text=True))
        assert not [tag for tag in parser.tags if re.search(r"^script|^style|'style'|'on\w+':|https?://", tag)]


def test_files_are_kept_by_browsers_under_an_address_with_their_hash(visited: FlaskClient) -> None:
    page = visited.get("/project/7/overview").get_data(as_text=True)
    for path in re.findall(r'href="\.\./\.\./(assets/[^"]+)"', page):
        answer = visited.get(f"/{path}")
        assert (answer.status_code, "immutable" in answer.headers["Cache-Control"]) == (200, True)
    assert visited.get("/assets/x/console.css").headers["Cache-Control"] == "no-cache"
    assert visited.get("/assets/x/..%2fpages.py").status_code == 404


def test_a_german_page_has_no_english_sentence(troubled: Services) -> None:
    client = browser_of(troubled)
    client.set_cookie(LANGUAGE, "de")
    for answer in all_pages(client):
        parser = PageText("de")
        parser.feed(answer.get_data(as_text=True))
        sentences = [text for text in parser.found if ENGLISH.search(text.replace(EVIL, ""))]
        assert sentences == []


def test_each_sentence_is_translated_with_the_same_values() -> None:
    needed = (
        sentences_of_templates(CONSOLE, german.GERMAN)
        | set(wording.JOBS.values())
        | set(wording.STATES.values())
        | set(DONE.values())
    )
    needed |= {text for pair in wording._SET_ASIDE.values() for text in pair}
    needed |= {text for pair in wording._TITLES.values() for text in pair if text}
    needed |= {text for _, *pair in language.AGES for text in pair} | {LOG_IN, NOT_YOURS}
    assert needed <= german.GERMAN.keys()
    assert set(wording._TITLES) | {NeedKind.SET_ASIDE} == set(NeedKind)
    assert set(wording.JOBS) == {kind.value for kind in JobKind}
    names = re.compile(r"\{(\w+)\}")
    for english, translated in german.GERMAN.items():
        assert set(names.findall(english)) == set(names.findall(translated)), english


def test_templates_have_no_text_of_their_own() -> None:
    for template, words in own_words(CONSOLE):
        assert words <= {"taxo", "nomist", "taxonomist", "English", "Deutsch"}, template


@pytest.mark.parametrize(
    ("chosen", "accepted", "code"),
    [
        (None, None, "en"),
        (None, "de-CH,en;q=0.5", "de"),
        (None, "fr,en;q=0.4,de;q=0.6", "de"),
        (None, "de;q=x,en-GB", "en"),
        ("en", "de", "en"),
        ("xx", "de", "de"),
    ],
)
def test_the_language_is_the_readers(chosen: str | None, accepted: str | None, code: str) -> None:
    assert best_language(chosen, accepted).code == code


def test_numbers_in_both_languages() -> None:
    english, german_ = Language("en"), Language("de")
    assert (english.number(1234.5, 1), german_.number(1234.5, 1)) == ("1,234.5", "1.234,5")
    assert (english.score(0.544), english.score(1.0), german_.score(0.544)) == (".54", "1.00", "0,54")
    shown = [english.percent(share).replace("\u00a0", " ") for share in (0, 0.001, 0.5, 0.999, 1)]
    assert shown == ["0 %", "1 %", "50 %", "99 %", "100 %"]


def test_a_reader_chooses_language_and_colours(visited: FlaskClient) -> None:
    answer = visited.get("/preferences?language=de&theme=dark&next=project/7/overview")
    assert answer.headers["Location"] == "project/7/overview"
    page = visited.get("/project/7/overview").get_data(as_text=True)
    assert '<html lang="de" data-color-scheme="dark">' in page
    assert visited.get("/preferences?language=x%0d%0a&next=//evil").headers["Location"] == "projects"


def test_a_thumbnail_is_made_anew_and_private_images_have_none(trained: Services) -> None:
    client = browser_of(trained)
    id = next(trained.catalog.documents("7")).id
    answer = client.get(f"/project/7/thumbnail?id={id}")
    assert (answer.content_type, answer.data[:2]) == ("image/jpeg", b"\xff\xd8")
    trained.catalog.update(id, lambda document: document.model_copy(update={"face_rects": [[0, 0, 1, 1]]}))
    assert client.get(f"/project/7/thumbnail?id={id}").status_code == 404
    assert f"thumbnail?id={id}" not in client.get(f"/project/7/image?id={id}").get_data(as_text=True)
    assert client.get("/project/7/thumbnail?id=../x").status_code == 404
    evil = ProjectLabels(uri="../../etc/passwd")
    trained.catalog.put(ImageDocument(id="evil").in_project("7", evil))
    answer = client.get("/project/7/thumbnail?id=evil")
    assert (answer.status_code, answer.data, answer.headers["Cache-Control"]) == (200, unreadable_image(), "no-store")
