"""The one parser of image addresses. What identifies, reads, caches or links an image asks it, so that all agree.

Two addresses are the same image when they have the same `Address.key`. Names of objects in `azure-blob:`, `s3:` and
`gs:` addresses, of Label Studio's local files and of files on the disk are taken as they are: Label Studio does not
percent-encode the first three, and `#`, `?`, `&` and `%` are allowed in all of them.

A path alone does not say whether Label Studio or the disk has the image: `/srv/data/upload/4/3f2a1b0c-a.jpg` may be an
upload in a Label Studio below the path of a proxy, or a file. In a task such a path is Label Studio's. An imported
manifest, which names files, takes the addresses from `file_address`; only the project's own folders are read by those.
"""

import base64
import binascii
import hashlib
import posixpath
import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import quote, unquote, unquote_plus, urlsplit

from taxonomist.storage.signed_queries import without_signature

__all__ = [
    "Address",
    "Blob",
    "Kind",
    "blob_of",
    "file_address",
    "file_path",
    "is_ambiguous_path",
    "is_label_studio_path",
    "parse_address",
    "unsigned",
]

Kind = Literal["azure-blob", "s3", "gs", "local-files", "upload", "http", "file", "data", "other"]

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):", re.IGNORECASE)  # two letters at least: "C:" is a drive
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HADOOP = {"abfs", "abfss", "wasb", "wasbs"}  # the schemes of Azure's drivers for Hadoop and Spark
_UPLOAD = re.compile(r"(.*)/data/upload/(\d+/[^/]+)", re.DOTALL)
_LOCAL_FILES = re.compile(r"([^?#]*)/data/local-files/?\?(?:[^#]*?&)??d=(.*)", re.DOTALL)
_RESOLVE = re.compile(r"(.*)/(?:tasks|projects)/\d+/(?:resolve|presign)/?", re.DOTALL)
_NESTED = re.compile(r"(?:https?:/)?/[^?#]*(?:tasks|projects)/\d+/(?:resolve|presign)/?(?:[?#]|$)", re.IGNORECASE)
_LABEL_STUDIO = re.compile(r"/(?:data/(?:upload|local-files)|(?:tasks|projects)/\d+/(?:resolve|presign))/")
_UPLOADED = re.compile(r"\d+/[0-9a-f]{8}-")  # Label Studio puts eight digits before the name of an uploaded file
_SERVED = r"/(?:data/(?:upload|local-files)|storage-data|(?:tasks|projects)/\d+/(?:resolve|presign))"
_IS_SERVED = re.compile(f"{_SERVED}(?:/.*)?", re.DOTALL)
_MAY_BE_SERVED = re.compile(f"{_SERVED}(?:[/?#]|\\s*\\Z)")  # white space at the end of an address does not count
_FILE = "file:"
_CONTAINER = re.compile(r"\$root|\$web|(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")
_AZURE = re.compile(r"[a-z.]+")
_VERSION_OF_BLOB = re.compile(r"(?:^|&)(?:snapshot|versionid)=", re.IGNORECASE)


@dataclass(frozen=True)
class Address:
    """An address in its parts.

    `place` is the container, the bucket, or the host, with the port unless it is the default one. `name` is the name of
    the object as its store has it; for http(s) it is the path, in which only `%`, `/` and `?` inside a segment are
    percent-encoded. `query` has the parameters of an http(s) address that count. `url` is what a client requests by
    http: a whole URL, or where the address names no host a path of Label Studio, without the path of a proxy before it;
    "" for all others.
    """

    kind: Kind
    place: str
    name: str
    query: str = ""
    url: str = ""

    @property
    def key(self) -> str:
        """The text that identifies the image, in Unicode NFC. Addresses of one image have one key."""
        query = f"?{self.query}" if self.query else ""
        return unicodedata.normalize("NFC", f"{_KEYS[self.kind].format(self)}{query}")

    @property
    def is_on_label_studio(self) -> bool:
        """Whether it is a path without a host that only Label Studio can serve."""
        return self.url.startswith("/")


_KEYS: dict[Kind, str] = {
    "azure-blob": "azure-blob:/{0.place}/{0.name}",
    "s3": "s3://{0.place}/{0.name}",
    "gs": "gs://{0.place}/{0.name}",
    "local-files": "local-files:{0.name}",
    "upload": "upload:{0.name}",
    "http": "http://{0.place}{0.name}",
    "file": "file:{0.name}",
    "data": "data:{0.name}",
    "other": "{0.name}",
}


