"""How plugins are declared, and what is refused when their module is imported."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from pliers_workflow import exact
from pliers_workflow.plugins import Cancelled, Context, DeclarationError, Permanent, calling, declaring, plugin

from . import samples


def context(seconds: float = 60) -> Context:
    return Context(
        plugin_id="p", tenant_id="default", workflow="w", instance_id="i", step_id="s", attempt=1, idempotency_key="i:s:1",
        deadline=datetime.now(UTC) + timedelta(seconds=seconds),
    )  # fmt: skip


def test_a_declaration_is_read() -> None:
    """Id, words, times, and the JSON Schemas of what it takes and gives, in camelCase."""
    price = samples.price
    assert (price.id, price.title, price.version, price.description) == ("price", "Price", "1.2.0", "Multiplies.")
    assert (price.isolation, price.timeout, price.is_async) == ("thread", 60.0, False)
    schema = price.configuration_schema
    assert set(schema["properties"]) == {"rate", "validFrom", "rounds"}
    assert schema["additionalProperties"] is False
    assert price.input_schema["required"] == ["amount"]
    assert price.output_schema["required"] == ["total", "key"]
    assert samples.echo.is_async
    assert samples.promise.configuration_schema["additionalProperties"] is False, "it takes no configuration"
    assert price(samples.Rates(), samples.Order(Decimal(2)), context()).total == 2, "a test of it may call it"


def function() -> None: ...


def takes_more(configuration: dict[str, Any], other: int) -> None: ...


def takes_any(*configuration: Any) -> None: ...


def odd_type(configuration: declaring.Plugin) -> None: ...


def no_such_name(configuration: "Unknown") -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037


class NoRun:
    pass


@pytest.mark.parametrize(
    ("target", "changes", "says"),
    [
        (function, {"id": "a b"}, "cannot be a plugin's id"),
        (function, {"id": ""}, "cannot be a plugin's id"),
        (function, {"title": " "}, "title"),
        (function, {"title": "a\0b"}, "cannot be kept"),
        (function, {"description": "half of a pair \ud800"}, "cannot be kept"),
        (function, {"description": "x" * 10_001}, "10,000"),
        (function, {"version": "1"}, "no version"),
        (function, {"version": "1.0.0-01"}, "no version"),
        (function, {"version": "1.0.0+build"}, "no version"),
        (function, {"timeout": 0}, "number of seconds"),
        (function, {"timeout": True}, "number of seconds"),
        (function, {"isolation": "magic"}, "isolation"),
        (function, {"memory": 256}, 'isolation="process"'),
        (function, {"memory": 63, "isolation": "process"}, "MiB"),
        (function, {"memory": True, "isolation": "process"}, "MiB"),
        (function, {"memory": 128.5, "isolation": "process"}, "MiB"),
        (takes_more, {}, "`other`"),
        (takes_any, {}, "given by name"),
        (odd_type, {}, "configuration"),
        (no_such_name, {}, "annotations"),
        (NoRun, {}, "method `run`"),
        (7, {}, "takes a function"),
    ],
)
def test_what_makes_no_sense_is_refused(target: Any, changes: dict[str, Any], says: str) -> None:
    """At once, with what to change."""
    declared = {"id": "p", "title": "P", "version": "1.0.0", **changes}
    with pytest.raises(DeclarationError, match=says):
        plugin(**declared)(target)


@pytest.mark.parametrize(
    ("configuration", "given", "code", "at"),
    [
        ({"rate": "two"}, {"amount": 1}, "CONFIGURATION_INVALID", "/rate"),
        ({"Rate": 2}, {"amount": 1}, "CONFIGURATION_INVALID", "/Rate"),
        ({"rounds": 7}, {"amount": 1}, "CONFIGURATION_INVALID", "/rounds"),
        ({}, {}, "INPUT_INVALID", "/amount"),
    ],
)
def test_what_is_given_is_checked(configuration: dict[str, Any], given: dict[str, Any], code: str, at: str) -> None:
    """A wrong value is final, and its place is told without the value."""
    with pytest.raises(Permanent) as caught:
        calling.arguments(samples.price, configuration, given, context())
    assert caught.value.code == code
    assert caught.value.details["problems"][0]["at"] == at
    assert "two" not in str(caught.value.details)


def test_numbers_stay_exact() -> None:
    """What comes as a decimal arrives as one."""
    exact = Decimal("0.1234567890123456789012345")
    called = calling.arguments(samples.price, {"rate": exact, "validFrom": "2026-03-02"}, {"amount": exact}, context())
    assert (called["configuration"].rate, called["input"].amount) == (exact, exact)
    assert calling.output_of(samples.price, samples.Priced(exact, "k")) == {"total": exact, "key": "k"}


@pytest.mark.parametrize("make", [lambda: context(0), lambda: cancelled(context())])
def test_a_heartbeat_ends_what_nobody_waits_for(make: Callable[[], Context]) -> None:
    """When the time is up, and when the engine says so; no `except Exception` keeps it from ending."""
    made = make()
    assert made.cancelled
    with pytest.raises(Cancelled):
        try:
            made.heartbeat()
        except Exception:
            pytest.fail("it was swallowed")
    context().heartbeat()


def cancelled(made: Context) -> Context:
    made.cancel()
    return made


def test_examples_in_the_docstrings() -> None:
    for module in (declaring, exact):
        results = doctest.testmod(module)
        assert results.attempted > 0
        assert results.failed == 0
