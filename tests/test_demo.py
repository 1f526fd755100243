"""`pliers demo`: the promise of the README's first command."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pliers_workflow", "demo", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_the_demo_does_it_all_and_stops(tmp_path: Path) -> None:
    """With `--exit` it ends by itself with status 0 and a summary; a second run finds everything there and works too."""
    for schema in ("made by 0001_foundation", "up to date"):
        said, _ = start("--exit", "--submissions", 12, "--data", tmp_path / "data", "--port", 0).communicate(
            timeout=140
        )
        assert schema in said
        assert "12/12" in said
        assert re.search(r"expense_report .* paid .* ended", said), said
        assert re.search(r"\d+ transitions in", said)
        assert "Traceback" not in said
        log = tmp_path / "data" / "server.log"
        assert log.stat().st_mode & 0o077 == 0, "the administrator's token is in it"


def test_the_demo_leaves_a_server_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """A busy port is replaced and that is said; the documentation opens; Ctrl-C stops server and PostgreSQL cleanly."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start("--submissions", 3, "--data", tmp_path / "data", "--port", port)
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "Ctrl-C" in line:
                break
        text = "".join(said)
        assert f"port {port} is taken" in text, text
        address = re.search(r"API documentation +(\S+)", text)
        assert address is not None, text
        with urllib.request.urlopen(address[1], timeout=30) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    assert "stopped" in rest
    assert "Traceback" not in rest
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(address[1], timeout=5)
