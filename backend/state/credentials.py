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
    """What callers send to prove who they are. The password is the setting's, else one that was made."""

    username: str
    password: str
    webhook_secret: str
    signing_key: bytes

    def has_password(self, authorization: str | None) -> bool:
        """Return whether the header `authorization` of a call has user name and password."""
        return self._basic_matches(authorization)

    def has_secret(self, secret: str | None) -> bool:
        """Return whether the secret header of a webhook is right."""
        return secret is not None and _same(secret, self.webhook_secret)

    def refusal(self, *, webhook: bool) -> AuthError:
        """Return the error for a call without the password, or for a webhook without password and secret."""
        if webhook:
            return AuthError(
                f"The webhook lacks the header {SECRET_HEADER}.", hint="Run `taxonomist connect`, which adds it."
            )
        return AuthError(
            "Basic authentication is required.",
            hint="Run `taxonomist connect`, which gives Label Studio the user name and the password of this server.",
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
        expected = f"{self.username}:{self.password}"
        return hmac.compare_digest(sent, expected.encode()) | hmac.compare_digest(
            sent, expected.encode("latin-1", "replace")
        )


def load_credentials(settings: Settings) -> Credentials:
    """Return the credentials. What no setting names is derived from a secret that is made once and kept in the home."""
    kept = _kept_secret(settings.home / "secret")
    secret = settings.webhook_secret
    return Credentials(
        username=settings.username,
        password=settings.password.get_secret_value() if settings.password else _derive(kept, "password").hex(),
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
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
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
