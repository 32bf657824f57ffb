"""What counts as the same image: the parser of addresses, against what the readers request."""

from __future__ import annotations

import base64
import posixpath
import unicodedata
from typing import Any
from urllib.parse import parse_qs, quote, unquote_to_bytes

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taxonomist.storage.addresses import Blob, blob_of, file_address, parse_address, unsigned
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.home.former_image_ids import former_image_id
from taxonomist.storage.signed_queries import without_signature

SAS = "sv=2024-11-04&sr=b&sp=r&se=2026-12-01&sig=9f86d081884c7d659a2feaa0c55ad015"
ACCOUNT = "https://acc.blob.core.windows.net"


def resolve(inner: str) -> str:
    return f"/tasks/7/resolve/?fileuri={base64.urlsafe_b64encode(inner.encode()).decode()}"


# --- the rows of the reports


@pytest.mark.parametrize(
    "form",
    [
        "azure-blob://photos/{}",
        "s3://photos/{}",
        "gs://photos/{}",
        "/data/local-files/?d=set/{}",
        "http://ls:8080/data/local-files/?d=set/{}",
        "images/{}",
        "abfss://photos@acc.dfs.core.windows.net/{}",
        "wasbs://photos@acc.blob.core.windows.net/dir/{}",
    ],
)
def test_names_are_taken_as_they_are(form: str) -> None:
    names = ["chair", "chair#1", "chair#2", "chair #1", "chair?1", "chair?2", "chair&1", "chair&2", "100%", "chair "]
    names += ["a?x=1", "a?x=2"]
    names += ["chair?1#1", "chair#1?1", "Chair", "chair/1", "chair;1", "chair?sig=1", "chair?sig=2", "chair=1", "50%25"]
    assert len({image_id(form.format(name)) for name in names}) == len(names)


@pytest.mark.parametrize("scheme", ["azure-blob", "s3", "gs"])
def test_a_percent_sign_in_the_name_of_an_object_is_one(scheme: str) -> None:
    names = ["a b.jpg", "a%20b.jpg", "a%2520b.jpg", "a+b.jpg", "a%2Bb.jpg", "a%23b.jpg", "a#b.jpg"]
    assert len({image_id(f"{scheme}://photos/{name}") for name in names}) == len(names)


def test_local_files_are_decoded_once_as_label_studio_does() -> None:
    # Label Studio writes quote(path) and reads request.GET["d"], in which a plus is a blank.
    for name in ("chair #1.jpg", "a&b.jpg", "a?b.jpg", "100%.jpg", "a%20b.jpg", "a+b.jpg", "Bäder/x.jpg"):
        address = parse_address(f"/data/local-files/?d={quote(name)}")
        assert (address.kind, address.name) == ("local-files", name)
        assert parse_qs(address.url.partition("?")[2]) == {"d": [name]}
    assert parse_address("/data/local-files/?d=a+b.jpg").name == "a b.jpg"


def test_a_written_name_and_an_encoded_one_are_one_file() -> None:
    for written in ("set/chair #1.jpg", "a&b?.jpg", "50%", "a.jpg "):
        assert image_id(f"/data/local-files/?d={written}") == image_id(f"/data/local-files/?d={quote(written)}")


def test_a_query_that_names_the_image_and_is_signed_there() -> None:
    first, second = (f"https://h/image?id={number}&signature=abc" for number in (1, 2))
    assert image_id(first) != image_id(second)
    assert image_id(first) == image_id("https://h/image?id=1&signature=def") == image_id("https://h/image?id=1")


# --- the same image


