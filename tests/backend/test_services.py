"""Which token is used for a Label Studio, and which one when that is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from flask import Flask, Response, jsonify, request
from pydantic import SecretStr
from werkzeug.serving import make_server

from taxonomist.backend.services import Services
from taxonomist.taxonomy.errors import LabelStudioError


@pytest.fixture
def label_studio() -> Iterator[str]:
    """The address of a server that accepts the token "new" only; it has an image and a user."""
    app = Flask("label-studio")

    @app.before_request
    def refuse() -> tuple[Response, int] | None:
        if request.headers.get("Authorization") != "Token new":
            return jsonify(detail="Invalid token."), 401
        return None

    app.add_url_rule("/data/upload/4/a.jpg", "image", lambda: Response(b"an image"))
    app.add_url_rule(
        "/api/current-user/whoami", "whoami", lambda: jsonify(id=1, email="anna@example.com", username="a")
    )
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_revoked_token_is_replaced_by_that_of_the_environment(services: Services, label_studio: str) -> None:
    """As the error of the revoked token says: "give it in TAXONOMIST_LABEL_STUDIO_API_KEY"."""
    services.projects.update("4", label_studio_url=label_studio, api_key=SecretStr("revoked"))
    with services.open_label_studio("4") as client, pytest.raises(LabelStudioError, match="401") as error:
        client.user()
    assert "TAXONOMIST_LABEL_STUDIO_API_KEY" in str(error.value.hint)
    services.settings.label_studio_api_key = SecretStr("new")
    with services.open_label_studio("4") as client:
        assert client.user() == "anna@example.com"
        assert client.token == "new"
    assert services.images("4").read("/data/upload/4/a.jpg") == b"an image"


@pytest.mark.parametrize(
    ("own_url", "expected"),
    [
        (None, "new"),
        ("http://label-studio:8080", "new"),
        ("http://label-studio:8080/", "new"),
        ("http://elsewhere:8080", None),  # a token is not sent to another Label Studio
    ],
)
def test_the_settings_token_stands_in(services: Services, own_url: str | None, expected: str | None) -> None:
    services.projects.update("4", label_studio_url="http://label-studio:8080", api_key=SecretStr("old"))
    assert services.other_token("4") is None
    services.settings.label_studio_api_key, services.settings.label_studio_url = SecretStr("new"), own_url
    assert services.label_studio("4") == ("http://label-studio:8080", "old")
    assert services.other_token("4") == expected
    if own_url is None:  # with a second server, the token of the settings may belong to either
        services.projects.update("6", label_studio_url="http://elsewhere:8080", api_key=SecretStr("theirs"))
        assert services.other_token("4") is services.other_token("6") is None
    services.projects.update("4", api_key=SecretStr("new"))
    assert services.other_token("4") is None
    assert services.other_token("5") is None
