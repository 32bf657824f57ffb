"""The accounts of the demo: the first user, users who sign up through the invite link, and our server's password."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx

from taxonomist.storage.formats import FORMAT, check_format
from taxonomist.storage.network.http_clients import http_client
from taxonomist.taxonomy.errors import LabelStudioError

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Account:
    """A user of Label Studio. `token` is the legacy token; the secrets do not appear in logs and tracebacks."""

    email: str
    password: str = field(repr=False)
    token: str = field(repr=False)
    user_id: int | None = None

    def client(self, url: str) -> httpx.Client:
        """Return an HTTP client for the Label Studio at `url` with this user's token."""
        return http_client(url, headers={"Authorization": f"Token {self.token}"}, timeout=TIMEOUT_S)


def first_user(file: Path, email: str = "admin@example.com") -> Account:
    """Return Label Studio's first account from `file`, which only its owner may read; make it if missing."""
    if file.exists():
        content = json.loads(file.read_text())
        check_format(file, content.pop(FORMAT, 1), newest=1)
        return Account(**content)
    account = Account(email, secrets.token_urlsafe(12), secrets.token_hex(20))
    file.parent.mkdir(parents=True, exist_ok=True)
    _write_secret(file, json.dumps({FORMAT: 1, **asdict(account)}))
    return account


def server_password(file: Path) -> str:
    """Return the password of the demo's backend from `file`, which only its owner may read; make it if missing."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        _write_secret(file, secrets.token_urlsafe(12))
    return file.read_text().strip()


def _write_secret(file: Path, text: str) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)


def sign_up(url: str, host: Account, email: str, password: str) -> Account:
    """Sign up `email` through the invite link of `host`'s organisation, or log in to its account; return the account.

    Raises `LabelStudioError` when the address is taken with another password or Label Studio refuses.
    """
    invite = checked(_get(host, url, "/api/invite")).json()["invite_url"]
    with http_client(url, timeout=TIMEOUT_S, stay=False) as browser:
        form = {"email": email, "password": password}
        _post_form(browser, invite, form)
        answer = browser.get("/api/current-user/token")
        if answer.status_code in {401, 403}:  # no session: the account exists already
            _post_form(browser, "/user/login/", form)
            answer = browser.get("/api/current-user/token")
        if answer.status_code in {401, 403}:
            raise LabelStudioError(
                f"{email} can neither sign up nor log in at {url}.", hint="Is the address taken with another password?"
            )
        token = str(checked(answer).json()["token"])
        user_id = int(checked(browser.get("/api/current-user/whoami")).json()["id"])
    return Account(email, password, token, user_id)


def _get(account: Account, url: str, path: str) -> httpx.Response:
    with account.client(url) as client:
        return client.get(path)


def _post_form(browser: httpx.Client, path: str, form: dict[str, str]) -> None:
    checked(browser.get(path))  # sets the cookie that the form must repeat
    token = browser.cookies.get("csrftoken") or ""
    checked(browser.post(path, data={**form, "csrfmiddlewaretoken": token}, headers={"Referer": str(browser.base_url)}))


def checked(answer: httpx.Response) -> httpx.Response:
    """Return `answer`. Raises `LabelStudioError` with its text when its status is an error."""
    if answer.is_success:
        return answer
    request = answer.request
    raise LabelStudioError(
        f"Label Studio answered {answer.status_code} to {request.method} {request.url.path}: {answer.text[:500]}"
    )
