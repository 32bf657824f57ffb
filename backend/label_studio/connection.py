"""The connection to one Label Studio, which all calls share."""

from __future__ import annotations

from collections.abc import Generator
from functools import cached_property
from typing import TYPE_CHECKING, Self

import httpx

from taxonomist.backend.label_studio.failures import ACCESS_FIX, ADDRESS_FIX
from taxonomist.storage.images.label_studio_token import TokenAuth
from taxonomist.storage.network.http_clients import http_client
from taxonomist.taxonomy.errors import LabelStudioError
from taxonomist.taxonomy.numbers import is_number

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio


class Connection:
    """One user's connection, by a legacy token or a personal access token. Use it in a `with` block, or `close` it.

    `fallback` is another token, for the case that Label Studio refuses the first.
    """

    def __init__(self, url: str, api_key: str, *, fallback: str | None = None, timeout_s: float = 60.0) -> None:
        self.url = url.rstrip("/")
        if not api_key.strip() or not api_key.isascii():
            raise LabelStudioError("The token for Label Studio is empty or not ASCII.", hint=ACCESS_FIX)
        self._token = TokenAuth(self.url, lambda: api_key, fallback=fallback)
        try:
            self._http = http_client(
                self.url, auth=_Authorization(self._token), timeout=httpx.Timeout(timeout_s, connect=5.0)
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise LabelStudioError(f"{url!r} is not an address ({error}).", hint=ADDRESS_FIX) from error

    @property
    def token(self) -> str:
        """The token that is in use: the first, or the fallback after Label Studio has refused the first."""
        return self._token.token

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @cached_property
    def _sdk(self) -> LabelStudio:
        from label_studio_sdk import LabelStudio  # noqa: PLC0415 - the SDK, which imports pandas when it is used

        # The SDK's key is never sent: `_Authorization` replaces it.
        client: LabelStudio = LabelStudio(  # type: ignore[no-untyped-call]
            base_url=self.url, api_key="see _Authorization", httpx_client=self._http
        )
        return client


class _Authorization(httpx.Auth):
    """Adds the token to all requests, those of the SDK too, and gets a new access token when one has expired."""

    def __init__(self, token: TokenAuth) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers.update(self._token.header())
        response = yield request
        if response.status_code == 401 and self._token.renewable:
            refused = request.headers.get("Authorization")
            request.headers.update(self._token.header(renew=True, refused=refused))
            yield request


def project_number(project: str) -> int:
    """Return the project's number for the SDK. Raises `LabelStudioError` for a name."""
    if not is_number(project):
        raise LabelStudioError(
            f"{project!r} is not a project of Label Studio.", hint="Give its number, as in the address /projects/4."
        )
    return int(project)