@pytest.mark.parametrize(
    "same",
    [
        ["/data/upload/1/x.jpg", "http://ls/data/upload/1/x.jpg", "https://ls:8080/prefix/data/upload/1/x.jpg?a=1"],
        # Label Studio below the path of a proxy writes the path, without a host.
        [
            "/data/upload/4/3f2a1b0c-x%20y.jpg",
            "/labels/data/upload/4/3f2a1b0c-x%20y.jpg",
            "/a/b/data/upload/4/3f2a1b0c-x y.jpg",
            "https://ls/labels/data/upload/4/3f2a1b0c-x%20y.jpg",
        ],
        ["/data/local-files/?d=a/b#1.jpg", "/labels/data/local-files/?d=a/b%231.jpg"],
        ["s3://b/x.jpg", f"/labels{resolve('s3://b/x.jpg')}"],
        [
            "/data/upload/62/e4-B%C3%A4der_1.jpg",
            "/data/upload/62/e4-Bäder_1.jpg",
            "/data/upload/62/e4-Ba\u0308der_1.jpg",
        ],
        ["/data/local-files/?d=a/b.jpg", "/data/local-files?d=./a//b.jpg", "http://ls/p/data/local-files/?d=/a/b.jpg"],
        ["http://h/p.jpg", "https://H/p.jpg", "http://h:80/p.jpg", "HTTPS://h.:443/p.jpg#top", "http://h/x/../p.jpg"],
        ["http://h/B%C3%A4der%20(1).jpg", "http://h/Bäder (1).jpg", "http://h/Ba\u0308der%20%281%29.jpg"],
        [f"{ACCOUNT}/c/a b.jpg", f"{ACCOUNT}/c/a%20b.jpg?{SAS}", "abfss://c@acc.dfs.core.windows.net/a b.jpg"],
        [f"{ACCOUNT}/c/a#b.jpg".replace("#", "%23"), "wasbs://c@acc.blob.core.windows.net/a#b.jpg"],
        [
            "azure-blob://c/a.jpg",
            f"azure-blob://c/a.jpg?{SAS}",
            resolve("azure-blob://c/a.jpg"),
            " AZURE-BLOB://c/a.jpg",
        ],
        ["s3://b/x y#1.jpg", resolve("s3://b/x y#1.jpg"), f"https://ls/below{resolve('s3://b/x y#1.jpg')}"],
        ["gs://b/x.jpg", "/projects/4/presign/?fileuri=gs%3A%2F%2Fb%2Fx.jpg"],
        ["azure-blob://c/Bäder.jpg", "azure-blob://c/Ba\u0308der.jpg"],
        ["a/b.jpg", "./a//b.jpg", "a\\b.jpg", " a/b.jpg", "a/c/../b.jpg"],
        ["http://[::1]:8080/a.jpg", "https://[::1]:8080/a.jpg"],
    ],
)
def test_one_image(same: list[str]) -> None:
    assert len({image_id(uri) for uri in same}) == 1


@pytest.mark.parametrize(
    "path", ["/data/upload/4/3f2a1b0c-a.jpg", "/data/local-files/?d=set/a.jpg", resolve("s3://b/a.jpg")]
)
@pytest.mark.parametrize("below", ["", "/labels", "/a/b"])
def test_the_path_of_a_proxy_is_no_part_of_an_image(path: str, below: str) -> None:
    """Nor was it in version 1 of the home, so ids stay."""
    assert parse_address(below + path).url == path
    assert image_id(below + path) == image_id(path) == former_image_id(below + path)


def test_different_images() -> None:
    different = [
        f"{ACCOUNT}/c/a.jpg",
        f"{ACCOUNT.replace('acc', 'other')}/c/a.jpg",
        f"{ACCOUNT}/c/a.jpg?snapshot=2026-11-26&{SAS}",
        f"{ACCOUNT}/c/a.jpg?versionid=1&{SAS}",
        f"{ACCOUNT}/c/a.jpg?sv=1",
        "abfss://c@other2.dfs.core.windows.net/a.jpg",
        "http://h/a.jpg",
        "http://h/A.jpg",
        "http://h:8080/a.jpg",
        "http://h/a.jpg?v=1",
        "http://h/a.jpg?v=2",
        "http://h/a.jpg?sv=1&sp=2",
        "http://h/a/b.jpg",
        "http://h/a%2Fb.jpg",
        "http://h/a%5Cb.jpg",
        "http://h/a?b.jpg",
        "http://h/a%3Fb.jpg",
        "http://h/a%253Fb.jpg",
        "http://h/a%23b.jpg",
        "http://h/%FF.jpg",
        "http://h/%FE.jpg",
        "http://[::1]:8080/a.jpg",
        "http://[::1:8080]/a.jpg",
        "http://user@h/a.jpg",
        "/srv/data/upload/1/x.jpg",
        "/mnt/data/upload/1/x.jpg",
        "/data/upload/1/x.jpg",
        "data/upload/1/3f2a1b0c-x.jpg",
        "//host/data/upload/1/3f2a1b0c-x.jpg",
        "/data/upload/1/3f2a1b0c-x.jpg",
        "upload:1/x.jpg",
        "azure-blob:/c/x.jpg",
        "azure-blob://c/x.jpg",
        "file:///a.jpg",
        "ftp://a/x.jpg#1",
        "ftp://a/x.jpg#2",
        "a.jpg",
        "/a.jpg",
        "a.jpg ",
        "http://h:99999/a.jpg",
    ]
    assert len({image_id(uri) for uri in different}) == len(different)


