"""Who may call: basic authentication for Label Studio, a secret header for its webhooks, signed keys for browsers.

Everything is compared in constant time. Nothing here is ever logged.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from pathlib import Path

from taxonomist.backend.settings import Settings
from taxonomist.storage.files import storage_errors, write_if_absent
from taxonomist.taxonomy.errors import AuthError, ConfigError

SECRET_HEADER = "X-Taxonomist-Secret"  # noqa: S105 - its name, not its value


@dataclass(frozen=True)
class Credentials:
    """What callers must show. `password` None leaves the routes open; `check_exposure` allows that on loopback only."""

    username: str
    password: str | None
    webhook_secret: str
    signing_key: bytes

    def check_call(self, authorization: str | None) -> None:
        """Let a call of Label Studio pass, or raise `AuthError`. `authorization` is that header's value."""
        if self.password is not None and not self._basic_matches(authorization):
            raise AuthError(
                "Basic authentication is required.", hint="Set user name and password of the model in Label Studio."
            )

    def check_webhook(self, authorization: str | None, secret: str | None) -> None:
        """Let a webhook pass by its secret header or by basic authentication, or raise `AuthError`."""
        if self.password is None or self._basic_matches(authorization):
            return
        if secret is None or not _same(secret, self.webhook_secret):
            raise AuthError(
                f"The webhook lacks the header {SECRET_HEADER}.", hint="Run `taxonomist connect`, which adds it."
            )

    def project_key(self, project: str) -> str:
        """The key that lets a browser see the look-alikes of one project, as it stands in URLs."""
        digest = hmac.new(self.signing_key, f"similar:{project}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest[:18]).decode()

    def check_project_key(self, project: str, key: str | None) -> None:
        """Let a browser's request for a project's look-alikes pass, or raise `AuthError`."""
        if key is None or not _same(key, self.project_key(project)):
            raise AuthError("The key in the address is wrong.", hint="Run `taxonomist connect` to renew the panel.")

    def _basic_matches(self, authorization: str | None) -> bool:
        kind, _, encoded = (authorization or "").partition(" ")
        if kind.lower() != "basic":
            return False
        try:
            given = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            return False
        # Label Studio sends Latin-1, most other clients UTF-8. All is compared always, so that the time tells nothing.
        expected = f"{self.username}:{self.password or ''}"
        return hmac.compare_digest(given, expected.encode()) | hmac.compare_digest(
            given, expected.encode("latin-1", "replace")
        )


def load_credentials(settings: Settings) -> Credentials:
    """The credentials in force; the webhook secret and the signing key are made once and kept in the home folder."""
    kept = _kept_secret(settings.home / "secret")
    secret = settings.webhook_secret
    return Credentials(
        username=settings.username,
        password=settings.password.get_secret_value() if settings.password else None,
        webhook_secret=secret.get_secret_value() if secret else _derive(kept, "webhook").hex(),
        signing_key=_derive(kept, "signing"),
    )


def check_exposure(settings: Settings) -> None:
    """Raise `ConfigError` when others could reach the server without a password."""
    if not settings.is_loopback and settings.password is None and not settings.allow_no_password:
        raise ConfigError(
            f"Refusing to serve on {settings.host} without a password.",
            hint="Set TAXONOMIST_PASSWORD, or TAXONOMIST_ALLOW_NO_PASSWORD=true if something else guards the server.",
        )


def _kept_secret(path: Path) -> bytes:
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_if_absent(path, secrets.token_bytes(32))
        kept = path.read_bytes()
    if len(kept) < 32:
        raise ConfigError(
            f"{path} is damaged.", hint="Delete it, start again, and run `taxonomist connect` per project."
        )
    return kept


def _derive(secret: bytes, purpose: str) -> bytes:
    return hmac.new(secret, purpose.encode(), hashlib.sha256).digest()


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(), right.encode())
