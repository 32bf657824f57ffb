"""Label Studio's two kinds of tokens, as the header of a request."""

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

_EARLY_S = 30.0
_LIFE_S = 300.0


@dataclass(frozen=True)
class _Access:
    """An access token, the personal access token it was given for, and when it ends (seconds since the epoch)."""

    token: str
    personal: str
    ends_at: float


class TokenAuth:
    """A legacy token is sent as it is. A personal access token (a JWT, with two dots) is exchanged for an access token
    that lives 300 seconds; it is kept until shortly before its end.

    `token` is asked each time, so that a changed setting is taken up.
    """

    def __init__(self, base_url: str, token: Callable[[], str], timeout_s: float = 10.0) -> None:
        self._base_url = base_url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._access: _Access | None = None

    def header(self, *, renew: bool = False) -> Mapping[str, str]:
        """The `Authorization` header; empty without a token. `renew`: the last one was refused.

        Raises `AuthError` when Label Studio refuses the personal access token, and `LabelStudioError` when it cannot
        be asked.
        """
        token = self._token().strip()
        if not token:
            return {}
        if token.count(".") != 2:
            return {"Authorization": f"Token {token}"}
        with self._lock:
            access = self._access
            if renew or access is None or access.personal != token or access.ends_at - _EARLY_S < time.time():
                access = self._access = self._exchange(token)
        return {"Authorization": f"Bearer {access.token}"}

    @property
    def renewable(self) -> bool:
        """Whether asking again after a 401 can help."""
        return self._token().strip().count(".") == 2

    def _exchange(self, token: str) -> _Access:
        url = f"{self._base_url}/api/token/refresh/"
        try:
            answer = httpx.post(
                url, json={"refresh": token}, timeout=self._timeout_s, trust_env=False, verify=certificates()
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise LabelStudioError(
                f"Label Studio at {self._base_url} cannot be reached ({type(error).__name__}).",
                hint="Check label_studio_url.",
            ) from error
        if answer.status_code in (400, 401, 403):
            raise AuthError(
                f"Label Studio refused the personal access token ({answer.status_code}).",
                hint="Make a new one under Account & Settings and set label_studio_api_key.",
            )
        try:
            access = str(answer.json()["access"])
        except (ValueError, KeyError, TypeError) as error:
            raise LabelStudioError(
                f"{url} answered {answer.status_code} without an access token.", hint="Check label_studio_url."
            ) from error
        return _Access(access, token, _end(access))


def _end(token: str) -> float:
    """When the JWT ends. It is not verified: it is Label Studio that believes it, not we."""
    try:
        body = token.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["exp"])
    except (IndexError, ValueError, KeyError, TypeError, binascii.Error):
        return time.time() + _LIFE_S
