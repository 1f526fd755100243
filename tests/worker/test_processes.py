"""The example worker as a process of its own, beside real servers: whichever of them is killed, each letter is written once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.nodes.conftest import until
from tests.nodes.processes import Cluster, Node

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "workers" / "letters"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


class Printer:
    """The example, started with what its README says."""

    def __init__(self, node: Node, token: str, folder: Path, **environment: str) -> None:
        self._environment = {
            **os.environ, "PLIERS_URL": node.server.url, "PLIERS_TOKEN": token, "LETTERS": str(folder), **environment,
        }  # fmt: skip
        self._log = folder.parent / "worker.log"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, str(EXAMPLE / "worker.py"), env=self._environment, stdout=log, stderr=log
            )

    async def end(self, number: int) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 60)


class PrintShop:
    """Servers, a folder for letters, and workers that write into it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.node: Node
        self.token = ""
        self.printers: list[Printer] = []

    async def prepare(self) -> None:
        await self.cluster.prepare()
        self.node = await self.cluster.node(STEPS__RESCUE_EVERY=0.2, STEPS__POLL=0.5)
        await self.cluster.publish(self.node, json.loads((EXAMPLE / "letter.json").read_text()))
        self.token = await self.cluster.token("printer", "worker")

    async def printer(self, **environment: str) -> Printer:
        printer = Printer(self.node, self.token, self.folder, **environment)
        await printer.start()
        self.printers.append(printer)
        return printer

    async def write(self, text: str = "Dear Ada", **data: Any) -> str:
        body = {"data": {"to": "Ada", "text": text, **data}}
        return str((await self.node.api("POST", "/workflows/letter/instances", self.cluster.admin, body))["id"])

    async def look(self, instance_id: str) -> dict[str, Any]:
        return dict(await self.node.api("GET", f"/workflow-instances/{instance_id}", self.cluster.admin))

    async def sent(self, instance_id: str) -> dict[str, Any]:
        async def is_sent() -> bool:
            return (await self.look(instance_id))["status"] == "completed"

        await until(is_sent, seconds=60)
        return await self.look(instance_id)

    async def actions(self, instance_id: str) -> list[str]:
        return [row["action"] for row in await self.cluster.history(instance_id)]

    @property
    def letters(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.txt"))

    @property
    def drafts(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.draft"))


@pytest.fixture
async def shop(database: str, tmp_path: Path) -> AsyncIterator[PrintShop]:
    folder = tmp_path / "letters"
    folder.mkdir()
    shop = PrintShop(Cluster(database, tmp_path), folder)
    await shop.prepare()
    yield shop
    for printer in shop.printers:
        await printer.end(signal.SIGKILL)
    await shop.cluster.close()


async def test_the_example_does_what_its_readme_says(shop: PrintShop) -> None:
    """Letters are written, one without an address goes the other way, and SIGTERM ends it when it has finished."""
    printer = await shop.printer(SECONDS_A_LINE="0.02")
    first = await shop.sent(await shop.write("a\nb"))
    assert first["instanceData"]["pages"] == 1
    assert shop.letters == [first["instanceData"]["file"]]
    other = await shop.sent(await shop.write(to=""))
    assert other["currentState"] == "undeliverable"
    last = await shop.write("\n".join(["line"] * 100))
    await until(lambda: bool(shop.drafts))
    assert await printer.end(signal.SIGTERM) == 0
    assert (await shop.look(last))["status"] == "completed"
    assert await shop.actions(last) == ["start", "complete_step"]


async def test_another_worker_takes_over_from_one_that_is_killed(shop: PrintShop) -> None:
    """Its lease lapses, the attempt counts as lost, and the next worker's result is the one that counts."""
    killed = await shop.printer(SECONDS_A_LINE="600", LEASE="1")
    instance_id = await shop.write()
    await until(lambda: bool(shop.drafts))
    await killed.end(signal.SIGKILL)
    await shop.printer()
    sent = await shop.sent(instance_id)
    assert await shop.actions(instance_id) == ["start", "fail_step", "complete_step"]
    assert shop.letters == [sent["instanceData"]["file"]]
    assert sent["instanceData"]["file"].endswith("-2.txt"), "the second attempt has a key of its own"


async def test_a_server_that_is_killed_meanwhile_loses_nothing(shop: PrintShop) -> None:
    """
    While a letter is written the server is killed, and comes back within the lease: the worker has gone on, and what it
    brings counts once. Then it takes the next letter.
    """
    await shop.printer(SECONDS_A_LINE="0.05", LEASE="30")
    instance_id = await shop.write("\n".join(["line"] * 40))
    await until(lambda: bool(shop.drafts))
    await shop.node.server.kill()
    await until(lambda: len(shop.letters) == 1, seconds=30)
    await shop.node.server.start()
    shop.node.http.close()  # the test's own connections ended with the server
    sent = await shop.sent(instance_id)
    assert shop.letters == [sent["instanceData"]["file"]]
    assert await shop.actions(instance_id) == ["start", "complete_step"]
    await shop.sent(await shop.write())


async def test_a_result_comes_too_late(shop: PrintShop) -> None:
    """A worker that was frozen for longer than its lease has lost its task: another's result counts, its own is dropped."""
    frozen = await shop.printer(SECONDS_A_LINE="0.5", LEASE="1")
    instance_id = await shop.write("one\ntwo\nthree\nfour")
    await until(lambda: bool(shop.drafts))
    assert frozen.process is not None
    frozen.process.send_signal(signal.SIGSTOP)
    await shop.printer()
    sent = await shop.sent(instance_id)
    frozen.process.send_signal(signal.SIGCONT)
    assert await frozen.end(signal.SIGTERM) == 0
    # A fetch of the frozen one was still waiting, and may have been given the second attempt as well.
    first, *lost, last = await shop.actions(instance_id)
    assert (first, set(lost), last) == ("start", {"fail_step"}, "complete_step")
    assert (await shop.look(instance_id))["instanceData"]["file"] == sent["instanceData"]["file"]
    assert [name for name in shop.letters if name.endswith("-1.txt")] == [], "it was told, and has stopped writing"
