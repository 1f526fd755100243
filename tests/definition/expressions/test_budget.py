"""No expression and no data can stall the process or fill its memory: the budget stops both, deterministically."""

from __future__ import annotations

import resource
import time
from contextlib import suppress
from typing import Any

import pytest

from pliers_workflow.definition.expressions import (
    Budget,
    BudgetExceeded,
    ExpressionError,
    ExpressionSyntaxError,
    compile_expression,
)
from pliers_workflow.definition.expressions.patterns import pattern

NUMBERS = list(range(1000))
TEXT = "a" * 200_000
SCOPE: dict[str, Any] = {"xs": NUMBERS, "s": TEXT, "words": ["x" * 1000] * 300, "m": {str(n): n for n in NUMBERS}}


def test_steps_are_nodes_and_elements() -> None:
    """An expression without macros costs its nodes, a macro its body for each element; the same every time."""
    flat = compile_expression("data.amount > 1000 && 'manager' in user.roles")
    scope = {"data": {"amount": 1}, "user": {"roles": []}}
    spent = []
    for _ in range(2):
        budget = Budget(1000)
        flat(scope, budget)
        spent.append(1000 - budget.steps)
    assert spent[0] == spent[1] == flat.cost
    assert flat.cost <= 10
    loop = compile_expression("xs.all(x, x >= 0)")
    budget = Budget(100_000)
    assert loop(SCOPE, budget) is True
    assert 3 * 1000 <= 100_000 - budget.steps <= 6 * 1000


def test_nothing_absorbs_it() -> None:
    """`||` absorbs errors, but not an exceeded budget, on either side."""
    for source in ("true || xs.all(x, xs.all(y, true))", "xs.all(x, xs.all(y, true)) || true"):
        expression = compile_expression(source)
        if source.startswith("true"):
            assert expression(SCOPE, Budget(10_000)) is True
            with pytest.raises(BudgetExceeded):
                expression(SCOPE, Budget(2))
        else:
            with pytest.raises(BudgetExceeded):
                expression(SCOPE, Budget(10_000))


def test_one_budget_for_all() -> None:
    """Expressions of one interpretation share a budget."""
    expression = compile_expression("xs.exists(x, x == 999)")
    budget = Budget(10_000)
    expression(SCOPE, budget)
    with pytest.raises(BudgetExceeded):
        for _ in range(10):
            expression(SCOPE, budget)


@pytest.mark.parametrize(
    "source",
    [
        "xs.all(a, xs.all(b, xs.all(c, a + b + c >= 0)))",
        "xs.map(a, xs.map(b, xs.map(c, c)))",
        "xs.map(x, s + s + s)",
        "cel.bind(a, s + s, cel.bind(b, a + a, cel.bind(c, b + b, cel.bind(d, c + c, cel.bind(e, d + d, e + e)))))",
        "xs.map(x, s.replace('a', s))",
        "s.replace('', s)",
        "s.split('')",
        "xs.map(x, words.join(s))",
        "words.join(s)",
        "xs.map(x, s.reverse())",
        "xs.exists(x, s.matches('(a+)+$b'))",
        "xs.exists(x, s.contains('ab'))",
        "xs.exists(x, xs + xs == xs)",
        "xs.map(x, xs + xs)",
        "xs.exists(x, xs.map(y, y) != xs)",
        "xs.exists(x, -1 in xs)",
        "xs.map(x, xs.distinct())",
        "xs.map(x, xs.sort())",
        "xs.map(x, [xs, xs].flatten())",
        "xs.map(x, s)",
        "xs.map(x, {'a': s, 'b': xs})",
        "xs.map(x, bytes(s))",
        "xs.map(x, s.lowerAscii() + s.upperAscii() + s.trim() + s.substring(1))",
        "cel.bind(a, [s, s, s, s], cel.bind(b, [a, a, a, a], cel.bind(c, [b, b, b, b], [c, c, c, c])))",
        "cel.bind(a, [0, 0], " + "".join("cel.bind(a, [a, a], " for _ in range(40)) + "a" + ")" * 41,
        "cel.bind(a, [0, 0], " + "".join("cel.bind(a, [a, a], " for _ in range(40)) + "a == a + []" + ")" * 41,
    ],
    ids=lambda source: source[:40],
)
def test_hostile_evaluation(source: str) -> None:
    """Loops, and strings and lists that double, end within milliseconds and a few megabytes."""
    expression = compile_expression(source)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    with pytest.raises(BudgetExceeded):
        expression(SCOPE, Budget(20_000))
    assert time.process_time() - started < 0.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # kB


