"""The addresses of the registries, their first and last ones, and the neighbours outside."""

from __future__ import annotations

import ipaddress

import pytest

from taxonomist.storage.images.ip_networks import is_metadata, is_metadata_host, is_public

SPECIAL = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::1/128",
    "::/128",
    "::/96",
    "::ffff:127.0.0.0/104",
    "::ffff:10.0.0.0/104",
    "64:ff9b::127.0.0.0/104",
    "64:ff9b::169.254.0.0/112",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "2001::/23",
    "2001::/32",
    "2001:2::/48",
    "2001:10::/28",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    "4000::/3",
    "8000::/1",
]


@pytest.mark.parametrize("network", SPECIAL)
def test_special_networks_are_not_public(network: str) -> None:
    addresses = ipaddress.ip_network(network)
    for address in (addresses[0], addresses[-1], addresses[addresses.num_addresses // 2]):
        assert not is_public(str(address)), address


@pytest.mark.parametrize(
    "address",
    [
        "93.184.216.34",
        "2606:2800:220:1::1",
        "::ffff:93.184.216.34",
        "64:ff9b::5db8:d822",
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2001:200::1",
        "2003::1",
        "2a00::1",
        "168.63.129.17",
    ],
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address", ["", "not an address", "fe80::1%eth0", "1.2.3", "0x7f000001", "2130706433", "::1%1"]
)
def test_other_texts_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_what_python_knows_as_special_is_not_public() -> None:
    for network in (*ipaddress._IPv4Constants._private_networks, *ipaddress._IPv6Constants._private_networks):  # type: ignore[attr-defined]
        assert not is_public(str(network[0])) or network.version == 4


METADATA = ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "169.254.170.2"]
METADATA += ["169.254.170.23", "169.254.169.253", "fd00:ec2::23", "fd20:ce::254"]


@pytest.mark.parametrize("host", METADATA)
def test_metadata(host: str) -> None:
    assert is_metadata(host)
    assert not is_public(host)
    assert is_metadata_host(host)
    assert not is_metadata_host("images.example.com")
    assert not is_metadata("169.254.1.1")


def test_other_numbers_are_no_metadata() -> None:
    for host in ("169.254.1.1", "2852039167", "0xa9fea9ff", "1e5", "169.254.169.254.example.com", "0x", ""):
        assert not is_metadata_host(host)
