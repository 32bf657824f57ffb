"""Images that Label Studio stores or redirects to."""

import re
from collections.abc import Callable
from urllib.parse import parse_qs, unquote, urlsplit

from taxonomist.storage.images.allowed_hosts import AllowedHosts
from taxonomist.storage.images.http import Answer, Credential, HttpImages, data_of
from taxonomist.storage.images.label_studio_token import TokenAuth
from taxonomist.taxonomy.errors import (
    AuthError,
    ConfigError,
    ImageForbiddenError,
    ImageUnavailableError,
    LabelStudioError,
)

__all__ = ["LabelStudioImages", "is_label_studio_path"]

_HINT = "Set TAXONOMIST_LABEL_STUDIO_API_KEY to the token of a user who can see the project."

_PATHS = re.compile(r"/(?:data/(?:upload|local-files)/|(?:tasks|projects)/\d+/(?:resolve|presign)/)")


def is_label_studio_path(uri: str) -> bool:
    """Return whether it is a path without a host that only Label Studio can serve.

    These are `/data/upload/...`, `/data/local-files/?d=...` and `/tasks/7/resolve/?fileuri=...`.
    """
    return bool(_PATHS.match(uri))


class LabelStudioImages:
    """`Images` of one Label Studio, read with the project's token. The token is sent to that origin only."""

    def __init__(self, base_url: str, token: Callable[[], str], http: HttpImages) -> None:
        self._base_url = base_url.rstrip("/")
        try:
            self._origin = AllowedHosts.target(self._base_url).origin
        except ImageForbiddenError as error:
            raise ConfigError(
                f'"{base_url}" is not the URL of a Label Studio.',
                hint='Set TAXONOMIST_LABEL_STUDIO_URL, for example to "http://localhost:8080".',
            ) from error
        self._prefix = urlsplit(self._base_url).path
        self._auth = TokenAuth(self._base_url, token)
        self._http = http

    def owns(self, uri: str) -> bool:
        """Return whether the address is one of Label Studio's paths, or any address on its host."""
        if is_label_studio_path(uri.removeprefix(self._prefix)):
            return True
        try:
            return AllowedHosts.target(uri).origin == self._origin
        except ImageForbiddenError:
            return False

    def read(self, uri: str) -> bytes:
        """See `Images.read`. After status 401 the token is renewed once."""
        url = self._absolute(uri)
        try:
            answer = self._fetch(url, renew=False)
            if answer.status == 401 and answer.target.origin == self._origin and self._auth.renewable:
                answer = self._fetch(url, renew=True)
        except AuthError as error:
            raise ImageForbiddenError(f'The image "{uri}" needs a token. {error}') from error
        except LabelStudioError as error:
            raise ImageUnavailableError(str(error)) from error
        if answer.target.origin == self._origin and urlsplit(answer.url).path.endswith("/user/login/"):
            raise ImageForbiddenError(f'Label Studio requires a login to read "{uri}".', hint=_HINT)
        return data_of(answer, uri)

    def _fetch(self, url: str, *, renew: bool) -> Answer:
        return self._http.fetch(url, Credential(self._origin, self._auth.header(renew=renew)))

    def _absolute(self, uri: str) -> str:
        parts = urlsplit(uri)
        paths = [parts.path, *parse_qs(parts.query).get("d", [])]
        if any(".." in unquote(path).replace("\\", "/").split("/") for path in paths):
            raise ImageForbiddenError(f'"{uri}" leaves its folder by "..".')
        if parts.scheme:
            return uri
        prefixed = self._prefix and uri.startswith(f"{self._prefix}/")
        return f"{self._base_url}{uri.removeprefix(self._prefix) if prefixed else uri}"
