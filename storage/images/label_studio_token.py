"""The `Authorization` header for Label Studio's two kinds of tokens."""

import base64
import binascii
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from taxonomist.storage.images.loading import is_awaited, seconds_left
from taxonomist.storage.network.host_breaker import HOSTS
from taxonomist.storage.network.http_clients import RedirectedElsewhere, http_client, reason_and_fix
from taxonomist.storage.network.plain_responses import UnusableResponse
from taxonomist.taxonomy.errors import AuthError, LabelStudioError

__all__ = ["TokenAuth"]

log = logging.getLogger(__name__)

_RENEW_EARLY_S = 30.0
_LIFETIME_S = 300.0


@dataclass(frozen=True)
class _Access:
    """An access token, the personal access token of its exchange, and its end by the monotonic clock."""

    token: str
    personal: str
    ends_at: float


class TokenAuth:
    """Makes the header. A legacy token is sent unchanged.

    A personal access token (a JWT, with two dots) is exchanged for an access token that is valid for 300 seconds, which
    is kept until 30 seconds before its end. `token` is called each time, so that a changed setting takes effect.
    `fallback` is used once Label Studio refuses it, for example because it was revoked and a new one was set.
    """

    def __init__(
        self, base_url: str, token: Callable[[], str], timeout_s: float = 10.0, *, fallback: str | None = None
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._tokens: list[Callable[[], str]] = [token]
        if fallback:
            self._tokens.append(lambda: fallback)
        self._current = 0
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._access: _Access | None = None

    @property
    def token(self) -> str:
        """The token that is in use: the first, or the fallback after the first was refused."""
        return self._tokens[self._current]().strip()

    def header(self, *, renew: bool = False, refused: str | None = None) -> Mapping[str, str]:
        """Return the `Authorization` header, empty without a token.

        `renew`: Label Studio has refused the header `refused`; get a new access token, or use the other token.

        Raises `AuthError` when Label Studio refuses the personal access token, and `LabelStudioError` when Label Studio
        is not reachable.
        """
        token = self.token
        if renew and not _is_personal(token) and refused in {None, f"Token {token}"}:
            token = self._other(token)
        try:
            return self._header(token, renew=renew)
        except AuthError:
            if (other := self._other(token)) == token:
                raise
            return self._header(other, renew=renew)

    def _other(self, refused: str) -> str:
        """Return the token to use in place of a refused one, which another thread may have replaced already."""
        if len(self._tokens) == 1:
            return refused
        with self._lock:
            if self.token == refused:
                self._current = 1 - self._current
                log.warning("Label Studio at %s refuses a token; the other one that is known is used", self._base_url)
            return self.token

    def _header(self, token: str, *, renew: bool) -> Mapping[str, str]:
        if not token:
            return {}
        if not _is_personal(token):
            return {"Authorization": f"Token {token}"}
        with self._lock:
            access = self._access
            if (
                renew
                or access is None
                or access.personal != token
                or access.ends_at - _RENEW_EARLY_S < time.monotonic()
            ):
                access = self._access = self._exchange(token)
        return {"Authorization": f"Bearer {access.token}"}

    @property
    def renewable(self) -> bool:
        """Whether a new access token, or the other token, can help after status 401."""
        return _is_personal(self.token) or len(self._tokens) > 1

    def _exchange(self, token: str) -> _Access:
        url = f"{self._base_url}/api/token/refresh/"
        place = httpx.URL(self._base_url).netloc.decode("ascii")  # as `Target.place`
        if is_awaited() and (refusal := HOSTS.refusal(place)):
            raise LabelStudioError(f"Label Studio at {self._base_url} is not reachable: {refusal}.")
        is_known = False
        try:
            with http_client(self._base_url, timeout=max(0.1, seconds_left(self._timeout_s))) as client:
                answer = client.post(url, json={"refresh": token})
            HOSTS.answered(place)
            is_known = True
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason, fix = reason_and_fix(error)
            is_known = True
            if isinstance(error, UnusableResponse | RedirectedElsewhere):
                HOSTS.answered(place)
            else:
                HOSTS.failed(place, reason, url if isinstance(error, httpx.TimeoutException) else None)
            raise LabelStudioError(
                f"Label Studio at {self._base_url} is not reachable ({reason}).",
                hint=fix or "Check TAXONOMIST_LABEL_STUDIO_URL.",
            ) from error
        finally:
            if not is_known:
                HOSTS.left(place)
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


def _is_personal(token: str) -> bool:
    return token.count(".") == 2


def _end(token: str) -> float:
    """Return the end of the JWT by the monotonic clock: the clock of Label Studio, or ours, may be wrong. It is not
    verified, because only Label Studio relies on it."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        lifetime_s = float(claims["exp"]) - float(claims["iat"])
    except (IndexError, ValueError, KeyError, TypeError, binascii.Error):
        lifetime_s = _LIFETIME_S
    return time.monotonic() + lifetime_s
