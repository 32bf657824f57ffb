"""Images that one Label Studio serves: uploads, local files, and the objects of its storages in S3, GCS and Azure."""

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from taxonomist.storage.addresses import Address, is_label_studio_path, parse_address
from taxonomist.storage.images import without_query
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

__all__ = ["IN_A_STORAGE", "LabelStudioImages"]

IN_A_STORAGE = frozenset({"s3", "gs", "azure-blob"})
"""The kinds of addresses that Label Studio resolves through the storages of a project."""

_TOKEN_HINT = "Set TAXONOMIST_LABEL_STUDIO_API_KEY to the token of a user who can see the project."  # noqa: S105


class LabelStudioImages:
    """`Images` of one Label Studio, read at `base_url` with the project's token, which is sent to no other site.

    `other_urls` are further addresses of the same Label Studio, which addresses of images may have. `project` is the
    number of the project whose storages have the images in S3, Google Cloud Storage and Azure; without it they are not
    read. `fallback` is the token that is used when the first is refused.
    """

    def __init__(
        self,
        base_url: str,
        token: Callable[[], str],
        http: HttpImages,
        *,
        fallback: str | None = None,
        other_urls: Iterable[str] = (),
        project: str | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        try:
            self._origin = AllowedHosts.target(self._base_url).origin
            self._sites = [_site(self._base_url), *map(_site, other_urls)]
        except ImageForbiddenError as error:
            raise ConfigError(
                f'"{base_url}" is not the URL of a Label Studio.',
                hint='Set TAXONOMIST_LABEL_STUDIO_URL, for example to "http://localhost:8080".',
            ) from error
        self._project = project
        self._auth = TokenAuth(self._base_url, token, fallback=fallback)
        self._http = http

    def owns(self, uri: str) -> bool:
        """Return whether the image is read from this Label Studio."""
        return self._url(uri, parse_address(uri)) is not None

    def read(self, uri: str) -> bytes:
        """See `Images.read`. After status 401 the token is renewed once."""
        address = parse_address(uri)
        url = self._url(uri, address)
        if url is None:
            raise ImageForbiddenError(f'"{uri}" is not an image of the Label Studio at {self._base_url}.')
        parts = urlsplit(url)
        paths = [parts.path, *parse_qs(parts.query).get("d", [])]
        if any(".." in unquote(path).replace("\\", "/").split("/") for path in paths):
            raise ImageForbiddenError(f'"{uri}" leaves its folder by "..".')
        try:
            answer = self._fetch(url)
            if answer.status == 404 and answer.url == url and self._resolves(address):
                url = url.replace("/resolve/?", "/presign/?", 1)  # its name before release 1.20
                answer = self._fetch(url)
        except AuthError as error:
            raise ImageForbiddenError(f'The image "{uri}" needs a token. {error}') from error
        except (LabelStudioError, ConfigError) as error:
            raise ImageUnavailableError(str(error)) from error
        except ImageForbiddenError as error:
            if self._resolves(address):
                raise self._signed_elsewhere(uri, error) from error
            raise
        if self._credential({}).is_at(answer.target) and urlsplit(answer.url).path.endswith("/user/login/"):
            raise ImageForbiddenError(f'Label Studio requires a login to read "{uri}".', hint=_TOKEN_HINT)
        if answer.url == url and self._resolves(address):
            self._check_resolved(uri, answer)
        return data_of(answer, uri)

    def _fetch(self, url: str) -> Answer:
        credential = self._credential(self._auth.header())
        answer = self._http.fetch(url, credential)
        if answer.status == 401 and credential.is_at(answer.target) and self._auth.renewable:
            header = self._auth.header(renew=True, refused=credential.header.get("Authorization"))
            answer = self._http.fetch(url, self._credential(header))
        return answer

    def _credential(self, header: Mapping[str, str]) -> Credential:
        return Credential(self._origin, header, urlsplit(self._base_url).path)

    def _url(self, uri: str, address: Address) -> str | None:
        """Return the whole URL to request, None for an address that is not of this Label Studio."""
        if self._resolves(address):
            text = f"{address.kind}://{address.place}/{address.name}".encode("utf-8", "surrogatepass")
            code = base64.urlsafe_b64encode(text).decode()
            return f"{self._base_url}/projects/{self._project}/resolve/?fileuri={code}"
        if address.is_on_label_studio:
            return f"{self._base_url}{address.url}"
        place, below = _split(uri, address)
        for site in self._sites:
            if not below.startswith(f"{site.path}/"):
                continue
            rest = below[len(site.path) :]
            served = is_label_studio_path(rest.partition("?")[0])
            # Label Studio itself names its other addresses, and may be wrong: there, only paths of its own are read.
            if place == site.place and (served or site is self._sites[0]):
                return f"{self._base_url}{rest}"
            if not place and site.path and served:
                return f"{self._base_url}{rest}"
        return None

    def _resolves(self, address: Address) -> bool:
        return self._project is not None and address.kind in IN_A_STORAGE

    def _check_resolved(self, uri: str, answer: Answer) -> None:
        """Raise the error for an answer of the resolver itself that is not the image."""
        if answer.status == 404:
            raise ImageForbiddenError(
                f"Label Studio finds no storage for {without_query(uri)} in project {self._project}.",
                hint="Add its bucket or container under Settings > Cloud Storage of the project.",
            )
        if answer.status == 424:
            raise ImageUnavailableError(
                f"Label Studio cannot read {without_query(uri)} from the storage of project {self._project}.",
                hint="Check in Label Studio whether the object exists and the storage's credentials are valid.",
            )

    def _signed_elsewhere(self, uri: str, error: ImageForbiddenError) -> ImageForbiddenError:
        """Return the error for a signed address on a host that is not allowed."""
        own_way = "Or turn pre-signed URLs off in the storage's settings: then Label Studio sends the image itself."
        return ImageForbiddenError(
            f"Label Studio redirects {without_query(uri)} to its store. {error.args[0]}",
            hint=f"{error.hint} {own_way}" if error.hint else own_way,
        )


@dataclass(frozen=True)
class _Site:
    """An address of Label Studio: its host, with the port unless it is the default one, and its path."""

    place: str
    path: str


def _site(url: str) -> _Site:
    return _Site(AllowedHosts.target(url).place, urlsplit(url).path.rstrip("/"))


def _split(uri: str, address: Address) -> tuple[str, str]:
    """Return the host of an address, "" for a path, and the rest from its path on; two empty texts for no URL."""
    if address.kind == "file":
        return "", uri.strip()
    try:
        place = AllowedHosts.target(address.url).place
    except ImageForbiddenError:
        return "", ""
    parts = urlsplit(address.url)
    return place, f"{parts.path}?{parts.query}" if parts.query else parts.path
