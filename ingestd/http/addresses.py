"""What clients are counted by where they have shown no token."""

import ipaddress
from typing import Final

_NETWORK_BITS: Final = 64
"""Bits of an IPv6 address that name its network. A host may choose the others as it likes."""


def network_of(address: str | None) -> str:
    """An IPv4 address as it is; the network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return str(address)
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(ipaddress.IPv6Network((int(parsed), _NETWORK_BITS), strict=False))
