import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxonomist.storage.catalog import image_id

BLOB = "https://acc.blob.core.windows.net/images/2021/tap.jpg"


@pytest.mark.parametrize(
    "same",
    [
        ["/data/upload/1/x.jpg", "http://ls/data/upload/1/x.jpg", "https://ls:8080/prefix/data/upload/1/x.jpg?a=1"],
        [
            "/data/upload/62/e4-B%C3%A4der_1.jpg",
            "/data/upload/62/e4-Bäder_1.jpg",
            "/data/upload/62/e4-Ba\u0308der_1.jpg",
        ],
        [
            "/data/local-files/?d=a/b%20c.jpg",
            "http://ls/data/local-files/?d=a/b c.jpg",
            "/data/local-files?d=./a/b c.jpg",
        ],
        ["http://h/p.jpg", "https://H/p.jpg", "http://h:80/p.jpg", "https://h:443/p.jpg#top"],
        [BLOB, f"{BLOB}?sv=2024-01-01&sig=abc%3D", "abfss://images@acc.dfs.core.windows.net/2021/tap.jpg"],
        [
            "s3://bucket/x.jpg",
            "/tasks/7/resolve/?fileuri=" + base64.urlsafe_b64encode(b"s3://bucket/x.jpg").decode().rstrip("="),
            "http://ls/tasks/9/resolve/?fileuri=" + base64.urlsafe_b64encode(b"s3://bucket/x.jpg").decode(),
        ],
        ["https://b.s3.amazonaws.com/x.jpg?X-Amz-Signature=1", "https://b.s3.amazonaws.com/x.jpg?X-Amz-Signature=2"],
        ["a/b.jpg", "./a//b.jpg", "a\\b.jpg", " a/b.jpg"],
    ],
)
def test_forms_of_one_image_have_one_id(same: list[str]) -> None:
    assert len({image_id(uri) for uri in same}) == 1


def test_different_images_have_different_ids() -> None:
    uris = [
        "/data/upload/1/x.jpg",
        "/data/upload/2/x.jpg",
        "/data/local-files/?d=1/x.jpg",
        "/data/local-files/?d=2/x.jpg",
        "http://a/x.jpg",
        "http://b/x.jpg",
        "http://a:8080/x.jpg",
        "http://a/image?id=1",
        "http://a/image?id=2",
        "ftp://a/x.jpg",
        "x.jpg",
        "1/x.jpg",
        "/x.jpg",
        "data:image/png;base64,AAAA",
        "data:image/png;base64,BBBB",
        "http://[broken/x.jpg",
    ]
    assert len({image_id(uri) for uri in uris}) == len(uris)


def test_the_id_is_stable_and_can_be_read() -> None:
    # printf 'upload:1/x y.jpg' | sha256sum
    assert image_id("/data/upload/1/x%20y.jpg") == "c303c754b6f77d7f-x_y.jpg"


@given(st.text(max_size=200) | st.text(alphabet="/?#%:@[].\\ab", max_size=30).map("http://".__add__))
def test_every_text_has_an_id_that_is_safe_everywhere(uri: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{16}-[A-Za-z0-9][A-Za-z0-9._-]{0,59}", image_id(uri))
    assert image_id(uri) == image_id(uri)
