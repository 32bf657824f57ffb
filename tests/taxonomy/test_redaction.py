"""What addresses keep secret, in every form in which it came into a log, an error or a table."""

from __future__ import annotations

import pytest

from taxonomist.taxonomy.errors import ImageForbiddenError
from taxonomist.taxonomy.redaction import redacted

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"https://u:{SECRET}@h.test/a.jpg", "https://h.test/a.jpg"),
        (f"https://{SECRET}@h.test/a.jpg", "https://h.test/a.jpg"),
        (f"https://u:p/w@{SECRET}@h.test/a", "https://h.test/a"),
        (f"HTTP://U:{SECRET}@H.test:8080", "HTTP://H.test:8080"),
        (f"azure-blob://c/a.jpg?sv=1&sig={SECRET}", "azure-blob://c/a.jpg?…"),
        (f"https://a.blob.core.windows.net/c/a.jpg?sv=1&sig={SECRET}%3D", "https://a.blob.core.windows.net/c/a.jpg?…"),
        (f"https://h.test/a?{SECRET}", "https://h.test/a?…"),
        (f"('https://h.test/a?k={SECRET}', 3)", "('https://h.test/a?…', 3)"),
        (f'{{"image": "https://h.test/a?k={SECRET}"}}', '{"image": "https://h.test/a?…"}'),
        (
            f"HTTPSConnectionPool(host='h', port=443): Max retries exceeded with url: /c/a?sig={SECRET} (Caused by X)",
            "HTTPSConnectionPool(host='h', port=443): Max retries exceeded with url: /c/a?… (Caused by X)",
        ),
        (
            f"404 Client Error: Not Found for url: https://h.test/a?token={SECRET}",
            "404 Client Error: Not Found for url: https://h.test/a?…",
        ),
        (f"URL('https://h.test/a?k={SECRET}')", "URL('https://h.test/a?…')"),
        (f"fields are: image='https://user:{SECRET}", "fields are: image='https://…"),
        (f"u:{SECRET}@proxy.test:3128", "…@proxy.test:3128"),
        (f"https://h.test/a b&sig={SECRET}", "https://h.test/a b&sig=…"),
        (f"https://h.test/a%3Fsig%3D{SECRET}", "https://h.test/a%3F…"),
        (f"https://h.test/x?to=https://u:{SECRET}@other.test", "https://h.test/x?…"),
        (f"https://h.test/https://u:{SECRET}@other.test/a", "https://h.test/https://other.test/a"),
        (f"AccountName=a;AccountKey={SECRET}==;X=1", "AccountName=a;AccountKey=…;X=1"),
        (f"/similar?project=4&key={SECRET}", "/similar?…"),
        (f"/data/local-files/?d=a/b.jpg&t={SECRET}", "/data/local-files/?d=a/b.jpg&…"),
        (f"a\nhttps://h.test/a?k={SECRET}\nb", "a\nhttps://h.test/a?…\nb"),
    ],
)
def test_what_is_secret_is_left_out(text: str, expected: str) -> None:
    assert redacted(text) == expected
    error = ImageForbiddenError(f"seen: {text}", hint=f"try {text}")
    assert SECRET not in f"{error} {error!r} {error.args} {error.hint}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It must look like http://host:port; in a password, write @ as %40.",
        "Label Studio at http://[::1]:8080 cannot be reached (timed out).",
        "http://127.0.0.1:9090/webhook, and http://localhost:8080",
        "anna@example.com did not agree",
        "Connect 'Furniture' in the place of that project? a=b",
        "/data/local-files/?d=folder/a.jpg does not exist",
        "Run `taxonomist settings --project 4 product_field=sku`.",
        "TAXONOMIST_PASSWORD=… taxonomist serve",
        "s3://bucket/a?b.jpg",
        "50 % of 10",
        "no '0.jpg' in /srv/what?/images",
    ],
)
def test_other_texts_stay(text: str) -> None:
    assert redacted(text) == text
