"""No regular expression on what comes from outside takes quadratic time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from taxonomist.backend.connection.look_alike_panel import panels_in
from taxonomist.backend.label_studio.failures import explain
from taxonomist.backend.labelling.products import ProductImage, product_of
from taxonomist.inference.reasons import count_reasons
from taxonomist.storage.addresses import parse_address
from taxonomist.storage.csv_text import from_spreadsheets
from taxonomist.storage.signed_queries import without_signature
from taxonomist.taxonomy.errors import TaxonomistError
from taxonomist.taxonomy.redaction import redacted
from tests.linear_time import assert_linear

WHEN = datetime(2026, 11, 27, tzinfo=UTC)


def panels(text: str) -> object:
    try:
        return panels_in(f"<View a='{text}'/>".replace("<a", "a"))
    except TaxonomistError:
        return None


QUOTES = ['"http://', '\\"http://', "'//\"//", "x://'", "port: '", ":", "\\", "%40", "`//", "a:b@"]
FUNCTIONS: dict[str, tuple[Callable[[str], object], list[str]]] = {
    "explain": (lambda text: explain({"detail": text}), ["<", "<a", " ", ">", "< "]),
    "reasons": (lambda text: count_reasons({"a": text}), ["a", ":/", '"', "/", "1.", ":/ ", '"a', "a:"]),
    "redacted": (redacted, ["://", "a:", "?", "http://a:b@", "%3F", "sig=", *QUOTES]),
    "signature": (without_signature, ["sig=a&", "&", "=", "signature="]),
    "formula": (from_spreadsheets, ["'", "1", "+1", "'="]),
    "panels": (panels, ["a", " ", "src=", "&amp;", "/similar?project=1"]),
    "address": (
        parse_address,
        [
            "/tasks/1/resolve/?fileuri=",
            "/data/upload/1/",
            "https://a.blob.core.",
            "a.blob.core.b",
            "/",
            "?",
            "&",
            "d=",
            ":",
            "/data/local-files/?d=",
            "../",
            "%2F",
            "1",
            "-a",
            "a+",
            "//",
            "s3://a/",
            "/tasks/",
            "@",
            "https://",
            "[",
            ".",
        ],
    ),
    "product": (
        lambda text: product_of("{product}_*_*.jpg", ProductImage({}, f"/{text}")),
        ["_", "a_", "/", "a", "_.jpg"],
    ),
    "product of a path": (
        lambda text: product_of("{product}/*_*", ProductImage({}, f"https://h.test/{text}")),
        ["_", "a/", "/", "a_/"],
    ),
}


@pytest.mark.parametrize(("name", "part"), [(name, part) for name, (_, parts) in FUNCTIONS.items() for part in parts])
@pytest.mark.parametrize("end", ["", "\x00", "/@1"])
def test_the_time_is_linear(name: str, part: str, end: str) -> None:
    function = FUNCTIONS[name][0]
    assert_linear(function, part, end)
    if name == "address":
        assert_linear(lambda text: function(f"https://{text}"), part, end)
        assert_linear(lambda text: function(f"https://h.test{text}"), part, end)
