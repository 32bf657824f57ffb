"""Which IP addresses are on the internet, and which are those of a cloud's metadata, where machines find credentials.

The lists are the IANA registries of special-purpose addresses, without the entries that are globally reachable only as
anycast services, which have no images:
https://www.iana.org/assignments/iana-ipv4-special-registry, https://www.iana.org/assignments/iana-ipv6-special-registry
"""

import ipaddress
import socket

__all__ = ["is_metadata", "is_metadata_host", "is_public"]

_SPECIAL_IPV4 = (
    "0.0.0.0/8",  # this network
    "10.0.0.0/8",  # private
    "100.64.0.0/10",  # shared by customers of a provider
    "127.0.0.0/8",  # loopback
    "169.254.0.0/16",  # link local
    "172.16.0.0/12",  # private
    "192.0.0.0/24",  # protocol assignments
    "192.0.2.0/24",  # documentation
    "192.31.196.0/24",  # AS112
    "192.52.193.0/24",  # AMT
    "192.88.99.0/24",  # 6to4 relays
    "192.168.0.0/16",  # private
    "192.175.48.0/24",  # AS112
    "198.18.0.0/15",  # benchmarking
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, and broadcast
    "168.63.129.16/32",  # Azure's metadata, in a public range
)
_SPECIAL_IPV6 = (  # within `_GLOBAL_IPV6`
    "2001::/23",  # protocol assignments, among them Teredo
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4
    "2620:4f:8000::/48",  # AS112
    "3fff::/20",  # documentation
)
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
"""All that is assigned. Of the rest, the registry has loopback, mapped, translated, local and multicast addresses."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_SPECIAL = [*map(ipaddress.ip_network, _SPECIAL_IPV4), *map(ipaddress.ip_network, _SPECIAL_IPV6)]

_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        (
            "169.254.169.254",  # AWS, Azure, Google, Oracle and most others
            "169.254.170.2",  # AWS, of containers
            "169.254.170.23",
            "169.254.169.253",  # AWS, names
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",  # Google
            "100.100.100.200",  # Alibaba
            "168.63.129.16",  # Azure
            "192.0.0.192",  # Oracle
        ),
    )
)
_METADATA_HOSTS = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}
    | {"metadata.azure.com", "metadata.azure.internal", "metadata.tencentyun.com", "metadata.packet.net"}
    | {"metadata.platformequinix.com", "metadata.oraclecloud.com", "metadata.internal"}
)


def is_public(address: str) -> bool:
    """Return whether an IP address is on the internet. The IPv4 address in an IPv6 one is looked at where it is reached
    under it: mapped, or translated by NAT64."""
    ip = _parsed(address)
    if ip is None or (ip.version == 6 and ip not in _GLOBAL_IPV6):
        return False
    return not any(ip.version == network.version and ip in network for network in _SPECIAL)


def is_metadata(address: str) -> bool:
    """Return whether an IP address is that of a cloud's metadata."""
    return _parsed(address) in _METADATA


def is_metadata_host(host: str) -> bool:
    """Return whether a host, a name in lower case or an IP address in any form, is that of a cloud's metadata."""
    name = host.rstrip(".")
    return name in _METADATA_HOSTS or is_metadata(name) or is_metadata(_in_decimals(name))


def _in_decimals(name: str) -> str:
    """Return an IPv4 address that is one number, or octal or hexadecimal ones, as systems read it; "" for a name."""
    try:
        return socket.inet_ntoa(socket.inet_aton(name)) if name[:1].isdigit() else ""
    except OSError:
        return ""


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an IP address, the IPv4 address that a mapped or translated one leads to; None for any other text."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return ip.ipv4_mapped or ip
    return ip
