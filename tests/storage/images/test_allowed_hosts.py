import ipaddress

import pytest

from taxonomist.storage.images.allowed_hosts import AllowedHosts, is_public
from taxonomist.taxonomy.errors import ConfigError, ImageForbiddenError


@pytest.mark.parametrize(
    ("allowed", "url", "public_only"),
    [
        ("images.local", "http://images.local/a", False),
        ("images.local", "https://IMAGES.local:443/a", False),
        ("images.local:8080", "http://images.local:8080/a", False),
        ("images.local:443", "https://images.local/a", False),
        ("10.0.0.5", "http://10.0.0.5/a", False),
        ("[::1]:8080", "http://[::1]:8080/a", False),
        ("*.Example.com", "https://a.b.example.com/a", True),
        (" images.local ", "http://images.local./a", False),
    ],
)
def test_what_an_entry_allows(allowed: str, url: str, public_only: bool) -> None:
    assert AllowedHosts([allowed]).check(url).public_only is public_only


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        ("images.local", "http://images.local:8080/a"),
        ("images.local:8080", "http://images.local/a"),
        ("images.local", "http://evil-images.local/a"),
        ("images.local", "http://images.local.evil.com/a"),
        ("images.local", "http://images.local@evil.com/a"),
        ("images.local", "http://evil.com#images.local/a"),
        ("images.local", "http://evil.com\\@images.local/a"),
        ("*.example.com", "http://example.com/a"),
        ("*.example.com", "http://evilexample.com/a"),
        ("*.example.com", "http://a.example.com:8080/a"),
    ],
)
def test_what_an_entry_does_not_allow(allowed: str, url: str) -> None:
    with pytest.raises(ImageForbiddenError):
        AllowedHosts([allowed]).check(url)


@pytest.mark.parametrize("entry", ["", "*", "*.", "a.*.com", "http://a.com", "a.com/x", "u@a.com", "a:b", "*.a.com:80"])
def test_entries_that_are_no_hosts(entry: str) -> None:
    with pytest.raises(ConfigError, match="TAXONOMIST_ALLOWED_IMAGE_HOSTS"):
        AllowedHosts([entry])


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.17.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "not an address",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_the_addresses_above_are_meant() -> None:
    """2002:7f00:1:: and 64:ff9b::7f00:1 are 127.0.0.1 in other clothes."""
    assert ipaddress.IPv6Address("2002:7f00:1::").sixtofour == ipaddress.IPv4Address("127.0.0.1")
    assert int(ipaddress.IPv6Address("64:ff9b::7f00:1")) & 0xFFFFFFFF == int(ipaddress.IPv4Address("127.0.0.1"))
