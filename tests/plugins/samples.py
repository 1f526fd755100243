"""Plugins of every kind, as an author would declare them; those in processes are found here by name."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from pliers_workflow.plugins import Configuration, Context, Permanent, Plugin, Retryable, plugin
from pliers_workflow.runtime.plugins.discovery import Found, Installed


class Rates(Configuration):
    rate: Decimal = Decimal(1)
    valid_from: date | None = None
    rounds: Annotated[int, Field(ge=0, le=6)] = 2


@dataclass
class Order:
    amount: Decimal
    note: str = ""


@dataclass
class Priced:
    total: Decimal
    key: str


@plugin("price", title="Price", version="1.2.0")
def price(configuration: Rates, input: Order, context: Context) -> Priced:
    """Multiplies."""
    return Priced(round(input.amount * configuration.rate, configuration.rounds), context.idempotency_key)


@plugin("price.process", title="Price elsewhere", version="1.2.0", isolation="process")
def price_elsewhere(configuration: Rates, input: Order, context: Context) -> Priced:
    print("working")
    context.log.info("priced")
    assert not [name for name in os.environ if name.startswith("PLIERS_")]
    assert os.getpgrp() == os.getpid()
    return Priced(round(input.amount * configuration.rate, configuration.rounds), context.idempotency_key)


@plugin("echo", title="Echo", version="1.0.0")
async def echo(input: dict[str, Any], context: Context) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"input": input, "thread": threading.current_thread() is threading.main_thread(), "step": context.step_id}


@plugin("echo.process", title="Echo elsewhere", version="1.0.0", isolation="process")
async def echo_elsewhere(input: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"input": input, "pid": os.getpid()}


class Panic(BaseException):
    """What libraries in Rust raise when they fall."""


def endless() -> Any:
    """So deep that not even `repr` comes to its end."""
    made: Any = {}
    for _ in range(100_000):
        made = {"in": made}
    return made


def fail(how: str) -> Any:
    """What may go wrong."""
    match how:
        case "retryable":
            raise Retryable("not now", code="BUSY", delay=60, details={"queue": 3})
        case "permanent":
            raise Permanent("NO_SUCH_THING", "there is none", details={"name": "x"})
        case "crude":
            raise ValueError("secret of the author")
        case "exit":
            sys.exit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "panic":
            raise Panic("of a library in another language")
        case "exhausted":
            return next(iter(()))
        case "odd delay":
            raise Retryable("later", delay="soon")  # type: ignore[arg-type]  # that is the point
        case "odd details":
            raise Permanent("ODD", "a NUL \0, half a pair \ud800", details={"what": object(), "nan": float("nan")})
        case "odd code":
            raise Permanent("no code!", "said wrongly")
        case "large details":
            raise Permanent("LARGE", "x" * 10_000, details={"text": "x" * 100_000})
        case "huge details":
            raise Permanent("HUGE", "too much", details={"text": "x" * 1_000_000})
        case "endless details":
            raise Permanent("ENDLESS", "without end", details=endless())
        case "listed details":
            raise Permanent("LISTED", "no object", details=["a", "b"])  # type: ignore[arg-type]  # that is the point
        case "no code":
            raise Permanent("", "said wrongly")
        case "set":
            return {"letters": {1}}
        case "nan":
            return {"number": float("nan")}
        case "object":
            return {"thing": object()}
        case "nul":
            return {"text": "a\0b"}
        case "large":
            return {"text": "x" * 300_000}
        case "deep":
            made: Any = 1
            for _ in range(150):
                made = [made]
            return made
        case "none":
            return None
        case "crash":
            print("about to fall")
            os._exit(7)
        case "kill":
            os.kill(os.getpid(), 9)
    raise AssertionError(how)


@plugin("fail", title="Fail", version="1.0.0")
def failing(input: dict[str, Any]) -> Any:
    return fail(input["how"])


@plugin("fail.async", title="Fail", version="1.0.0")
async def failing_async(input: dict[str, Any]) -> Any:
    return fail(input["how"])


@plugin("fail.process", title="Fail", version="1.0.0", isolation="process")
def failing_elsewhere(input: dict[str, Any]) -> Any:
    return fail(input["how"])


@plugin("promise", title="Broken promise", version="1.0.0")
def promise() -> Priced:
    return {"total": "not a number"}  # type: ignore[return-value]  # that is the point


@plugin("hang.process", title="Hang", version="1.0.0", isolation="process", timeout=1.5)
def hang_elsewhere(input: dict[str, Any]) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(input["file"]).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)


@plugin("hang.long", title="Hang", version="1.0.0", isolation="process", timeout=600)
def hang_long(input: dict[str, Any]) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(input["file"]).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)


class Gate:
    """What lets a thread or a coroutine go on, and tells that it has begun."""

    began = threading.Event()
    go = threading.Event()
    cancelled = threading.Event()


@plugin("fork.process", title="Leaves something behind", version="1.0.0", isolation="process", timeout=30)
def forks_elsewhere(input: dict[str, Any]) -> str:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    Path(input["file"]).write_text(str(child.pid))
    if input.get("how") == "crash":
        os._exit(7)
    return "done"


@plugin("hungry.process", title="Takes memory", version="1.0.0", isolation="process", memory=128)
def hungry(input: dict[str, Any]) -> int:
    kept = []
    try:
        for _ in range(input["mib"]):
            kept.append(bytearray(1 << 20))
    except MemoryError as error:
        if input.get("wrapped"):
            raise ValueError("something went wrong") from error
        raise
    return len(kept)


@plugin("closing.process", title="Cannot be closed", version="1.0.0", isolation="process")
class ClosingElsewhere:
    def run(self, input: dict[str, Any]) -> str:
        if input["how"] == "permanent":
            raise Permanent("NO_SUCH_THING", "there is none")
        return "done"

    def close(self) -> None:
        raise ConnectionError("it is gone already")


@plugin("loop.process", title="Closed in its loop", version="1.0.0", isolation="process")
class InOneLoop:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    async def run(self, input: dict[str, Any]) -> bool:
        self.file = input["file"]
        return asyncio.get_running_loop() is self.loop

    async def close(self) -> None:
        Path(self.file).write_text(str(asyncio.get_running_loop() is self.loop))


@plugin("hang.thread", title="Hang", version="1.0.0", timeout=0.2)
def hang_in_thread(context: Context) -> None:
    Gate.began.set()
    Gate.go.wait(60)
    if context.cancelled:
        Gate.cancelled.set()
    context.heartbeat()


@plugin("hang.async", title="Hang", version="1.0.0", timeout=0.2)
async def hang_in_loop() -> None:
    try:
        await asyncio.sleep(600)
    finally:
        Gate.cancelled.set()


@plugin("unmade", title="Cannot be made", version="1.0.0")
class Unmade:
    def __init__(self) -> None:
        raise ConnectionError("nobody there")

    async def run(self) -> None: ...


@plugin("cancels", title="Cancels itself", version="1.0.0")
async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


@plugin("traced", title="Traced", version="1.0.0", isolation="process")
def traced(context: Context) -> dict[str, str]:
    return dict(context.trace_headers)


def rough(value: Any) -> Any:
    return {"a": value}["b"]


@plugin("rough", title="Rough validator", version="1.0.0")
def roughly(input: Annotated[Any, AfterValidator(rough)]) -> None: ...


class Closing:
    """Says how its `close` ends."""

    how: type[BaseException] = ValueError


@plugin("closing", title="Cannot be closed", version="1.0.0")
class ClosingInThread:
    def run(self) -> None: ...

    def close(self) -> None:
        raise Closing.how


@plugin("closing.async", title="Cannot be closed", version="1.0.0")
class ClosingInLoop:
    async def run(self) -> None: ...

    async def close(self) -> None:
        raise Closing.how


@plugin("counter", title="Counter", version="1.0.0")
class Counter:
    """One object for all steps of a node."""

    closed = 0
    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.count = 0

    def run(self) -> int:
        self.count += 1
        return self.count

    def close(self) -> None:
        type(self).closed += 1


def installed(*plugins: Plugin) -> Installed:
    """A node on which these are installed."""
    module = sys.modules[__name__]
    names = {id(value): name for name, value in vars(module).items() if isinstance(value, Plugin)}
    return Installed({each.id: Found(each, f"{__name__}:{names[id(each)]}", "samples 1.0.0") for each in plugins})


EVERY = [value for value in list(globals().values()) if isinstance(value, Plugin)]