@pytest.mark.parametrize(
    "source",
    [
        r"s.matches('(a|a)*$')",
        r"s.matches('(a{1,100}){1,8}b')",
        r"s.matches('(?i)([a-z]+)*[0-9]')",
        r"s.matches('.*.*.*.*.*=.*')",
        r"s.matches('(a?){60}a{60}$')",
    ],
)
def test_patterns_are_linear(source: str) -> None:
    """A pattern costs time in proportion to the text (RE2), and its automaton a bounded memory."""
    started = time.process_time()
    with suppress(ExpressionError, BudgetExceeded, ValueError):
        compile_expression(source)(SCOPE, Budget(20_000))
    assert time.process_time() - started < 0.5


HOSTILE = [
    r"((((((((a?){2}){2}){2}){2}){2}){2}){2}){2}$",
    "(a{1,100}){1,8}b",
    "[ab]*a[ab]{200}c",
    "(?:x*y*z*a*b*){50}[^a]$",
    "(.{1,30}x){1,20}y",
    r"(\w+\s?){1,10}$",
    r"\pL" * 333,
    r"(?i)\PL" * 140,
    "(.{30}){30}",
    "a" * 1000,
]


@pytest.mark.parametrize("written", [True, False], ids=["written", "from_data"])
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda each: each[:20])
@pytest.mark.parametrize("steps", [20_000, 2_000_000])
def test_a_pattern_is_charged_for_what_it_may_cost(hostile: str, written: bool, steps: int) -> None:
    """However large the automaton and the text: a step stays the fraction of a microsecond that it is elsewhere."""
    pattern.cache_clear()
    scope = {"patterns": [f"{hostile}{number % 10}" for number in range(300)], "xs": list(range(300))}
    if written:
        try:
            expression = compile_expression(f"xs.exists(x, s.matches(r'{hostile}'))")
        except ExpressionSyntaxError as error:
            assert "no pattern" in str(error)
            return
    else:
        expression = compile_expression("patterns.exists(p, s.matches(p))")
    for text in ("a" * 3_000, "ab" * 1_500, "\u1234ä€x" * 800):
        budget = Budget(steps)
        started = time.process_time()
        with suppress(BudgetExceeded, ExpressionError):
            expression({**scope, "s": text}, budget)
        assert time.process_time() - started < 0.05 + 0.6e-6 * (steps - max(budget.steps, 0))


def test_a_pattern_costs_the_same_whether_it_is_known_or_not() -> None:
    """What a pattern from data costs does not depend on what this process has seen before."""
    expression = compile_expression("s.matches(p)")
    left = []
    for _ in range(2):
        budget = Budget(20_000)
        expression({"s": "Trip to Kyiv", "p": r"^Trip .*\bK\pL+$"}, budget)
        left.append(budget.steps)
    assert left[0] == left[1] < 18_000
    with pytest.raises(ExpressionError, match="1,000 characters"):
        expression({"s": "", "p": "a" * 1001}, Budget(20_000))


def test_an_everyday_pattern_stays_in_the_batch() -> None:
    """Checking forty lines by a pattern takes a small part of the budget of a command in a batch."""
    expression = compile_expression(r"lines.all(l, l.matches('^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\\.[A-Za-z]{2,}$'))")
    budget = Budget(20_000)
    assert expression({"lines": ["ada.lovelace@example.com"] * 40}, budget)
    assert budget.steps > 15_000


def test_numbers_stay_small() -> None:
    """Repeated products of decimals keep 64 digits; integers overflow."""
    source = "cel.bind(x, 1.0000001234567890123, " + "".join("cel.bind(x, x * x, " for _ in range(20)) + "x" + ")" * 21
    assert len(compile_expression(source)({}, Budget(1000)).as_tuple().digits) <= 64
    with pytest.raises(ExpressionError, match="64-bit"):
        compile_expression(source.replace("1.0000001234567890123", "3"))({}, Budget(1000))


def test_deep_data() -> None:
    """Data that is nested without end gives an error, not a crash."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    other: list[Any] = []
    for _ in range(100_000):
        other = [other]
    for source in ("a == b", "[a]", "[a, b].distinct()", "a in [b]", "[b].contains(a)"):
        with pytest.raises((ExpressionError, BudgetExceeded)):
            compile_expression(source)({"a": deep, "b": other}, Budget(10_000_000))
    # taken apart by hand: the garbage collector would recurse
    for each in (deep, other):
        while each:
            each = each.pop()