@dataclass(frozen=True)
class Blob:
    """The container and the name of a blob, as they are in Azure."""

    container: str
    name: str

    @property
    def is_valid(self) -> bool:
        """Whether Azure allows both. Path parts of dots only would lead a client to another container."""
        parts = {part for name in (self.name, unquote(self.name)) for part in name.replace("\\", "/").split("/")}
        return bool(_CONTAINER.fullmatch(self.container)) and 0 < len(self.name) <= 1024 and not {".", ".."} & parts


def parse_address(uri: str) -> Address:
    """Return the parts of any text; one that is no valid address has the kind "other"."""
    text = uri.lstrip()
    found = _SCHEME.match(text)
    if not found:
        return _path(text)
    scheme, rest = found[1].lower(), text[found.end() :]
    if scheme in _DEFAULT_PORTS:
        return _web(scheme, text)
    place, _, name = rest.removeprefix("//").partition("/")
    match scheme if rest.startswith("//") else "":
        case "azure-blob":
            return Address("azure-blob", place, _unsigned_name(name))
        case "s3" | "gs" as kind:
            return Address(kind, place, name)
        case driver if driver in _HADOOP:
            return _hadoop(place, name)
    if scheme == "data":
        return Address("data", "", hashlib.sha256(uri.encode("utf-8", "surrogatepass")).hexdigest())
    known = rest.startswith("//") and scheme not in _KEYS
    return Address("other", "", f"{scheme}:{rest}" if known else f"text:{uri}")


def blob_of(address: Address, account_url: str) -> Blob | None:
    """Return the blob of an address, None when it is not in the account at `account_url`.

    An `azure-blob:` address names no account and is always ours. A version or a snapshot of a blob is not the blob.
    """
    if address.kind == "azure-blob":
        return Blob(address.place, address.name)
    account = parse_address(account_url)
    prefix = account.name.rstrip("/") + "/"
    if address.kind != "http" or address.place != account.place or not address.name.startswith(prefix):
        return None
    if _VERSION_OF_BLOB.search(address.query):
        return None
    container, _, name = address.name.removeprefix(prefix).partition("/")
    return Blob(_decoded(container), _decoded(name))


def is_label_studio_path(path: str) -> bool:
    """Return whether Label Studio serves images below a path: uploads, local files, what its resolver leads to."""
    return bool(_IS_SERVED.fullmatch(path))


def file_address(path: str) -> str:
    """Return the address of the file at an absolute path on the disk: the path, with `file:` before it where the path
    alone could be one of Label Studio's, below whatever path of a proxy.

    >>> file_address("/srv/images/a.jpg"), file_address("/srv/data/upload/4/a.jpg")
    ('/srv/images/a.jpg', 'file:/srv/data/upload/4/a.jpg')
    """
    return f"{_FILE}{path}" if is_ambiguous_path(path) else path


def file_path(address: str) -> str:
    """Return the path of what `file_address` returned; any other text as it is."""
    path = address.removeprefix(_FILE)
    return path if file_address(path) == address else address


def is_ambiguous_path(address: str) -> bool:
    """Return whether an address is a path that may be one of Label Studio or of a file. In a task it is the former."""
    return address.startswith("/") and _MAY_BE_SERVED.search(address) is not None


def unsigned(uri: str) -> str:
    """Return an http(s) or azure-blob address without its signature; any other as it is."""
    address = parse_address(uri)
    if address.kind == "azure-blob" and not address.url:
        return f"azure-blob://{address.place}/{address.name}"
    if address.kind == "http" and "?" in address.url:
        head, _, query = address.url.partition("?")
        kept = without_signature(query)
        return f"{head}?{kept}" if kept else head
    return uri


def _path(text: str) -> Address:
    """Return a path of Label Studio or of a file."""
    stripped = text.rstrip()
    if (found := _LOCAL_FILES.fullmatch(text)) and _is_below(found[1]):
        return _local_file("", found[2])
    if stripped.startswith("/") and (address := _of_label_studio(stripped, "", *_split(stripped))) is not None:
        return address
    return Address("file", "", posixpath.normpath(text.replace("\\", "/")))


