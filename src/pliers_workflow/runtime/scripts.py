"""Run `script` conditions: Python of an author, in a sandbox that cannot see, keep or break anything.

The interpreter of the sandbox is Monty (`pydantic-monty`, the extra `script`): its own implementation of a subset of
Python, in worker processes, without files, network, clock or host objects. Each script gets a fresh context and limits
of time, memory and recursion. Whatever goes wrong is a `ScriptAnswer` with an error: a hostile script costs itself its
answer, and nobody else anything.

**In.** Each root of the request's input (`data`, `user`, …) is a variable: dicts, lists, strings, bools, ints, None as
they are, decimals as `Decimal`, instants as aware `datetime`. Fields are read as in `data["amount"]`. A decimal does not
mix with a float literal: write `Decimal("1.5")`.

**Out.** The value of the last line, which must be an expression. It must fit into JSON, because it is kept as a fact in
the history: tuples become lists, floats the decimals they show as, instants and dates RFC 3339 text, durations text in
seconds (`90s`, as in CEL). Sets, bytes, functions and objects are refused, as is what is larger than `ANSWER_MAX`.

**Size of the answer.** `[x] * 1000000` is small in the sandbox, where elements are shared, and a gigabyte outside. So
an answer is measured inside, by a function defined before the script, and only then fetched. A script cannot replace
that function: names beginning with `_pliers` and those builtins that reach names by text are refused beforehand.
"""

from __future__ import annotations

import ast
import asyncio
import os
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from pliers_workflow.definition.expressions.times import format_duration, format_timestamp
from pliers_workflow.interpreter.facts import ScriptAnswer, ScriptRequest

if TYPE_CHECKING:
    from pydantic_monty import AsyncMonty, AsyncMontySession, OSPolicy, ResourceLimits

TIMEOUT_MS: Final = 1_000
TIMEOUT_MS_MAX: Final = 10_000
MEMORY_BYTES: Final = 64 * 1024 * 1024
RECURSION_MAX: Final = 200
SOURCE_MAX: Final = 20_000
#: Bytes of an answer, counted as its text and 16 for each value.
ANSWER_MAX: Final = 256_000
#: Levels of lists and dicts in an answer.
ANSWER_DEPTH_MAX: Final = 50

#: Builtins that reach names by text.
_FORBIDDEN: Final = frozenset({"compile", "dir", "eval", "exec", "globals", "locals", "vars", "__import__"})

#: Runs in the sandbox before the script; its builtins are bound now, whatever the script calls by their names later.
_MEASURE: Final = f"""
def _pliers_measure(
    value, kind=type, size=len, largest={ANSWER_MAX}, depth_max={ANSWER_DEPTH_MAX},
    texts=(str,), lists=(list, tuple), maps=(dict,), whole=(int,), plain=(bool, float, type(None)), name=str, absolute=abs,
    listed=list,
):
    left = largest
    todo = [(value, 0)]
    while todo:
        value, depth = todo.pop()
        of = kind(value)
        left -= 16
        if of in texts:
            left -= size(value)
        elif of in lists or of in maps:
            left -= size(value)
            if left < 0:
                return "it is too large"
            if depth >= depth_max:
                return "it is nested too deeply"
            for item in value:
                todo.append((item, depth + 1))
            if of in maps:
                for item in listed(value.values()):
                    todo.append((item, depth + 1))
        elif of in whole:
            if absolute(value) >= 9223372036854775808:
                return "an integer in it does not fit into 64 bits"
        elif of not in plain:
            shown = name(of)
            if shown == "<class 'decimal.Decimal'>":
                if not value.is_finite():
                    return "a number in it is not finite"
                if size(value.as_tuple().digits) > 100:
                    return "a number in it has too many digits"
            elif shown not in (
                "<class 'datetime.datetime'>", "<class 'datetime.date'>", "<class 'datetime.timedelta'>",
            ):
                return "it holds " + shown + ", which JSON cannot"
        if left < 0:
            return "it is too large"
    return None
"""
_FETCH: Final = (
    "_pliers_reason = _pliers_measure(_pliers_answer)\n"
    "(_pliers_reason, None) if _pliers_reason else (None, _pliers_answer)"
)

