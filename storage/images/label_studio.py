"""Images that Label Studio stores or redirects to."""

from collections.abc import Callable
from urllib.parse import parse_qs, unquote, urlsplit

from taxonomist.storage.addresses import parse_address
from taxonomist.storage.images.allowed_hosts import AllowedHosts
from taxonomist.storage.images.http import Credential, HttpImages, data_of
from taxonomist.storage.images.label_studio_token import TokenAuth
from taxonomist.taxonomy.errors import (
    AuthError,
    ConfigError,
    ImageForbiddenError,
    ImageUnavailableError,
    LabelStudioError,
)

__all__ = ["LabelStudioImages"]

_HINT = "Set TAXONOMIST_LABEL_STUDIO_API_KEY to the token of a user who can see the project."


class LabelStudioImages:
    """`Images` of one Label Studio, read with the project's token. The token is sent to that origin only.

    `fallback` is the token that is used when that one is refused.
    """

    def __init__(
        self, base_url: str, token: Callable[[], str], http: HttpImages, *, fallback: str | None = None
    ) -> None:
        self._base_url = base_url.rstrip("/")
        try:
            self._origin = AllowedHosts.target(self._base_url).origin
        except ImageForbiddenError as error:
            raise ConfigError(
                f'"{base_url}" is not the URL of a Label Studio.',
                hint='Set TAXONOMIST_LABEL_STUDIO_URL, for example to "http://localhost:8080".',
            ) from error
        self._prefix = urlsplit(self._base_url).path
        self._auth = TokenAuth(self._base_url, token, fallback=fallback)
        self._http = http

    def owns(self, uri: str) -> bool:
        """Return whether the address is one of Label Studio's paths, or any address on its host."""
        return self._url(uri) is not None

    def read(self, uri: str) -> bytes:
        """See `Images.read`. After status 401 the token is renewed once."""
        url = self._url(uri)
        if url is None:
            raise ImageForbiddenError(f'"{uri}" is not an image of the Label Studio at {self._base_url}.')
        parts = urlsplit(url)
        paths = [parts.path, *parse_qs(parts.query).get("d", [])]
        if any(".." in unquote(path).replace("\\", "/").split("/") for path in paths):
            raise ImageForbiddenError(f'"{uri}" leaves its folder by "..".')
        try:
            header = self._auth.header()
            answer = self._http.fetch(url, Credential(self._origin, header))
            if answer.status == 401 and answer.target.origin == self._origin and self._auth.renewable:
                header = self._auth.header(renew=True, refused=header.get("Authorization"))
                answer = self._http.fetch(url, Credential(self._origin, header))
        except AuthError as error:
            raise ImageForbiddenError(f'The image "{uri}" needs a token. {error}') from error
        except LabelStudioError as error:
            raise ImageUnavailableError(str(error)) from error
        if answer.target.origin == self._origin and urlsplit(answer.url).path.endswith("/user/login/"):
            raise ImageForbiddenError(f'Label Studio requires a login to read "{uri}".', hint=_HINT)
        return data_of(answer, uri)

    def _url(self, uri: str) -> str | None:
        """Return the whole URL to request, None for an address that is not of this Label Studio."""
        prefixed = self._prefix and uri.startswith(f"{self._prefix}/")
        address = parse_address(uri.removeprefix(self._prefix) if prefixed else uri)
        if address.is_on_label_studio:
            return f"{self._base_url}{address.url}"
        try:
            return address.url if AllowedHosts.target(address.url).origin == self._origin else None
        except ImageForbiddenError:
            return None
