"""What is wrong with an address: when it is written, as far as that can be known without calling it, and when it is called."""

from __future__ import annotations

import asyncio
import socket
from importlib.util import find_spec
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pliers_workflow.definition.findings import Finding, pointer

from ..outbound.errors import OutboundError
from .addresses import NatsAddress

if TYPE_CHECKING:
    from ..outbound.guard import Guard
    from .addresses import Address, BrokerAddress


class FieldFindings(list[Finding]):
    """What is found about the fields of one part of a body, such as `broker`."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def wrong(self, name: str, message: str, hint: str | None = None, code: str = "bad_format") -> None:
        """Say what is wrong with a field, by its name on the wire."""
        self.append(Finding(pointer(self._part, name), code, message, hint))


# -- when it is written ------------------------------------------------------------------------------------------------


def check_client(address: Address, findings: FieldFindings) -> None:
    """Say when the client of a kind of broker is not installed."""
    if find_spec(address.library) is None:
        hint = f"pip install 'pliers-workflow-engine[{address.kind}]'"
        findings.wrong("type", f"This engine has no client for {address.kind}.", hint, "not_installed")


def check_servers(address: Address, guard: Guard, findings: FieldFindings) -> None:
    """Say which servers are none, and which are in a network that the engine may not call."""
    for url in address.urls:
        _check_server(url, address, guard, findings)


def check_user(address: BrokerAddress, findings: FieldFindings) -> None:
    """Say where a password is nobody's, and where it is not clear who we are."""
    if address.password and not address.user and not address.password_alone:
        findings.wrong("password", "A password needs a `user`.", None, "missing")
    if isinstance(address, NatsAddress) and address.token and (address.user or address.password):
        # The client would take the user, and say nothing of the token.
        findings.wrong("token", "Either a token, or a user and a password.", None, "misplaced")


def check_host(host: str, port: int, name: str, guard: Guard, findings: FieldFindings) -> None:
    """Judge an address that is written as numbers; a name is judged when it is called."""
    try:
        numbers = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return
    if not guard.permits(host, port, numbers):
        hint = "An operator can allow it with `outbound.allowed_hosts`."
        findings.wrong(name, f"The engine may not call {host}:{port}.", hint, "forbidden_address")


def _check_server(url: str, address: Address, guard: Guard, findings: FieldFindings) -> None:
    try:
        read = urlsplit(url)
        host, port = read.hostname, read.port
    except ValueError:
        host, port = None, None
        read = urlsplit("")
    if read.scheme not in address.ports or not host or any(ord(character) < 33 for character in url):
        findings.wrong(address.where, f"{url[:200]!r} is no address of {' or '.join(address.ports)}.")
    elif read.username or read.password:
        hint = "Put them into `user` and `password`."
        findings.wrong(address.where, "An address holds no user and no password.", hint)
    elif read.query or read.fragment:
        # Client libraries take options from there, names of local files among them.
        findings.wrong(address.where, "An address of a broker has nothing after `?` or `#`.")
    else:
        check_host(host, port or address.ports[read.scheme], address.where, guard, findings)


# -- when it is called -------------------------------------------------------------------------------------------------


async def check_permitted(address: Address, guard: Guard) -> None:
    """Raise OutboundError unless the engine may connect to all servers of an address (`outbound.*` in the settings)."""
    loop = asyncio.get_running_loop()
    for host, port in address.hosts:
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            message = f"The host {host} has no address: {error}"
            raise OutboundError("HTTP_UNRESOLVED", message, retryable=True) from None
        chosen = guard.choose(host, port, [str(resolved[0]) for *_, resolved in found])
        if len(chosen) < len({resolved[0] for *_, resolved in found}):
            # The client library resolves again and may take any of them.
            message = f"Some addresses of {host} are none that the engine may call."
            raise OutboundError("HTTP_FORBIDDEN_ADDRESS", message, retryable=False)
