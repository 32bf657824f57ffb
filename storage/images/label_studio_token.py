"""The `Authorization` header for Label Studio's two kinds of tokens."""

import base64
import binascii
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from taxonomist.storage.images.certificates import certificates
from taxonomist.taxonomy.errors import AuthError, LabelStudioError

__all__ = ["TokenAuth"]

_RENEW_EARLY_S = 30.0
_LIFETIME_S = 300.0


@dataclass(frozen=True)
class _Access:
    """An access token, the personal access token of its exchange, and its end (seconds since 1970)."""

    token: str
    personal: str
    ends_at: float


class TokenAuth:
    """Makes the header. A legacy token is sent unchanged.

    A personal access token (a JWT, with two dots) is exchanged for an access token that is valid for 300 seconds, which
    is kept until 30 seconds before its end. `token` is called each time, so that a changed setting takes effect.
    """

    def __init__(self, base_url: str, token: Callable[[], str], timeout_s: float = 10.0) -> None:
        self._base_url = base_url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._access: _Access | None = None

    def header(self, *, renew: bool = False) -> Mapping[str, str]:
        """Return the `Authorization` header, empty without a token. `renew`: get a new access token.

        Raises `AuthError` when Label Studio refuses the personal access token, and `LabelStudioError` when Label Studio
        is not reachable.
        """
        token = self._token().strip()
        if not token:
            return {}
        if token.count(".") != 2:
            return {"Authorization": f"Token {token}"}
        with self._lock:
            access = self._access
            if renew or access is None or access.personal != token or access.ends_at - _RENEW_EARLY_S < time.time():
                access = self._access = self._exchange(token)
        return {"Authorization": f"Bearer {access.token}"}

    @property
    def renewable(self) -> bool:
        """Whether a new access token can help after status 401."""
        return self._token().strip().count(".") == 2

    def _exchange(self, token: str) -> _Access:
        url = f"{self._base_url}/api/token/refresh/"
        try:
            answer = httpx.post(
                url, json={"refresh": token}, timeout=self._timeout_s, trust_env=False, verify=certificates()
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise LabelStudioError(
                f"Label Studio at {self._base_url} is not reachable ({type(error).__name__}).",
                hint="Check TAXONOMIST_LABEL_STUDIO_URL.",
            ) from error
        if answer.status_code in (400, 401, 403):
            raise AuthError(
                f"Label Studio refused the personal access token ({answer.status_code}).",
                hint="Create a new one under Account & Settings and set TAXONOMIST_LABEL_STUDIO_API_KEY.",
            )
        try:
            access = str(answer.json()["access"])
        except (ValueError, KeyError, TypeError) as error:
            raise LabelStudioError(
                f"{url} answered {answer.status_code} without an access token.",
                hint="Check TAXONOMIST_LABEL_STUDIO_URL.",
            ) from error
        return _Access(access, token, _end(access))


def _end(token: str) -> float:
    """Return the end of the JWT. It is not verified, because only Label Studio relies on it."""
    try:
        body = token.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["exp"])
    except (IndexError, ValueError, KeyError, TypeError, binascii.Error):
        return time.time() + _LIFETIME_S
