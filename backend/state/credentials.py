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
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from taxonomist.backend.settings import Settings
from taxonomist.storage.files import storage_errors, write_if_absent
from taxonomist.taxonomy.errors import AuthError, ConfigError

SECRET_HEADER = "X-Taxonomist-Secret"  # noqa: S105 - its name, not its value
LOOK_ALIKES, THUMBNAIL, PANEL_USE = "look-alikes", "thumbnail", "panel-use"  # what keys of a project are for
RENEWED_DAYS = 7  # before a key ends, in which the former one and the new one are both valid
_RENEW = "Run `taxonomist connect` to renew the panel."


def today() -> date:
    """Return the day by which keys end, in UTC."""
    return datetime.now(UTC).date()


def key_end(key: str | None) -> date | None:
    """Return the last day of a key, as it says, None for a key of an earlier release and for any other text."""
    day = (key or "").partition("-")[0]
    try:
        return datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).date() if len(day) == 8 else None
    except ValueError:
        return None


@dataclass(frozen=True)
class Credentials:
    """What callers send to prove who they are. The password is the setting's, else one that was made."""

    username: str
    password: str
    webhook_secret: str
    signing_key: bytes
    key_days: int = 90

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

    def project_key(self, project: str, page: str = LOOK_ALIKES, *, until: date | None = None) -> str:
        """Return the key in URLs with which a browser may see one kind of page of a project up to a day.

        By default it is valid for `key_days` from today.
        """
        day = f"{until or today() + timedelta(days=self.key_days):%Y%m%d}"
        return f"{day}-{self._signature(f'{page}:{project}:{day}')}"

    def check_project_key(
        self, project: str, key: str | None, page: str = LOOK_ALIKES, *, former_until: date | None = None
    ) -> date:
        """Return the last day of the key of a browser's request.

        Raises `AuthError` for a key that is wrong or has ended. Keys of earlier releases have no end and open all pages
        of the project; they are valid up to `former_until`, with None always.
        """
        until = key_end(key)
        if key is not None and until is not None and _same(key, self.project_key(project, page, until=until)):
            if until >= today():
                return until
            raise AuthError(f"The key in the address has ended on {until}.", hint=_RENEW)
        if key is not None and _same(key, self._signature(f"similar:{project}")):
            if former_until is None or former_until >= today():
                return today() + timedelta(days=RENEWED_DAYS)
            raise AuthError("The key in the address is one of an earlier release, which has ended.", hint=_RENEW)
        raise AuthError("The key in the address is wrong.", hint=_RENEW)

    def made(self, project: str, key: str) -> bool:
        """Return whether a key of the look-alike page is ours, also one that has ended or of an earlier release."""
        until = key_end(key)
        former = self._signature(f"similar:{project}")
        return _same(key, former if until is None else self.project_key(project, until=until))

    def is_renewed(self, project: str, key: str | None) -> bool:
        """Return whether a key of the look-alike page is valid for more than `RENEWED_DAYS`, so that it may stay."""
        until = key_end(key)
        if key is None or until is None or until <= today() + timedelta(days=RENEWED_DAYS):
            return False
        return _same(key, self.project_key(project, until=until))

    def sign_for_console(self, text: str) -> str:
        """Return a signature that ends with the password: a session of the console is one that a password began."""
        password = hashlib.sha256(f"{self.username}:{self.password}".encode()).hexdigest()
        return hmac.new(self.signing_key, f"console:{password}:{text}".encode(), hashlib.sha256).hexdigest()

    def is_password(self, text: str) -> bool:
        """Return whether a text, as a person typed it, is the password."""
        return _same(text, self.password)

    def _signature(self, text: str) -> str:
        digest = hmac.new(self.signing_key, text.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest[:18]).decode()

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
        key_days=settings.look_alike_key_days,
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
    return hmac.compare_digest(left.encode("utf-8", "replace"), right.encode())
