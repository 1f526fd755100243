"""Where the engine may call: addresses are judged, whatever name led there."""

from __future__ import annotations

import doctest
from ipaddress import ip_address

import pytest

from pliers_workflow.runtime.outbound import OutboundError, guard, signing
from pliers_workflow.runtime.outbound.guard import Guard
from pliers_workflow.settings import OutboundSettings


@pytest.mark.parametrize("module", [guard, signing])
def test_examples_in_the_docstrings(module: object) -> None:
    """What the docstrings show is so; among it the standard's own test vector of a signature."""
    results = doctest.testmod(module)  # type: ignore[arg-type]  # a module
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
        "64:ff9b::7f00:1", "2002:7f00:1::1", "64:ff9b:1::7f00:1", "64:ff9b:1:fffe::a9fe:a9fe", "::127.0.0.1",
        "::ffff:0:169.254.169.254", "fec0::1", "3fff::1", "5f00::1", "4000::1",
    ],
)  # fmt: skip
def test_what_is_not_public_is_refused(address: str) -> None:
    """One's own machine, private networks, the cloud's metadata service, and IPv6 addresses that only wrap them."""
    with pytest.raises(OutboundError) as refused:
        Guard(OutboundSettings()).choose("inside.example", 80, [address])
    assert refused.value.code == "HTTP_FORBIDDEN_ADDRESS"
    assert not refused.value.retryable


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34", "64:ff9b::93.184.216.34"]
)
def test_what_is_public_is_called(address: str) -> None:
    """The internet is open by default."""
    assert Guard(OutboundSettings()).choose("example.com", 443, [address]) == [address]


def test_of_several_addresses_the_public_ones_are_called() -> None:
    """A name that also leads inside is called outside only."""
    assert Guard(OutboundSettings()).choose("x.example", 80, ["10.0.0.1", "93.184.216.34"]) == ["93.184.216.34"]


@pytest.mark.parametrize(
    ("rule", "host", "port", "address", "permitted"),
    [
        ("10.20.0.0/16", "erp.corp", 443, "10.20.3.4", True),
        ("10.20.0.0/16", "erp.corp", 443, "10.21.3.4", False),
        ("10.20.0.0/16", "erp.corp", 443, "::ffff:10.20.3.4", True),
        ("erp.corp", "ERP.corp.", 443, "10.9.9.9", True),
        ("erp.corp", "other.corp", 443, "10.9.9.9", False),
        ("*.corp", "erp.corp", 443, "10.9.9.9", True),
        ("*.corp", "corp", 443, "10.9.9.9", False),
        ("erp.corp:8443", "erp.corp", 8443, "10.9.9.9", True),
        ("erp.corp:8443", "erp.corp", 443, "10.9.9.9", False),
        ("127.0.0.1:9000", "127.0.0.1", 9000, "127.0.0.1", True),
        ("127.0.0.1:9000", "127.0.0.1", 9001, "127.0.0.1", False),
        ("::1", "localhost", 80, "::1", True),
    ],
)
def test_an_operator_opens_hosts_and_networks(rule: str, host: str, port: int, address: str, permitted: bool) -> None:
    """`allowed_hosts` names what may be called although it is not public."""
    assert Guard(OutboundSettings(allowed_hosts=(rule,))).permits(host, port, ip_address(address)) is permitted


def test_denying_wins() -> None:
    """What is denied stays closed, whatever else allows it."""
    closed = Guard(OutboundSettings(allow_private_networks=True, denied_hosts=("*.example.com", "10.0.0.5")))
    assert not closed.permits("api.example.com", 443, ip_address("93.184.216.34"))
    assert not closed.permits("erp.corp", 443, ip_address("::ffff:10.0.0.5"))
    assert closed.permits("erp.corp", 443, ip_address("10.0.0.6"))