def _web(scheme: str, text: str) -> Address:
    site, mark, rest = text[len(scheme) + 1 :].partition("//")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    try:
        parts = urlsplit(f"//{authority}")
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        host, port = "", None
    if site or not mark or not host:
        return Address("other", "", f"text:{text}")
    site = f"{scheme}://{authority}"
    below = rest[len(authority) :]
    if found := _LOCAL_FILES.fullmatch(below):
        return _local_file(site + found[1], found[2])
    below = below.rstrip()
    path, query = _split(below)
    url = f"{site}{path}" + (f"?{query}" if query else "")
    if (address := _of_label_studio(below, site, path, query)) is not None:
        return address
    host = f"[{host}]" if ":" in host else host
    place = host if port in (None, _DEFAULT_PORTS[scheme]) else f"{host}:{port}"
    if parts.username is not None or parts.password is not None:
        place = f"@{place}"  # it is never read, so it must not be taken for an address that is
    name = _canonical(path)
    if (
        _AZURE.fullmatch(host.rpartition(".blob.core.")[2]) and ".blob.core." in host
    ):  # there an encoded slash is a slash
        name = name.replace("%2F", "/")
    return Address("http", place, name, without_signature(query), url)


def _of_label_studio(text: str, site: str, path: str, query: str) -> Address | None:
    """Return an upload, or what the address of Label Studio's resolver leads to; None for other paths, and for a
    resolver inside a resolver, which Label Studio never writes and a sender could nest without end.

    Uploads count without the host, because a Label Studio may have several addresses. Label Studio below the path of a
    proxy writes that path before its own ones, without a host. A path on the disk may end like the path of an upload,
    so there the name must be one that Label Studio makes.
    """
    query = f"?{query}" if query else ""
    if (found := _UPLOAD.fullmatch(path)) and (
        site or not found[1] or (_is_below(found[1]) and _UPLOADED.match(found[2]))
    ):
        return Address("upload", "", _decoded(found[2]), "", f"{site}{path}{query}" if site else path[len(found[1]) :])
    if (found := _RESOLVE.fullmatch(path)) and (site or _is_below(found[1])):
        inner = next((field[8:] for field in query[1:].split("&") if field.startswith("fileuri=")), None)
        if inner and not _NESTED.match(text := _inner(inner)):
            below = "" if site else found[1]
            return replace(parse_address(text), url=f"{site}{path[len(below) :]}{query}")
    if not site and _LABEL_STUDIO.match(path):
        return Address("file", "", posixpath.normpath(text), "", f"{path}{query}")
    return None


def _is_below(prefix: str) -> bool:
    """Return whether what stands before one of Label Studio's paths can be the path of a proxy."""
    return not prefix or (prefix.startswith("/") and not prefix.startswith("//"))


def _local_file(site: str, raw: str) -> Address:
    """Return a file that Label Studio serves. Its view decodes `d` as a form does, and normalises the path."""
    name = posixpath.normpath(unquote_plus(raw, errors="surrogateescape")).lstrip("/")
    url = f"{site}/data/local-files/?d={quote(name, errors='surrogateescape')}"
    return Address("local-files", "", name, "", url)


def _hadoop(place: str, name: str) -> Address:
    """Return the blob of `abfss://container@account.dfs.core.windows.net/name`, as its https address."""
    container, mark, account = place.partition("@")
    if not mark:
        return Address("azure-blob", place, name)
    host = account.replace(".dfs.", ".blob.", 1)
    return parse_address(f"https://{host}/{quote(container)}/{quote(name, errors='surrogatepass')}")


def _split(below: str) -> tuple[str, str]:
    path, _, query = below.partition("#")[0].partition("?")
    return path, query


def _canonical(path: str) -> str:
    """Return the path of an http address in one form, however much of it is percent-encoded."""
    segments: list[str] = []
    for segment in (path or "/").split("/"):
        if segment == ".." and len(segments) > 1:
            segments.pop()
        elif segment not in {".", ".."}:
            segments.append(segment)
    plain = (_decoded(segment).replace("%", "%25").replace("/", "%2F").replace("?", "%3F") for segment in segments)
    return "/".join(plain) or "/"


def _decoded(text: str) -> str:
    return unquote(text, errors="surrogateescape")


def _unsigned_name(name: str) -> str:
    """Return the name of a blob without a signature that a program has added to the address."""
    head, mark, query = name.rpartition("?")
    return head if mark and not without_signature(query) else name


def _inner(field: str) -> str:
    """Return the address inside Label Studio's `fileuri`: base64, in early releases percent-encoded text."""
    text = _decoded(field)
    try:
        code = text.replace("+", "-").replace("/", "_")
        return base64.b64decode(code + "=" * (-len(code) % 4), altchars=b"-_", validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return text
