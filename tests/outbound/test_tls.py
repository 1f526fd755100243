"""TLS that is not safe, or that the other side refuses: told in its words, and another attempt may go better."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from pliers_workflow.runtime.outbound import Outbound
from pliers_workflow.runtime.outbound.errors import OutboundError
from pliers_workflow.runtime.outbound.guard import Guard
from pliers_workflow.runtime.outbound.transport import GuardedSyncTransport
from pliers_workflow.settings import OutboundSettings

from .tls import certificate, tls_server

SETTINGS = OutboundSettings(allow_private_networks=True)


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    made = Outbound(SETTINGS)
    yield made
    await made.close()


def trusting(own: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=own)


async def test_a_certificate_that_nobody_vouches_for(outbound: Outbound, tmp_path: Path) -> None:
    """Signed by itself: the connection is not made."""
    async with tls_server(certificate(tmp_path)) as port:
        with pytest.raises(OutboundError) as refused:
            await outbound.send("POST", f"https://localhost:{port}/hook", content=b"{}", timeout=5)
    assert (refused.value.code, refused.value.retryable) == ("HTTP_CONNECT", True)
    assert "self-signed certificate" in refused.value.message


@pytest.mark.parametrize(
    ("name", "days", "said"),
    [("localhost", -1, "certificate has expired"), ("example.com", 2, "certificate is not valid for 'localhost'")],
)
async def test_a_certificate_that_is_not_for_it(
    outbound: Outbound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, days: int, said: str
) -> None:
    """One that has expired, and one for another host, though somebody vouches for both."""
    own = certificate(tmp_path, name=name, days=days)
    monkeypatch.setattr(outbound._transport._pool, "_ssl_context", trusting(own))
    async with tls_server(own) as port:
        with pytest.raises(OutboundError) as refused:
            await outbound.send("POST", f"https://localhost:{port}/hook", content=b"{}", timeout=5)
    assert (refused.value.code, refused.value.retryable) == ("HTTP_CONNECT", True)
    assert said in refused.value.message


async def test_a_server_that_wants_a_certificate(
    outbound: Outbound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TLS 1.3 it refuses when the connection is made already: that is a failure of the call, and no other error."""
    own = certificate(tmp_path)
    monkeypatch.setattr(outbound._transport._pool, "_ssl_context", trusting(own))
    async with tls_server(own, wanted=own) as port:
        with pytest.raises(OutboundError) as refused:
            await outbound.send("POST", f"https://localhost:{port}/hook", content=b"{}", timeout=5)
        assert (refused.value.code, refused.value.retryable) == ("HTTP_PROTOCOL", True)
        assert "certificate required" in refused.value.message
        transport = GuardedSyncTransport(Guard(SETTINGS), connections_max=1)
        monkeypatch.setattr(transport._pool, "_ssl_context", trusting(own))
        with httpx.Client(transport=transport) as client, pytest.raises(httpx.ReadError):
            await asyncio.to_thread(client.post, f"https://localhost:{port}/hook", content=b"{}")


async def test_a_server_that_is_trusted(outbound: Outbound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the others fail for what they are said to fail for."""
    own = certificate(tmp_path)
    monkeypatch.setattr(outbound._transport._pool, "_ssl_context", trusting(own))
    async with tls_server(own) as port:
        assert (await outbound.send("POST", f"https://localhost:{port}/hook", content=b"{}", timeout=5)).status == 204


async def test_nobody_speaks_tls_there(outbound: Outbound, tmp_path: Path) -> None:
    """A port of TLS that is called without it, told as what it is."""
    async with tls_server(certificate(tmp_path)) as port:
        with pytest.raises(OutboundError) as refused:
            await outbound.send("POST", f"http://localhost:{port}/hook", content=b"{}", timeout=5)
    assert refused.value.code == "HTTP_PROTOCOL"
