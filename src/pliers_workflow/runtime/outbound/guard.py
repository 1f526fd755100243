"""Where the engine may connect to: addresses are judged, not names.

An address is public when the registries of IANA call it globally reachable; an IPv6 address that carries an IPv4 address
inside (mapped, 6to4, Teredo, NAT64) is public when both are. `outbound.allowed_hosts` opens single hosts or networks
that are not public, `outbound.denied_hosts` closes what is, and closing wins.

A rule is a host (`hooks.example.com`), all hosts below a domain (`*.example.com`), an address or a network
(`10.20.0.0/16`); with `:PORT` after a host or an IPv4 address it is about that port alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias

from msgspec import Struct

from .errors import OutboundError

if TYPE_CHECKING:
    from pliers_workflow.settings import OutboundSettings

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

#: What of IPv6 is given out to be reached by anybody. What lies beside it (site-local, IPv4-compatible, NAT64 prefixes of
#: one's own …) may be routed in somebody's network, and not all Python releases know it.
_UNICAST: Final = IPv6Network("2000::/3")
_DOCUMENTATION: Final = IPv6Network("3fff::/20")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_WITH_PORT: Final = re.compile(r"(?P<host>[^:\[\]]+):(?P<port>\d{1,5})")


class _Rule(Struct, frozen=True):
    """One entry of a list of hosts."""

    port: int | None = None
    #: None: any host of the network
    host: str | None = None
    #: all hosts that end so: `.example.com`
    suffix: str | None = None
    network: Network | None = None

    def covers(self, host: str, port: int, address: Address | None) -> bool:
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            return address is not None and address.version == self.network.version and address in self.network
        return host == self.host if self.host is not None else host.endswith(self.suffix or "")


def _rule(text: str) -> _Rule:
    text = text.strip().lower()
    port: int | None = None
    if found := _WITH_PORT.fullmatch(text):
        text, port = found["host"], int(found["port"])
    try:
        return _Rule(port=port, network=ip_network(text.strip("[]"), strict=False))
    except ValueError:
        pass
    if text.startswith("*."):
        return _Rule(port=port, suffix=text[1:])
    return _Rule(port=port, host=text.rstrip("."))


def embedded(address: Address) -> tuple[Address, ...]:
    """
    The addresses that one address stands for: itself, and an IPv4 address that it carries.

    >>> embedded(ip_address("64:ff9b::7f00:1"))
    (IPv6Address('64:ff9b::7f00:1'), IPv4Address('127.0.0.1'))
    """
    if isinstance(address, IPv4Address):
        return (address,)
    inner: list[Address] = []
    if address.ipv4_mapped is not None:
        inner.append(address.ipv4_mapped)
    if address.sixtofour is not None:
        inner.append(address.sixtofour)
    if address.teredo is not None:
        inner.extend(address.teredo)
    if address in _NAT64:
        inner.append(IPv4Address(int(address) & 0xFFFF_FFFF))
    return (address, *inner)


def is_public(address: Address) -> bool:
    """
    Tell an address of the public internet from those of one's own machine and network.

    >>> is_public(ip_address("93.184.216.34")), is_public(ip_address("169.254.169.254")), is_public(ip_address("::1"))
    (True, False, False)
    >>> is_public(ip_address("64:ff9b::a00:1")), is_public(ip_address("fec0::1"))
    (False, False)
    """
    address, *inner = embedded(address)
    # The ranges of embedded addresses are themselves not all called global; what counts is what is inside.
    if inner:
        return all(is_public(one) for one in inner)
    if isinstance(address, IPv6Address) and (address not in _UNICAST or address in _DOCUMENTATION):
        return False
    return address.is_global and not address.is_multicast


class Guard:
    """Judges addresses by the settings. Without state: used from any thread."""

    def __init__(self, settings: OutboundSettings) -> None:
        self._allow_private = settings.allow_private_networks
        self._allowed = tuple(map(_rule, settings.allowed_hosts))
        self._denied = tuple(map(_rule, settings.denied_hosts))

    def permits(self, host: str, port: int, address: Address) -> bool:
        """Whether the engine may connect to this address, which `host` was resolved to."""
        host = host.lower().rstrip(".")
        addresses = embedded(address)
        if any(rule.covers(host, port, one) for rule in self._denied for one in addresses):
            return False
        if self._allow_private or is_public(address):
            return True
        return any(rule.covers(host, port, one) for rule in self._allowed for one in addresses)

    def choose(self, host: str, port: int, resolved: Iterable[str]) -> Sequence[str]:
        """The addresses of a host that may be called, in their order. Raises OutboundError where there is none."""
        found = list(dict.fromkeys(resolved))
        if not found:
            raise OutboundError("HTTP_UNRESOLVED", f"The host {host} has no address.", retryable=True)
        # A zone (`fe80::1%eth0`) belongs to a link of this machine.
        chosen = [one for one in found if self.permits(host, port, ip_address(one.partition("%")[0]))]
        if not chosen:
            raise OutboundError(
                "HTTP_FORBIDDEN_ADDRESS",
                f"The engine may not call {host}:{port}; an operator can allow it with `outbound.allowed_hosts`.",
                retryable=False,
            )
        return chosen
