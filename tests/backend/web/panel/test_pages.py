"""The panel's page, its thumbnails, its files and what it counts."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest

from taxonomist.backend.services import Services
from taxonomist.backend.state.credentials import THUMBNAIL
from tests.backend.web.test_app import client_of, new_image, predict
from tests.small_world import CONFIG, PATHS

GREEN = ("Cold", "Green")


def page_of(services: Services, uri: str, **headers: str) -> str:
    key = services.credentials.project_key("7")
    answer = client_of(services).get(f"/similar?project=7&key={key}&src={uri}", headers=headers)
    assert answer.status_code == 200
    return answer.get_data(as_text=True)


def test_similar_page_shows_labelled_images_only_with_the_key(trained: Services) -> None:
    client = client_of(trained)
    uri = new_image(trained, ("Cold", "Green"))
    key = trained.credentials.project_key("7")
    page = client.get(f"/similar?project=7&key={key}&src={uri}")
    assert page.status_code == 200
    html = page.get_data(as_text=True)
    assert html.count("<img") == trained.settings.neighbours
    assert "Cold › Green" in html
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in page.headers["Content-Security-Policy"]
    thumbnail = client.get(html.split('<img src="')[1].split('"')[0].replace("&amp;", "&"))
    assert thumbnail.status_code == 200
    assert thumbnail.content_type == "image/jpeg"
    for wrong in ("", "x", trained.credentials.project_key("8")):
        assert client.get(f"/similar?project=7&key={wrong}&src={uri}").status_code == 403
        assert client.get(f"/thumbnail?project=7&key={wrong}&id=x").status_code == 403


@pytest.mark.parametrize(
    "uri",
    [
        "https://h.test/a.jpg?sig=s3cr3t",
        "https://u:s3cr3t@h.test/a.jpg",
        "azure-blob://c/a.jpg?sv=1&sig=s3cr3t",
        "https%3A%2F%2Fu%3As3cr3t%40h.test%2Fa.jpg",
        f"https://h.test/{'a' * 4000}?s3cr3t",
    ],
)
def test_no_secret_of_an_address_is_shown_or_logged(
    trained: Services, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    predict(trained, uri)
    key = trained.credentials.project_key("7")
    page = client_of(trained).get(f"/similar?project=7&key={key}&src={uri}")
    assert page.status_code == 200
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 3
    assert "s3cr3t" not in page.get_data(as_text=True) + "".join(messages)
    assert max(map(len, messages)) < 1500


def test_the_key_of_a_thumbnail_ends_with_that_of_its_page(trained: Services) -> None:
    end = datetime.now(UTC).date() + timedelta(days=3)
    key = trained.credentials.project_key("7", until=end)
    uri = new_image(trained, ("Cold", "Green"))
    html = client_of(trained).get(f"/similar?project=7&key={key}&src={uri}").get_data(as_text=True)
    assert set(re.findall(r"thumbnail\?project=7&amp;key=(\d+)-", html)) == {f"{end:%Y%m%d}"}


def test_similar_page_proposes_a_node_that_the_model_has_not_learned(trained: Services) -> None:
    trained.projects.update("7", label_config=CONFIG.replace('"Green"/>', '"Green"/><Choice value="Lime"/>'))
    uri, key = new_image(trained, ("Cold", "Green")), trained.credentials.project_key("7")
    page = f"/similar?project=7&key={key}&src={uri}"
    assert "nothing is promised" not in client_of(trained).get(page).get_data(as_text=True)
    for document in trained.catalog.documents("7", labelled=True):
        if document.projects["7"].accepted == {"colour": [["Cold", "Green"]]}:
            lime = document.projects["7"].model_copy(update={"accepted": {"colour": [["Cold", "Lime"]]}})
            trained.catalog.put(document.in_project("7", lime))
    html = client_of(trained).get(page).get_data(as_text=True)
    assert "<h2>The look-alikes propose</h2>" in html
    assert '<li class="offer" title="Cold › Lime">' in html


def test_similar_page_escapes_what_it_shows(trained: Services) -> None:
    key = trained.credentials.project_key("7")
    page = client_of(trained).get(f"/similar?project=7&key={key}&src=<script>alert(1)</script>")
    assert page.status_code == 200
    assert "<script>" not in page.get_data(as_text=True)
    trained.projects.update("7", label_config=CONFIG.replace('"Green"', '"&lt;img src=x onerror=alert(1)&gt;"'))
    for document in trained.catalog.documents("7", labelled=True):
        odd = {"accepted": {"colour": [["Cold", "<img src=x onerror=alert(1)>"]]}}
        trained.catalog.put(document.in_project("7", document.projects["7"].model_copy(update=odd)))
    page = client_of(trained).get(f"/similar?project=7&key={key}&src={new_image(trained, PATHS[0])}")
    assert "&lt;img src=x" in page.get_data(as_text=True)
    assert "<img src=x" not in page.get_data(as_text=True)


@pytest.mark.parametrize(
    ("known", "sites"),
    [
        ({}, "'self'"),
        ({"label_studio_url": "https://labels.test/labels"}, "'self' https://labels.test"),
        (
            {"label_studio_url": "http://inner:8080", "label_studio_addresses": ("https://labels.test:8443",)},
            "'self' http://inner:8080 https://labels.test:8443",
        ),
        ({"label_studio_url": "http://localhost:8080"}, "'self' http://localhost:8080 http://127.0.0.1:8080"),
        ({"label_studio_url": "http://[::1]:8080"}, "'self'"),
        ({"label_studio_url": "http://a.test; img-src *"}, "'self'"),
        ({"label_studio_url": "https://Müller.test:8443/ls"}, "'self' https://xn--mller-kva.test:8443"),
        ({"label_studio_url": "https://日本語.test"}, "'self' https://xn--wgv71a119e.test"),
        ({"label_studio_url": "http://label_studio:8080"}, "'self'"),
        ({"label_studio_url": "http://a..test"}, "'self'"),
        (
            {"label_studio_url": "http://ⓔ.test", "label_studio_addresses": ("http://b.test.:80",)},
            "'self' http://b.test.",
        ),
    ],
)
def test_only_label_studio_shows_our_pages_in_its_frames(trained: Services, known: dict[str, Any], sites: str) -> None:
    trained.projects.update("7", **known)
    key, client = trained.credentials.project_key("7"), client_of(trained)
    page = client.get(f"/similar?project=7&key={key}&src={new_image(trained, PATHS[0])}")
    image = page.get_data(as_text=True).split('<img src="')[1].split('"')[0].replace("&amp;", "&")
    for answer in (page, client.get(image)):
        assert f"frame-ancestors {sites}" == answer.headers["Content-Security-Policy"].split("; ")[-1]


def test_thumbnails_are_of_labelled_images_only(trained: Services) -> None:
    uri = new_image(trained, PATHS[0], "private.jpg")
    predict(trained, uri)  # embedded and known, but without a label
    document = next(found for found in trained.catalog.documents("7") if found.uri_orig == uri)
    key = trained.credentials.project_key("7", THUMBNAIL)
    answer = client_of(trained).get(f"/thumbnail?project=7&key={key}&id={document.id}")
    assert answer.status_code == 404


def test_the_page_has_no_script_or_style_of_its_own(trained: Services) -> None:
    html = page_of(trained, new_image(trained, GREEN))
    assert not re.findall(r"<style|style=|<script(?! src=)|\son[a-z]+=|javascript:", html)
    for name in re.findall(r'(?:href|src)="(panel/[^"]+)"', html):
        file = client_of(trained).get(name)
        assert file.status_code == 200
        assert "immutable" in file.headers["Cache-Control"]
    assert client_of(trained).get("/panel/x/panel.js").status_code == 404


def test_a_suggestion_comes_first_then_look_alikes_by_path(trained: Services) -> None:
    html = page_of(trained, new_image(trained, GREEN))
    suggestion, groups = html.split('<section class="block group">', 1)
    assert "<h2>Suggestion</h2>" in suggestion
    assert re.findall('<li class="offer" title="(.*)">', suggestion)[0] == "Cold › Green"
    assert re.search(r'<span class="percent">\d+ %</span>', suggestion)
    assert re.search(r"<h3>\d+ × Green <small>Cold</small></h3>", groups)


def test_a_label_to_take_names_its_paths_and_the_image(trained: Services) -> None:
    html = page_of(trained, new_image(trained, GREEN))
    [first, *_] = re.findall(r'data-set="([^"]*)" data-number="(\d)"', html)
    assert json.loads(unescape(first[0])) == {"colour": {"paths": [["Cold", "Green"]], "image": "image"}}
    assert first[1] == "1"


def test_what_the_control_does_not_take_is_not_offered(trained: Services) -> None:
    for document in trained.catalog.documents("7", labelled=True):
        inner = document.projects["7"].model_copy(update={"accepted": {"colour": [["Cold"]]}})
        trained.catalog.put(document.in_project("7", inner))
    uri = new_image(trained, GREEN)
    assert page_of(trained, uri).count("Use this label</span>") == 1
    trained.projects.update("7", label_config=CONFIG.replace("<Taxonomy ", '<Taxonomy leafsOnly="true" '))
    assert page_of(trained, uri).count("Use this label</span>") == 0


def test_a_wrong_key_gets_a_page_that_says_what_to_do(trained: Services) -> None:
    answer = client_of(trained).get("/similar?project=7&key=wrong&src=a.jpg")
    assert answer.status_code == 403
    assert "WWW-Authenticate" not in answer.headers
    assert answer.content_type.startswith("text/html")
    assert "Tell your project lead." in answer.get_data(as_text=True)
    assert "frame-ancestors" in answer.headers["Content-Security-Policy"]


def test_an_error_is_for_the_log_and_a_sentence_for_the_annotator(
    trained: Services, caplog: pytest.LogCaptureFixture
) -> None:
    html = page_of(trained, "https://images.test/a.jpg")
    assert "the image cannot be read at the moment. Label it as you see it." in html
    assert "TAXONOMIST_" not in html
    assert "TAXONOMIST_ALLOWED_IMAGE_HOSTS" in caplog.text


def test_a_control_sample_has_nothing_until_the_person_has_submitted(trained: Services) -> None:
    uri = new_image(trained, GREEN)
    task = {"id": 5, "data": {"image": uri}, "project": 7}
    client_of(trained).post("/webhook", json={"action": "TASKS_CREATED", "project": {"id": 7}, "tasks": [task]})
    trained.journal.fold()
    assert "<img" in page_of(trained, uri)
    blind = Services(trained.settings.model_copy(update={"blind_share": 1.0}))
    html = page_of(blind, uri)
    assert "Control sample: please label without help." in html
    assert "<img" not in html
    assert "data-set" not in html
    key = blind.credentials.project_key("7")
    for end, is_shown in ((f"&submitted=1&src={uri}", True), (f"&src={uri}&submitted=1", False)):
        page = client_of(blind).get(f"/similar?project=7&key={key}{end}").get_data(as_text=True)
        assert ("<img" in page) == is_shown


def test_a_look_alike_leads_to_its_task_at_the_address_that_the_browser_knows(trained: Services) -> None:
    trained.projects.update(
        "7", label_studio_url="http://inner:8080", label_studio_addresses=("https://labels.test/ls",)
    )
    for number, document in enumerate(trained.catalog.documents("7", labelled=True)):
        task = document.projects["7"].model_copy(update={"task_id": str(number)})
        trained.catalog.put(document.in_project("7", task))
    uri = new_image(trained, GREEN)
    assert 'href="http://inner:8080/projects/7/data?task=' in page_of(trained, uri)
    assert 'href="https://labels.test/ls/projects/7/data?task=' in page_of(trained, uri, Referer="https://labels.test/")


def test_uses_are_counted_with_the_key_of_the_page(trained: Services) -> None:
    client = client_of(trained)
    uri = new_image(trained, GREEN)
    page = client.get(f"/similar?project=7&key={trained.credentials.project_key('7')}&src={uri}")
    key = page.get_data(as_text=True).split('data-key="')[1].split('"')[0]
    for use in ("offered", "taken", "taken", "corrected"):
        assert client.post("/panel/use?project=7", json={"key": key, "use": use}).status_code == 204
    for project, wrong in (("7", trained.credentials.project_key("7")), ("8", key), ("7", None)):
        answer = client.post(f"/panel/use?project={project}", json={"key": wrong, "use": "taken"})
        assert answer.status_code == 403
    for body in ({"key": key, "use": "x"}, {"key": key, "use": []}, {"key": key}):
        assert client.post("/panel/use?project=7", json=body).status_code == 400
    assert client.post("/panel/use?project=7", data="[]").status_code == 403
    assert client.post("/panel/use", json={"key": key, "use": "taken"}).status_code == 400
    metrics = client.get("/metrics").get_data(as_text=True)
    counts = re.findall(r'taxonomist_panel_labels_total{project="7",use="(\w+)"} (\d+)', metrics)
    assert dict(counts) == {"offered": "1", "taken": "2", "corrected": "1"}
