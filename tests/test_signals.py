"""The two signals of a program, sent to a process that does nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from pliers_workflow.signals import SIGNALS, stopped_by_signals

PROGRAM = """
import asyncio, os, sys, time
from pliers_workflow.cli.program import run
from pliers_workflow.signals import stopped_by_signals

async def main():
    stopped = asyncio.Event()

    def stop(number):
        print("told", number, flush=True)
        if sys.argv[1] == "hang":
            time.sleep(60)
        if sys.argv[1] == "end":
            stopped.set()

    with stopped_by_signals(stop, last=lambda: print("last", flush=True)):
        print("ready", flush=True)
        await stopped.wait()

(run if sys.argv[2] == "fast" else asyncio.run)(main())
"""


@pytest.fixture(params=["fast", "standard"])
def loop(request: pytest.FixtureRequest) -> str:
    return request.param


def started(how: str, loop: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how, loop], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_asks_to_stop(loop: str, number: signal.Signals) -> None:
    process = started("end", loop)
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (0, f"told {number.value}\n", "")


@pytest.mark.parametrize("how", ["wait", "hang"])
def test_the_second_ends_the_process_whatever_the_loop_does(loop: str, how: str) -> None:
    process = started(how, loop)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "told 2\n"
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (128 + 15, "last\n", "stopped at once\n")


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is set from now on."""
    seen: list[object] = []
    real = signal.signal

    def watched(number: int, handler: object) -> object:
        seen.append(handler)
        return real(number, handler)  # type: ignore[arg-type]

    monkeypatch.setattr(signal, "signal", watched)
    return seen


async def test_at_no_moment_is_a_signal_without_a_handler(handlers: list[object]) -> None:
    """A second signal that comes while the first is being taken would end the process by default, and nodes with nobody."""
    before = [signal.getsignal(number) for number in SIGNALS]
    told = asyncio.Event()
    with stopped_by_signals(lambda _: told.set()):
        os.kill(os.getpid(), signal.SIGTERM)
        await told.wait()
        assert not {signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler} & set(handlers)
    assert [signal.getsignal(number) for number in SIGNALS] == before