_LIMITS: Final = "a script may take {seconds:g} s, 64 MB and 200 nested calls"


class ScriptSandbox:
    """A pool of sandbox workers, started with the first script.

    `processes` bounds the workers (default: the processors, at most four); scripts beyond wait for one. A worker that
    dies is replaced.
    """

    def __init__(self, processes: int | None = None) -> None:
        self._processes = processes or min(4, os.cpu_count() or 1)
        self._pool: AsyncMonty | None = None
        self._starting = asyncio.Lock()
        self._closed = False

    async def run(self, request: ScriptRequest) -> ScriptAnswer:
        """The script's answer, or the sentence why there is none. Raises nothing but cancellation."""
        try:
            source = _prepared(request.source)
            pool = await self._started()
            return ScriptAnswer(value=await self._evaluated(pool, source, request))
        except _Refused as refused:
            return ScriptAnswer(error=str(refused))
        except Exception as error:  # noqa: BLE001  # by contract: whatever a script provokes is its own answer
            return ScriptAnswer(error=_sentence(error, _seconds(request)))

    async def close(self) -> None:
        """Stop the workers; scripts that come later are refused."""
        async with self._starting:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            await pool.__aexit__(None, None, None)

    async def _started(self) -> AsyncMonty:
        async with self._starting:
            if self._closed:
                raise _Refused("the script was not run: this node is shutting down")
            if self._pool is None:
                try:
                    from pydantic_monty import AsyncMonty
                except ImportError:
                    raise _Refused(
                        "scripts need the extra 'script' on the server: pip install 'pliers-workflow-engine[script]'"
                    ) from None
                pool = AsyncMonty(
                    min_processes=1,
                    max_processes=self._processes,
                    # a script waits at most as long as all before it may take
                    checkout_timeout=30.0,
                    # the sandbox stops a script itself; this kills a worker that does not
                    request_timeout=TIMEOUT_MS_MAX / 1000 + 2,
                    max_checkouts_per_worker=1_000,
                )
                await pool.__aenter__()
                self._pool = pool
            return self._pool

    async def _evaluated(self, pool: AsyncMonty, source: str, request: ScriptRequest) -> Any:
        from pydantic_monty import CollectString

        limits: ResourceLimits = {
            "max_feed_duration_secs": _seconds(request),
            "max_memory": MEMORY_BYTES,
            "max_recursion_depth": RECURSION_MAX,
            "max_suspensions": 100,
        }
        session: AsyncMontySession
        async with pool.checkout(script_name="script.py", limits=limits, os_policy=_policy(request)) as session:
            printed = CollectString(max_bytes=64_000)
            await session.feed_run(_MEASURE)
            await session.feed_run(source, inputs=dict(request.input), print_callback=printed)
            reason, answer = await session.feed_run(_FETCH)
        if reason is not None:
            raise _Refused(f"the script's answer cannot be kept: {reason}")
        return _json_value(answer)


class _Refused(Exception):
    """The sentence for the author."""


def _seconds(request: ScriptRequest) -> float:
    milliseconds = request.timeout_ms if request.timeout_ms > 0 else TIMEOUT_MS
    return min(milliseconds, TIMEOUT_MS_MAX) / 1000


def _policy(request: ScriptRequest) -> OSPolicy:
    """No clock but `now`, no sleep, no chance: the same input gives the same answer."""
    now = request.input.get("now")
    instant = now if isinstance(now, datetime) else datetime(1970, 1, 1, tzinfo=UTC)
    return {"datetime": instant, "sleep": "zero", "random_start": {"seed": request.key}}


