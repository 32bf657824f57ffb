"""With one address, Label Studio's session is the login, and only leads see the pages of a project."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from taxonomist.backend.services import registry_name
from taxonomist.backend.web.app import create_app
from tests.backend.web.console.conftest import PASSWORD
from tests.backend.web.people.conftest import label_studio
from tests.backend.web.people.sessions import ANNA, LEA, LabelStudio, cookie, services
from tests.small_world import CONFIG, publish_promise

__all__ = ["label_studio"]

FORWARDED = {"X-Forwarded-For": "10.1.1.1"}
ACTIONS = [
    "overview",
    "set-aside",
    "changes",
    "evaluation",
    "images",
    "label-many",
    "labelled-many",
    "image?id=x",
    "thumbnail?id=x",
    "retrain",
    "promote?version=v1",
    "roll-back",
]


def test_people_see_their_projects_and_leads_change_them(tmp_path: Path, label_studio: LabelStudio) -> None:
    made = services(tmp_path, label_studio, password=SecretStr(PASSWORD))
    for project in ("4", "5"):
        made.projects.update(project, label_config=CONFIG)
    client = create_app(made.settings, made).test_client(use_cookies=False)

    def get(path: str, session: str | None) -> tuple[int, str]:
        headers = FORWARDED | ({"Cookie": cookie(session)} if session else {})
        answer = client.get(path, headers=headers)
        return answer.status_code, answer.get_data(as_text=True)

    assert get("/projects", None)[0] == get("/projects", "unknown")[0] == 303
    links = [re.findall(r"project/(\w+)/overview", get("/projects", session)[1]) for session in (ANNA, LEA)]
    assert links == [[], ["4", "5"]]
    assert 'scope="row">4' in get("/projects", ANNA)[1]
    for action in ACTIONS:
        assert get(f"/project/4/{action}", ANNA)[0] == 403
        assert get(f"/project/5/{action}", ANNA)[0] == get(f"/project/9/{action}", ANNA)[0] == 404
    for action in ACTIONS[9:]:
        assert client.post(f"/project/4/{action}", headers=FORWARDED | {"Cookie": cookie(ANNA)}).status_code == 403
    status, page = get("/project/4/roll-back", LEA)
    assert status == 200
    assert 'action="roll-back"' not in page or 'type="password"' in page
    label_studio.broken = True
    assert get("/projects", "another")[0] == 303


@pytest.mark.parametrize("action", ["promote?version=v1", "roll-back"])
def test_without_a_password_a_lead_reads_what_to_set(tmp_path: Path, label_studio: LabelStudio, action: str) -> None:
    made = services(tmp_path, label_studio)
    made.projects.update("4", label_config=CONFIG)
    for _ in range(2):
        publish_promise(made, "4", target=0.9, threshold=0.5)
    champion = made.registry.champion(registry_name("4"))
    client = create_app(made.settings, made).test_client(use_cookies=False)
    headers = FORWARDED | {"Cookie": cookie(LEA)}
    page = client.get(f"/project/4/{action}", headers=headers).get_data(as_text=True)
    assert "TAXONOMIST_PASSWORD" in page
    assert "taxonomist connect --project 4" in page
    assert "<form method" not in page
    assert 'action="retrain"' in client.get("/project/4/retrain", headers=headers).get_data(as_text=True)
    assert made.registry.champion(registry_name("4")) == champion
    login = client.get("/login", headers=FORWARDED).get_data(as_text=True)
    assert ("Where Label Studio has the same address" in login, 'type="password"' in login) == (True, False)


@pytest.mark.parametrize("session", [ANNA, None])
def test_nobody_learns_which_projects_there_are(tmp_path: Path, label_studio: LabelStudio, session: str | None) -> None:
    made = services(tmp_path, label_studio, password=SecretStr(PASSWORD))
    client = create_app(made.settings, made).test_client(use_cookies=False)
    headers = FORWARDED | ({"Cookie": cookie(session)} if session else {})
    pages = [client.get(f"/project/{project}/overview", headers=headers) for project in ("5", "99")]
    texts = [answer.get_data(as_text=True).replace("99", "5") for answer in pages]
    assert texts[0] == texts[1]
    assert pages[0].status_code == pages[1].status_code
