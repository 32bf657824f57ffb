"""With one address, pages of a project are for those who may see the project in Label Studio."""

from __future__ import annotations

import re
from pathlib import Path

from taxonomist.backend.web.app import create_app
from taxonomist.backend.web.people.pages import LOG_IN
from tests.backend.web.people.sessions import ANNA, LEA, LabelStudio, cookie, services
from tests.small_world import CONFIG


def test_the_key_alone_opens_no_page(tmp_path: Path, label_studio: LabelStudio) -> None:
    made = services(tmp_path, label_studio)
    for project in ("4", "5"):
        made.projects.update(project, label_config=CONFIG, title="Secret sinks")
    client = create_app(made.settings, made).test_client(use_cookies=False)

    def status(session: str | None, project: str = "4", page: str = "similar") -> int:
        key = made.credentials.project_key(project, "look-alikes" if page == "similar" else page)
        headers = {"Cookie": cookie(session)} if session else {}
        answer = client.get(f"/{page}?project={project}&key={key}&id=x&src=x", headers=headers)
        assert answer.status_code != 403 or "no-store" in answer.headers["Cache-Control"]
        return answer.status_code

    assert [status(session) for session in (ANNA, LEA, None, "unknown")] == [200, 200, 403, 403]
    assert [status(session, "5") for session in (ANNA, LEA, None)] == [403, 200, 403]
    assert [status(session, page="thumbnail") for session in (ANNA, None)] == [404, 403]
    assert status(ANNA, "4.1") == 403  # the key of "4.1" is another one
    for language, sentence in (("en", LOG_IN), ("de-CH", "Melden Sie sich in Label Studio an")):
        key = made.credentials.project_key("4")
        answer = client.get(f"/similar?project=4&key={key}&src=x", headers={"Accept-Language": language})
        text = answer.get_data(as_text=True)
        assert sentence in text
        assert f'<html lang="{language[:2]}">' in text
        assert "Secret sinks" not in text
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'self';")
        assert policy.endswith("frame-ancestors 'self'")
        (style,) = re.findall(r'"stylesheet" href="(assets/[^"]+)"', text)
        assert client.get(f"/{style}").status_code == 200
    label_studio.broken = True
    assert status("another") == 502
    made.settings.browser_url = None  # another address: no session reaches us, and the key alone counts
    assert status(None) == 200