def _prepared(source: str) -> str:
    """The script with its last expression assigned to a name of ours; lines keep their numbers."""
    if len(source) > SOURCE_MAX:
        raise _Refused(f"the script has {len(source)} characters, at most {SOURCE_MAX} are allowed")
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise _Refused(f"the script is no Python: line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError):
        raise _Refused("the script is no Python that can be read: it is nested too deeply or holds odd text") from None
    for node in ast.walk(tree):
        for name in _names(node):
            if name in _FORBIDDEN or name.startswith("_pliers"):
                raise _Refused(f"the script uses {name}, which is not there")
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr):
        raise _Refused("the script has no answer: its last line must be an expression, as in data['amount'] > 1000")
    lines = source.encode().splitlines(keepends=True)
    before = b"".join(lines[: last.lineno - 1]) + lines[last.lineno - 1][: last.col_offset]
    expression = ast.get_source_segment(source, last)
    assert expression is not None, "an expression that was parsed has a text"
    return f"{before.decode()}_pliers_answer = ({expression}\n)"


def _names(node: ast.AST) -> tuple[str, ...]:
    """The names that a node of the script reads, sets or declares."""
    match node:
        case ast.Name(id=name) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
            return (name,)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return (name,)
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            return tuple(names)
        case ast.alias(name=name, asname=other):
            return (name, other or name)
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
            return (name,)
        case _:
            return ()


def _sentence(error: Exception, seconds: float) -> str:
    """What happened, for the author."""
    import pydantic_monty

    if isinstance(error, TimeoutError):
        return "the script was not run: all script workers are busy; try again later"
    if isinstance(error, pydantic_monty.MontyCrashedError):
        took_too_long = "it took too long" if error.timed_out else "its worker died"
        return f"the script was stopped: {took_too_long}; {_LIMITS.format(seconds=seconds)}"
    if isinstance(error, pydantic_monty.MontySyntaxError):
        return f"the script is no Python that the sandbox knows: {_short(str(error))}"
    if isinstance(error, pydantic_monty.MontyRuntimeError):
        text = _short(str(error))
        if text.startswith(("TimeoutError: feed time limit", "MemoryError:", "RecursionError:")):
            what = {"T": "it took too long", "M": "it used too much memory", "R": "it called itself too deeply"}[
                text[0]
            ]
            return f"the script was stopped: {what}; {_LIMITS.format(seconds=seconds)}"
        line = next((frame.line for frame in reversed(error.traceback()) if frame.line), None)
        return f"the script failed{f' in line {line}' if line else ''}: {text}"
    if isinstance(error, pydantic_monty.MontyConversionError):
        return f"a value cannot enter the script: {_short(str(error))}"
    if isinstance(error, FileNotFoundError):
        return "scripts need the program 'monty' of pydantic-monty-runtime; install the extra 'script' again"
    return f"the script could not be run: {_short(str(error) or type(error).__name__)}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:300] + "…"


def _json_value(value: Any) -> Any:
    """An answer as a fact keeps it; its size, depth and kinds were measured in the sandbox."""
    match value:
        case None | bool() | str():
            return value
        case int() | Decimal():
            return value
        case float():
            number = Decimal(repr(value))
            if not number.is_finite():
                raise _Refused("the script's answer cannot be kept: a number in it is not finite")
            return number
        case datetime():
            return format_timestamp(value if value.tzinfo is not None else value.replace(tzinfo=UTC))
        case date():
            return value.isoformat()
        case timedelta():
            return format_duration(value)
        case list() | tuple():
            return [_json_value(item) for item in value]
        case dict():
            if not all(isinstance(key, str) for key in value):
                raise _Refused("the script's answer cannot be kept: the keys of a dict must be strings")
            return {key: _json_value(item) for key, item in value.items()}
        case _:
            raise _Refused(f"the script's answer cannot be kept: it is a {type(value).__name__}")
