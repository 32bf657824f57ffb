"""Authentication: basic for Label Studio, a secret header for its webhooks, signed keys for browsers.

All comparisons take constant time. Nothing here is logged.
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
    """What callers must send. Without `password` the routes are open; `check_exposure` allows that on loopback."""

    username: str
    password: str | None
    webhook_secret: str
    signing_key: bytes

    def check_call(self, authorization: str | None) -> None:
        """Raise `AuthError` unless the header `authorization` of a call is right."""
        if self.password is not None and not self._basic_matches(authorization):
            raise AuthError(
                "Basic authentication is required.",
                hint="Run `taxonomist connect`, which gives Label Studio TAXONOMIST_USERNAME and TAXONOMIST_PASSWORD.",
            )

    def check_webhook(self, authorization: str | None, secret: str | None) -> None:
        """Raise `AuthError` unless a webhook has the secret header or basic authentication."""
        if self.password is None or self._basic_matches(authorization):
            return
        if secret is None or not _same(secret, self.webhook_secret):
            raise AuthError(
                f"The webhook lacks the header {SECRET_HEADER}.", hint="Run `taxonomist connect`, which adds it."
            )

    def project_key(self, project: str) -> str:
        """Return the key in URLs with which a browser may see the look-alikes of one project."""
        digest = hmac.new(self.signing_key, f"similar:{project}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest[:18]).decode()

    def check_project_key(self, project: str, key: str | None) -> None:
        """Raise `AuthError` unless a browser's request for a project's look-alikes has that key."""
        if key is None or not _same(key, self.project_key(project)):
            raise AuthError("The key in the address is wrong.", hint="Run `taxonomist connect` to renew the panel.")

    def _basic_matches(self, authorization: str | None) -> bool:
        kind, _, encoded = (authorization or "").partition(" ")
        if kind.lower() != "basic":
            return False
        try:
            sent = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            return False
        # Label Studio sends Latin-1, most other clients UTF-8. Always compare with both: then the time reveals nothing.
        expected = f"{self.username}:{self.password or ''}"
        return hmac.compare_digest(sent, expected.encode()) | hmac.compare_digest(
            sent, expected.encode("latin-1", "replace")
        )


def load_credentials(settings: Settings) -> Credentials:
    """Return the credentials. The webhook secret and the signing key are made once and kept in the home folder."""
    kept = _kept_secret(settings.home / "secret")
    secret = settings.webhook_secret
    return Credentials(
        username=settings.username,
        password=settings.password.get_secret_value() if settings.password else None,
        webhook_secret=secret.get_secret_value() if secret else _derive(kept, "webhook").hex(),
        signing_key=_derive(kept, "signing"),
    )


def check_exposure(settings: Settings) -> None:
    """Raise `ConfigError` when other machines could reach the server without a password."""
    if not settings.is_loopback and settings.password is None and not settings.allow_no_password:
        raise ConfigError(
            f"Refusing to serve on {settings.host} without a password.",
            hint="Set TAXONOMIST_PASSWORD, or TAXONOMIST_ALLOW_NO_PASSWORD=true if a proxy guards the server.",
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
