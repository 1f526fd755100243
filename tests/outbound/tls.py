"""Servers that speak TLS as a test needs it: with a certificate of any kind, or asking for one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.brokers.servers import need_program

_ANSWER = b"HTTP/1.1 204 Whatever\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def certificate(folder: Path, *, name: str = "localhost", days: int = 2) -> Path:
    """A certificate for a name, signed by itself, and its key in one file; `days` may lie behind."""
    openssl = need_program("openssl")
    made = folder / f"{name}-{days}.pem"
    key, request, extensions = (made.with_suffix(each) for each in (".key", ".csr", ".ext"))
    extensions.write_text(f"subjectAltName=DNS:{name}\nbasicConstraints=critical,CA:TRUE\n")
    for arguments in (
        ("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}"),
        ("x509", "-req", "-in", request, "-signkey", key, "-days", days, "-extfile", extensions, "-out", made),
    ):
        subprocess.run([openssl, *map(str, arguments)], check=True, capture_output=True)
    made.write_text(made.read_text() + key.read_text())
    return made


@asynccontextmanager
async def tls_server(own: Path, *, wanted: Path | None = None) -> AsyncIterator[int]:
    """
    Answer 204 to a body `{}` with this certificate, `wanted`: to those who show one that it signed; the port.

    In a thread, because asyncio lets a connection go before it has told the other side why it refuses.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    if wanted is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(wanted)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listening.accept()
            except OSError:
                return
            plain.settimeout(5)
            with (
                contextlib.suppress(OSError),
                context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False) as connection,
            ):
                try:
                    connection.do_handshake()
                except ssl.SSLError:
                    # It has said why; closed at once, with something unread, the connection would be reset instead.
                    socket.socket.shutdown(connection, socket.SHUT_WR)
                    while socket.socket.recv(connection, 65536):
                        pass
                    raise
                seen = b""
                while not seen.endswith(b"{}"):
                    seen += connection.recv(65536)
                connection.sendall(_ANSWER)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        await asyncio.to_thread(thread.join, 10)
