"""What addresses keep secret, in every form in which it came into a log, an error or a table."""

from __future__ import annotations

import urllib.request
from urllib.parse import urlsplit

import httpx
import pytest
import requests

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
        (f"https://user:{SECRET}", "https://…"),
        (f"azure-blob://c/a.jpg?sig%3D{SECRET}", "azure-blob://c/a.jpg?…"),
        (f"u:{SECRET}@proxy.test:3128", "…@proxy.test:3128"),
        (f"https://h.test/a b&sig={SECRET}", "https://h.test/a b&sig=…"),
        (f"https://h.test/a%3Fsig%3D{SECRET}", "https://h.test/a%3F…"),
        (f"https://h.test/x?to=https://u:{SECRET}@other.test", "https://h.test/x?…"),
        (f"https://h.test/https://u:{SECRET}@other.test/a", "https://h.test/https://other.test/a"),
        (f"AccountName=a;AccountKey={SECRET}==;X=1", "AccountName=a;AccountKey=…;X=1"),
        (f"/similar?project=4&key={SECRET}", "/similar?…"),
        (f"/data/local-files/?d=a/b.jpg&t={SECRET}", "/data/local-files/?d=a/b.jpg&…"),
        (f"a\nhttps://h.test/a?k={SECRET}\nb", "a\nhttps://h.test/a?…\nb"),
        # The text around an address stays, also without a blank between them.
        (f'{{"a":"https://h.test/x?sig={SECRET}","b":2}} ends', '{"a":"https://h.test/x?…","b":2} ends'),
        (
            f'{{\\"a\\":\\"https://h.test/?s={SECRET}\\",\\"b\\":2}} ends',
            '{\\"a\\":\\"https://h.test/?…\\",\\"b\\":2} ends',
        ),
        (f'<a href="http://h.test:80/?k={SECRET}">text</a>', '<a href="http://h.test:80/?…">text</a>'),
        (f"{{'to':'//u:{SECRET}@h.test','n':1}}", "{'to':'//…@h.test','n':1}"),
        # Marks and blanks in passwords and signatures.
        (f'open("https://h.test/x?sig=a {SECRET}") failed', 'open("https://h.test/x?…") failed'),
        (f"'https://u:a {SECRET}@h.test/a' failed", "'https://h.test/a' failed"),
        (f'"https://u:a\\"{SECRET}@h.test/a" failed', '"https://h.test/a" failed'),
        (f"//u:a/{SECRET}@h.test is down", "//…@h.test is down"),
        (f"proxy=u:a/{SECRET}@h.test:3128 is down", "proxy=…@h.test:3128 is down"),
        (f"u:a,{SECRET}@h.test is down", "…@h.test is down"),
        (f"HTTPS:\\\\u:{SECRET}@h.test", "…@h.test"),
        # Percent-encoded, once and twice.
        (f"https%3A%2F%2Fu%3A{SECRET}%40h.test%2Fa is down", "https://h.test/a is down"),
        (f"https%253A%252F%252Fh.test%252Fa%253Fsig%253D{SECRET} is down", "https://h.test/a?… is down"),
        (f"http://h.test/get/https%3A%2F%2Fu%3A{SECRET}%40g.test", "http://h.test/get/https://g.test"),
        (f"https%3A%2F%2Fu%3A%0A{SECRET}%40%0Ah.test", "…"),
        # What httpx, Python, http.client and urllib3 say about a password with a slash in it.
        (f"Invalid port: '{SECRET}'", "Invalid port: '…'"),
        (f"Port could not be cast to integer value as '{SECRET}'", "Port could not be cast to integer value as '…'"),
        (f"nonnumeric port: '{SECRET}'", "nonnumeric port: '…'"),
        (
            f"Failed to parse: 'u:{SECRET}' is not a valid host or port",
            "Failed to parse: 'u:…' is not a valid host or port",
        ),
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
        'cannot reach "http://h.test:8080", trying again',
        '"http://h.test:8080"and more',
        '{"url":"http://h.test:8080","next":{"b":2},"mail":"a@b.test"}',
        "{'url':'http://h.test:8080','b':2}",
        "http://a.test:80,http://b.test:81 are tried",
        "http://h.test:8080,then the rest; <http://h.test:8080>(text)",
        "[link](http://h.test:8080)text",
        "it's 'http://h.test:8080' and it's \"http://g.test:81\"; anna@b.test",
        "HTTPConnection(host='h', port=80): Failed to resolve 'h' ([Errno -2] Name or service not known)",
        "Invalid port: '70000'",
        "a%40b.test, 100%25",
        "docker.test/a:1 and 12:30",
    ],
)
def test_other_texts_stay(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    "address",
    ["http://u:{}/x@h.test/", "http://h.test:{}/", "//u:{}@h.test/a", "http://u:{}@[::1", "ftp://u:{}@h.test/a?x={}"],
)
def test_errors_of_libraries_tell_nothing(address: str) -> None:
    errors: list[Exception] = []
    for get in (httpx.get, requests.get, urllib.request.urlopen, lambda text: urlsplit(text).port):
        try:
            get(address.format(SECRET, SECRET))
        except Exception as error:  # each library has its own
            errors.append(error)
    assert errors
    for seen in errors:
        assert SECRET not in redacted(f"{seen} {seen!r}")
