"""Who a person is, by real requests to a Label Studio."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from taxonomist.backend.web.people import People, Person, person
from taxonomist.taxonomy.errors import LabelStudioError
from tests.backend.web.people.sessions import ANNA, LEA, LabelStudio, cookie, services


def test_who_they_are_and_what_they_may_see(tmp_path: Path, label_studio: LabelStudio) -> None:
    people = People(services(tmp_path, label_studio))
    assert people.person(cookie(ANNA)) == Person(2, "anna@example.com", {"4": "annotator"})
    assert people.person(cookie(LEA)) == Person(1, "Lea@Example.com", {"4": "lead", "5": "lead"})
    assert people.person(cookie(ANNA), ["5"]) == Person(2, "anna@example.com", {})
    for nobody in (None, "", "csrftoken=abc", cookie("unknown"), cookie(""), f"{cookie(ANNA)}; sessionid=b"):
        assert people.person(nobody) is None


def test_named_leads_replace_the_creator(tmp_path: Path, label_studio: LabelStudio) -> None:
    people = People(services(tmp_path, label_studio, leads="ANNA@example.com, x@example.com"))
    assert people.person(cookie(ANNA)) == Person(2, "anna@example.com", {"4": "lead"})
    assert people.person(cookie(LEA)) == Person(1, "Lea@Example.com", {"4": "annotator", "5": "annotator"})


def test_the_cookie_goes_to_two_questions_and_nothing_else_does(
    tmp_path: Path, label_studio: LabelStudio, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made = services(tmp_path, label_studio)
    people = People(made)
    people.person(cookie(ANNA))
    people.person(cookie(LEA))
    paths = ["/api/current-user/whoami", "/api/projects/4", "/api/projects/5"]
    assert [path for path, _ in label_studio.asked] == [*paths, *paths]
    for number, (_, headers) in enumerate(label_studio.asked):
        assert headers["Cookie"] == f"sessionid={ANNA if number < 3 else LEA}"  # what it set is not sent
        assert "Authorization" not in headers
    assert not [session for session in (ANNA, LEA) if session in caplog.text]
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and LEA.encode() in file.read_bytes()]
    assert ANNA not in repr(vars(people))


@pytest.mark.parametrize(
    "url", ["https://labels.example", "https://other.example/taxonomist", "http://labels.example/taxonomist"]
)
def test_without_one_address_nothing_is_asked(tmp_path: Path, label_studio: LabelStudio, url: str) -> None:
    assert People(services(tmp_path, label_studio, browser_url=url)).person(cookie(LEA)) is None
    assert label_studio.asked == []


def test_answers_are_kept_for_a_minute(
    tmp_path: Path, label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    people, now = People(services(tmp_path, label_studio)), 1000.0
    monkeypatch.setattr(person, "time", SimpleNamespace(monotonic=lambda: now))
    for _ in range(3):
        people.person(cookie(ANNA), ["4"])
        assert people.person(cookie("unknown")) is None
    assert len(label_studio.asked) == 3
    now += person.KEPT_S + 1
    monkeypatch.setattr(label_studio, "people", {})  # logged out
    assert people.person(cookie(ANNA), ["4"]) is None


def test_few_answers_are_kept(tmp_path: Path, label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(person, "MOST_KEPT", 3)
    people = People(services(tmp_path, label_studio))
    for number in range(6):
        people.person(cookie(f"unknown{number}"), ["4"])
    assert len(people._kept) == 3


def test_a_broken_label_studio_is_an_error_and_not_an_answer(tmp_path: Path, label_studio: LabelStudio) -> None:
    people = People(services(tmp_path, label_studio))
    label_studio.broken = True
    with pytest.raises(LabelStudioError, match="500"):
        people.person(cookie(ANNA))
    label_studio.broken = False
    assert people.person(cookie(ANNA)) is not None
