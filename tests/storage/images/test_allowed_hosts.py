import pytest

from taxonomist.storage.images.allowed_hosts import AllowedHosts
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


METADATA = ["169.254.169.254", "[fd00:ec2::254]", "100.100.100.200", "168.63.129.16", "192.0.0.192", "metadata"]
METADATA += ["[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]", "METADATA.google.internal.", "169.254.169.254."]
METADATA += ["metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"]
METADATA += ["metadata.azure.com", "metadata.azure.internal", "metadata.tencentyun.com", "metadata.packet.net"]
METADATA += ["metadata.platformequinix.com", "metadata.oraclecloud.com", "metadata.internal"]
METADATA += [
    "2852039166",
    "0xA9FEA9FE",
    "0251.0376.0251.0376",
    "169.254.43518",
    "0xa9.0xfe.0xa9.0xfe",
]


@pytest.mark.parametrize("host", METADATA)
def test_metadata_of_a_cloud_is_never_allowed(host: str) -> None:
    with pytest.raises(ImageForbiddenError, match="credentials"):
        AllowedHosts([host.rstrip(".")]).check(f"http://{host}/latest")
