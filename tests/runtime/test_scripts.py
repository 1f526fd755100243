"""Scripts run in a sandbox: whatever they do, they come back as an answer, and the next script does not notice."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest

from pliers_workflow.interpreter.facts import ScriptAnswer, ScriptRequest
from pliers_workflow.runtime.scripts import ScriptSandbox

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
SCOPE: dict[str, Any] = {
    "data": {"amount": Decimal("1500.50"), "count": 3, "note": None, "lines": [{"price": 5}, {"price": 7}]},
    "user": {"roles": ["manager"], "username": "ada"},
    "now": NOW,
}


@pytest.fixture
async def sandbox() -> AsyncIterator[ScriptSandbox]:
    sandbox = ScriptSandbox(processes=2)
    yield sandbox
    await sandbox.close()


def request(source: str, timeout_ms: int = 1000, **scope: Any) -> ScriptRequest:
    return ScriptRequest(key="script:test", source=source, input=scope or SCOPE, timeout_ms=timeout_ms)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("data['amount'] > 1000 and 'manager' in user['roles']", True),
        ("data['amount'] * 2", Decimal("3001.00")),
        ("data['count'] + 1", 4),
        ("data['note']", None),
        ("total = 0\nfor line in data['lines']:\n    total += line['price']\ntotal", 12),
        ("def large(x):\n    return x > 5\n[large(line['price']) for line in data['lines']]", [False, True]),
        ("1.5", Decimal("1.5")),
        ("(1, 'a', None)", [1, "a", None]),
        ("{'a': {'b': 1}}", {"a": {"b": 1}}),
        ("now", "2026-03-01T09:30:00Z"),
        ("from datetime import timedelta\nnow + timedelta(days=1)", "2026-03-02T09:30:00Z"),
        ("from datetime import timedelta\ntimedelta(minutes=90)", "5400s"),
        ("now.date()", "2026-03-01"),
        ("x = 1; x + 1", 2),
        ("x = 'é'; (x +\n  'ü')  # a comment", "éü"),
        ("from decimal import Decimal\nDecimal('0.1') + Decimal('0.2')", Decimal("0.3")),
        ("from datetime import datetime\nstr(datetime.now())", "2026-03-01 09:30:00"),
        ("print('hello')\nTrue", True),
    ],
)
async def test_value(sandbox: ScriptSandbox, source: str, value: Any) -> None:
    """The last expression is the answer; roots are variables; numbers stay exact; the answer is ready for JSON."""
    answer = await sandbox.run(request(source))
    assert answer == ScriptAnswer(value=value)
    assert type(answer.value) is type(value)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("while True: pass\n1", "took too long"),
        ("try:\n    while True: pass\nexcept BaseException:\n    pass\nTrue", "took too long"),
        ("'a' * 10**10", "too much memory"),
        ("x = []\nwhile True: x.append('a' * 1000)\nx", "too much memory"),
        ("x = []\nwhile len(x) < 10**9: x.append('a' * 1000)\nTrue", "too much memory"),
        ("9 ** 9 ** 9", "too much memory"),
        ("def f(): return f()\nf()", "called itself too deeply"),
        ("import os\nos.system('true')", "no attribute 'system'"),
        ("import os\nos.environ", "not supported"),
        ("import subprocess\n1", "No module named 'subprocess'"),
        ("import socket\n1", "No module named 'socket'"),
        ("open('/etc/passwd').read()", "Permission denied"),
        ("().__class__.__bases__[0].__subclasses__()", "no attribute '__class__'"),
        ("(lambda: 1).__globals__", "no attribute '__globals__'"),
        ("'{0.__class__}'.format(1)", "failed"),
        ("def (", "no Python"),
        ("", "last line must be an expression"),
        ("x = 5", "last line must be an expression"),
        ("nobody", "name 'nobody' is not defined"),
        ("1 / 0\n", "failed in line 1: ZeroDivisionError"),
        ("x = 1\ny = 2\nx + 'a' + y", "in line 3"),
        ("raise SystemExit(3)\n1", "failed"),
        ("(" * 5000 + ")" * 5000, "no Python"),
        ("-" * 19000 + "1", "nested too deeply"),
        ("x" * 30000, "at most 20000"),
        ("print", "cannot be kept"),
        ("lambda: 1", "cannot be kept"),
        ("{1, 2}", "cannot be kept"),
        ("b'abc'", "cannot be kept"),
        ("class A:\n    pass\nA()", "cannot be kept"),
        ("{1: 2}", "keys of a dict must be strings"),
        ("float('nan')", "not finite"),
        ("10 ** 5000", "64 bits"),
        ("2 ** 63", "64 bits"),
        ("['x' * 1000] * 1000000", "too large"),
        ("x = 'y' * 100000\n[x, x, x, x]", "too large"),
        ("a = []\na.append(a)\na", "nested too deeply"),
        ("len = lambda x: 0\ntype = lambda x: str\n['x' * 1000] * 100000", "too large"),
        ("def _pliers_measure(x): return None\n['x'] * 10**6", "_pliers_measure"),
        ("exec('_pliers_measure = None')\n1", "exec"),
        ("e = eval\n1", "eval"),
        ("locals()", "locals"),
        ("from os import path as _pliers_measure\n1", "_pliers_measure"),
        ("import random\nwhile random.random() < 2: pass\n1", "took too long"),
        ("\ud800", "no Python"),
        ("1\0", "no Python"),
    ],
)
async def test_hostile(sandbox: ScriptSandbox, source: str, says: str) -> None:
    """A hostile or broken script costs its own answer, with a sentence that says why; the next one runs."""
    started = time.monotonic()
    # on a busy machine memory must run out before time does
    answer = await sandbox.run(request(source, timeout_ms=300 if "too long" in says else 5000))
    assert answer.error is not None
    assert answer.value is None
    assert says in answer.error
    assert len(answer.error) < 500
    assert time.monotonic() - started < 10
    assert await sandbox.run(request("1 + 1")) == ScriptAnswer(value=2)


async def test_reference_page(sandbox: ScriptSandbox) -> None:
    """The script on the reference page runs as it stands there."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "expressions.md").read_text("utf-8")
    (source,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    data = {"lines": [{"price": Decimal("120.50")}, {"price": 89}]}
    assert await sandbox.run(request(source, data=data, user={"roles": ["manager"]})) == ScriptAnswer(value=True)


async def test_fresh_context(sandbox: ScriptSandbox) -> None:
    """Nothing of one script is left for the next."""
    assert (await sandbox.run(request("secret = 42\nsecret"))).value == 42
    for _ in range(4):
        assert "not defined" in ((await sandbox.run(request("secret"))).error or "")


async def test_same_input_same_answer(sandbox: ScriptSandbox) -> None:
    """Chance and clock are functions of the request, so that asking again gives the same fact."""
    source = "import random, time\n[random.random(), time.time()]"
    assert await sandbox.run(request(source)) == await sandbox.run(request(source))


async def test_input_is_not_changed(sandbox: ScriptSandbox) -> None:
    """A script that changes its variables changes its own copies."""
    data = {"lines": [1, 2]}
    answer = await sandbox.run(request("data['lines'].append(3)\ndata['lines']", data=data))
    assert answer.value == [1, 2, 3]
    assert data == {"lines": [1, 2]}


async def test_input_that_cannot_enter(sandbox: ScriptSandbox) -> None:
    """A value that Monty does not know is an answer with an error too."""
    answer = await sandbox.run(request("1", data=object()))
    assert "cannot enter" in (answer.error or "")


async def test_many_at_once(sandbox: ScriptSandbox) -> None:
    """More scripts than workers wait for their turn; an endless one among them hurts only itself."""
    requests = [request(f"{number} * 2" if number != 3 else "while True: pass\n1", 200) for number in range(20)]
    answers = await asyncio.gather(*(sandbox.run(each) for each in requests))
    assert [answer.value for answer in answers] == [n * 2 if n != 3 else None for n in range(20)]


async def test_worker_killed(sandbox: ScriptSandbox) -> None:
    """A worker that is killed from outside in the middle of a script is an error of that script, and is replaced."""
    assert (await sandbox.run(request("1"))).value == 1
    running = asyncio.create_task(sandbox.run(request("while True: pass\n1", 5000)))
    workers: list[psutil.Process] = []
    while not any(worker.cpu_times().user > 0.05 for worker in workers):
        await asyncio.sleep(0.02)
        workers = [child for child in psutil.Process().children() if "monty" in child.name()]
    for worker in workers:
        worker.kill()
    answer = await running
    assert "its worker died" in (answer.error or "")
    assert (await sandbox.run(request("2"))).value == 2


async def test_duration_and_bytes_come_in(sandbox: ScriptSandbox) -> None:
    """All types of expressions can be read by scripts."""
    source = "(str(type(d)), str(type(b)), d.total_seconds())"
    answer = await sandbox.run(request(source, d=timedelta(minutes=1), b=b"x"))
    assert answer.value == ["<class 'datetime.timedelta'>", "<class 'bytes'>", Decimal("60.0")]


async def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Monty is not installed the answer says how to install it."""
    monkeypatch.setitem(sys.modules, "pydantic_monty", None)
    answer = await ScriptSandbox().run(request("1"))
    assert "pip install 'pliers-workflow-engine[script]'" in (answer.error or "")


async def test_closed() -> None:
    """After `close` there are no workers, and scripts are refused; closing twice is fine."""
    sandbox = ScriptSandbox(processes=1)
    assert (await sandbox.run(request("1"))).value == 1
    await sandbox.close()
    await sandbox.close()
    assert "shutting down" in ((await sandbox.run(request("1"))).error or "")