@pytest.mark.parametrize(
    ("uri", "id"),
    [
        # printf 'upload:1/x y.jpg' | sha256sum
        ("/data/upload/1/x%20y.jpg", "c303c754b6f77d7f-x_y.jpg"),
        # printf 'azure-blob:/photos/chair 1.jpg' | sha256sum
        ("azure-blob://photos/chair 1.jpg", "375eaa948f6655e2-chair_1.jpg"),
        # printf 'http://h/a b.jpg?id=1' | sha256sum
        ("https://h/a%20b.jpg?id=1", "8c5ab74c6eb9bfe0-a_b.jpg"),
    ],
)
def test_ids_stay_the_same_from_release_to_release(uri: str, id: str) -> None:
    assert image_id(uri) == id


# --- blobs


def test_blobs_of_the_account() -> None:
    for uri in (
        "azure-blob://c/x/a b.jpg",
        f"{ACCOUNT}/c/x%2Fa%20b.jpg?{SAS}",
        "abfss://c@acc.dfs.core.windows.net/x/a b.jpg",
        "wasb://c@ACC.blob.core.windows.net/x/a b.jpg",
        "abfss://c/x/a b.jpg",
        resolve("azure-blob://c/x/a b.jpg"),
    ):
        assert blob_of(parse_address(uri), ACCOUNT) == Blob("c", "x/a b.jpg")
    for uri in (
        f"{ACCOUNT}/c/a.jpg?snapshot=2026&{SAS}",
        f"{ACCOUNT}/c/a.jpg?{SAS}&versionid=1",
        "abfss://c@other.dfs.core.windows.net/a.jpg",
        "s3://c/a.jpg",
        "a.jpg",
    ):
        assert blob_of(parse_address(uri), ACCOUNT) is None


def test_addresses_without_their_signature() -> None:
    assert unsigned(f"{ACCOUNT}/c/a%20b.jpg?id=1&{SAS}") == f"{ACCOUNT}/c/a%20b.jpg?id=1"
    assert unsigned(f"{ACCOUNT}/c/a.jpg?{SAS}") == f"{ACCOUNT}/c/a.jpg"
    assert unsigned(f"azure-blob://c/a?b.jpg?{SAS}") == "azure-blob://c/a?b.jpg"
    for uri in ("azure-blob://c/a?b.jpg", resolve("azure-blob://c/a.jpg"), "/data/upload/1/x.jpg", "a?sig=1.jpg"):
        assert unsigned(uri) == uri


def test_a_resolver_inside_a_resolver_is_not_followed() -> None:
    inner = resolve("s3://b/a.jpg")
    assert image_id(resolve(inner)) != image_id("s3://b/a.jpg")
    assert parse_address("/tasks/1/resolve/?fileuri=" * 5_000).kind == "file"
    assert parse_address("https://ls/tasks/1/resolve/?fileuri=" * 5_000).kind in {"http", "file"}


# --- properties


NAMES = st.text(alphabet="ab#?&%2 3+=;ä/.", min_size=1, max_size=5).filter(
    lambda name: not {"", ".", ".."} & set(name.split("/"))
)
SEGMENTS = st.lists(st.text(alphabet="a%/?#+ ä\\", min_size=1, max_size=3), max_size=3)
BEGINNINGS = ("", "/original", "/blurred", "/an/older/place", "/x/data/upload/1")
ENDINGS = (
    *("/data/upload/1/0a1b2c3d-x y.jpg", "/data/upload/1/0a1b2c3d-x%20y.jpg", "/data/upload/2/0a1b2c3d-z#%.jpg"),
    *("/data/upload/1/x.jpg", "/data/upload/1/a/x.jpg", "/data/local-files/?d=b", "/data/local-files?d=b", "/a b.jpg"),
    *(
        "/tasks/7/resolve/?fileuri=czM6Ly9jY2MvYg",
        "/projects/4/presign?fileuri=s3%3A%2F%2Fccc%2Fb",
        "/tasks/7/resolve/b",
    ),
)
OBJECTS = (
    st.tuples(st.sampled_from(["azure-blob", "s3", "gs"]), st.sampled_from(["ccc", "ddd"]), NAMES)
    | st.tuples(st.just("local-files"), NAMES)
    | st.tuples(st.just("http"), st.sampled_from(["h", "h:8080"]), SEGMENTS, st.integers(0, 2))
    | st.tuples(st.just("account"), st.sampled_from(["c", "d"]), NAMES)
    | st.tuples(st.just("file"), NAMES.map(posixpath.normpath))
    | st.tuples(st.just("upload"), st.sampled_from([1, 2]), st.sampled_from(["0a1b2c3d-x y.jpg", "0a1b2c3d-z#%.jpg"]))
    | st.tuples(st.just("disk"), st.sampled_from(BEGINNINGS), st.sampled_from(ENDINGS))
)
SIGNATURES = ("", SAS, "X-Amz-Signature=1&X-Amz-Date=2", "Expires=1&Signature=2&Key-Pair-Id=3", "signature=4")


