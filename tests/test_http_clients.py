"""`taxonomist.storage.network` makes every HTTP client, so that certificates, proxies and redirects are the same."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("backend", "training", "inference", "storage", "taxonomy")
FACTORY = ROOT / "storage" / "network"
# Modules that open connections with certificates and proxies of their own.
FORBIDDEN = {"aiohttp", "ftplib", "http.client", "requests", "urllib.request", "urllib3", "websockets"}
HARMLESS = {
    "ByteStream",
    "Limits",
    "Request",
    "Timeout",
    "URL",
}  # of httpx; everything else that is called may open a connection
# Clients of others, and the argument by which they get ours.
GIVEN = {
    "LabelStudio": "httpx_client",
    "BlobServiceClient": "transport",
    "CosmosClient": "transport",
    "DefaultAzureCredential": "transport",
}
# Built on requests and without such an argument: `bundle_for_requests` stands around it.
ELSEWHERE = {"backend/azure/ml_job.py": {"DefaultAzureCredential"}}


def wrong_in(text: str, file: str = "") -> Iterator[str]:
    """Yield what makes a client of its own in this code."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            if node.module == "httpx":
                yield "from httpx import"
        else:
            names = []
        yield from (name for name in names if any(name == bad or name.startswith(f"{bad}.") for bad in FORBIDDEN))
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        owner, _, name = called.removesuffix(".from_connection_string").rpartition(".")
        if owner == "httpx" and name not in HARMLESS and not name.endswith(("Error", "Exception")):
            yield called
        given = {keyword.arg for keyword in node.keywords}
        if name in GIVEN and GIVEN[name] not in given and name not in ELSEWHERE.get(file, ()):
            yield f"{called}(…) without {GIVEN[name]}="


def test_only_the_factory_makes_clients() -> None:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py") if FACTORY not in file.parents]
    assert len(files) > 100
    names = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files}
    assert {name: wrong for name, text in names.items() if (wrong := list(wrong_in(text, name)))} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import requests",
        "import urllib.request",
        "from urllib import request",
        "from http import client",
        "import aiohttp",
        "from httpx import Client",
        "httpx.get('https://a.test')",
        "with httpx.Client() as client: ...",
        "httpx.AsyncClient()",
        "httpx.create_ssl_context()",
        "LabelStudio(base_url='https://a.test')",
        "azure.CosmosClient('https://a.test', 'key')",
        "BlobServiceClient.from_connection_string(text)",
    ],
)
def test_the_rule_finds_each_kind(code: str) -> None:
    assert list(wrong_in(code))


def test_the_rule_lets_the_rest_pass() -> None:
    code = "import httpx\nhttpx.Timeout(5)\ntry: ...\nexcept httpx.HTTPError: ...\nLabelStudio(httpx_client=client)"
    assert list(wrong_in(code)) == []