def spelt(data: st.DataObject, thing: tuple[Any, ...]) -> str:
    """Return one of the addresses of an object."""
    draw = data.draw

    def escaped(text: str, always: str) -> str:
        return "".join(
            quote(letter, safe="") if letter in always or draw(st.integers(0, 3)) == 0 else letter for letter in text
        )

    match thing:
        case ("local-files", name):
            site = draw(st.sampled_from(["", "http://ls", "https://ls.example:8080/below"]))
            return f"{site}/data/local-files/?d={escaped(name, '%+')}"
        case ("http", host, segments, number):
            path = "/".join(escaped(segment, "%/?# ") for segment in segments)
            fields = [f"id={number}"] if number else []
            query = "&".join([*fields, *filter(None, [draw(st.sampled_from(SIGNATURES))])])
            host = draw(st.sampled_from([host, host.upper(), host if ":" in host else f"{host}.:443"]))
            return f"https://{host}/{path}" + (f"?{query}" if query else "")
        case ("account", account, name):
            https = f"https://{account}.blob.core.windows.net/c/{escaped(name, '%?# ')}"
            return draw(st.sampled_from([https, f"{https}?{SAS}", f"abfss://c@{account}.dfs.core.windows.net/{name}"]))
        case ("upload", folder, name):
            site = draw(st.sampled_from(["", "http://ls", "https://ls.example:8080"])) + draw(
                st.sampled_from(BEGINNINGS)
            )
            return f"{site}/data/upload/{folder}/{escaped(name, '%#')}"
        case ("disk", beginning, ending):
            return file_address(f"{beginning}{ending}")
        case ("file", name):
            prefix, slash = draw(st.sampled_from(["./", ".//", "x/../"])), draw(st.sampled_from(["/", "//"]))
            return f"{prefix}{name.replace('/', slash)}"
        case (scheme, place, name):
            uri = f"{scheme}://{place}/{name}"
            return draw(st.sampled_from([uri, resolve(uri), f"http://ls/below{resolve(uri)}"]))
    raise AssertionError(thing)


@settings(max_examples=500)
@given(OBJECTS, OBJECTS, st.data())
def test_addresses_share_an_id_when_they_name_one_object_and_only_then(
    first: tuple[Any, ...], second: tuple[Any, ...], data: st.DataObject
) -> None:
    id = image_id(spelt(data, first))
    assert id == image_id(spelt(data, first))
    assert (id == image_id(spelt(data, second))) == (first == second)


WEB = st.text(alphabet="ab/%2F35C?#&=. +é\\sig", max_size=12).map("http://h/".__add__)


def requested(uri: str) -> tuple[list[bytes], str]:
    """Return what the reader requests, by httpx's own parser: the decoded segments of the path, and the query."""
    raw = httpx.URL(parse_address(uri).url).raw_path.decode()
    path, _, query = raw.partition("?")
    return [unquote_to_bytes(segment) for segment in path.split("/")], without_signature(query)


@settings(max_examples=500)
@given(WEB, WEB)
@example("http://h/a/%2e%2e/b", "http://h/b")
@example("http://h/a%3Fb", "http://h/a?b")
def test_what_the_reader_requests_differently_has_another_id(first: str, second: str) -> None:
    if requested(first) != requested(second):
        assert image_id(first) != image_id(second)


@given(st.text(max_size=200) | st.text(alphabet="/?#%:@[].\\ab", max_size=30).map("http://".__add__))
def test_every_text_has_an_address_in_nfc(uri: str) -> None:
    assert unicodedata.is_normalized("NFC", parse_address(uri).key)
    assert parse_address(uri) == parse_address(uri)
