"""Functions, list and map literals, and macros, compiled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from . import values
from .code import Code, Frame, Run, fold, not_bool
from .errors import ExpressionError, ExpressionSyntaxError
from .functions import Function
from .patterns import found, pattern
from .syntax import Bind, Call, Comprehension, ListLiteral, MapLiteral, Node, OptionalMap
from .values import KNOWN, NONE, Optional, a, adapt

if TYPE_CHECKING:
    from .compiling import Compiler


# -- functions ---------------------------------------------------------------------------------------------------------


def compile_call(compiler: Compiler, node: Call) -> Code:
    name, function, operands = compiler.resolve(node)
    if function is None:
        kind = "method" if node.target is not None and "." not in name else "function"
        return _failing(f"there is no {kind} {name}()", node)
    parts = [compiler.compile(operand) for operand in operands]
    runs = tuple(part.run for part in parts)
    written = len(runs) - function.method
    if function.variadic:
        return _variadic(node, function, parts)
    if written not in function.arities:
        return _failing(f"{function.called()} takes {_count(function.arities)}, not {written}", node)
    table, position = function.table, node.start
    if function.name == "matches" and parts[1].constant and type(parts[1].value) is str:
        try:
            return fold(_matching(node, function, runs[0], pattern(parts[1].value)), parts)
        except ExpressionError as error:
            raise ExpressionSyntaxError(error.message, operands[1].start, compiler.source) from None
    if function.method and function.name in ("or", "orValue"):
        return _alternative(node, function, parts)
    run: Run
    if len(runs) == 1:
        get = runs[0]

        def with_one(frame: Frame) -> Any:
            value = get(frame)
            implementation = table.get((type(value),))
            if implementation is None:
                raise function.no_overload((value,)).at(position)
            try:
                return implementation(frame[1], value)
            except ExpressionError as error:
                raise error.at(position) from None

        run = with_one
    else:

        def with_many(frame: Frame) -> Any:
            arguments = [get(frame) for get in runs]
            implementation = table.get(tuple(map(type, arguments)))
            if implementation is None:
                raise function.no_overload(tuple(arguments)).at(position)
            try:
                return implementation(frame[1], *arguments)
            except ExpressionError as error:
                raise error.at(position) from None

        run = with_many
    return fold(run, parts)


def _matching(node: Call, function: Function, get: Run, compiled: Any) -> Run:
    """`text.matches('…')` with a pattern that is written down: compiled here, and never again."""

    def run(frame: Frame) -> bool:
        text = get(frame)
        if type(text) is not str:
            raise function.no_overload((text, "")).at(node.start)
        try:
            return found(frame[1], text, compiled)
        except ExpressionError as error:
            raise error.at(node.start) from None

    return run


def _alternative(node: Call, function: Function, parts: list[Code]) -> Code:
    """`data.?rate.orValue(…)`: what stands in for a missing value is not evaluated where there is one, as in cel-cpp."""
    get, instead = (part.run for part in parts)
    whole = function.name == "or"

    def run(frame: Frame) -> Any:
        value = get(frame)
        if type(value) is Optional and value.present:
            return value if whole else value.value
        other = instead(frame)
        implementation = function.table.get((type(value), type(other)))
        if implementation is None:
            raise function.no_overload((value, other)).at(node.start)
        return implementation(frame[1], value, other)

    return fold(run, parts)


def _variadic(node: Call, function: Function, parts: list[Code]) -> Code:
    """`math.greatest(1, 2, 3)`, or of one list."""
    runs = tuple(part.run for part in parts)
    implementation = function.overloads[0].implementation

    def run(frame: Frame) -> Any:
        arguments = [get(frame) for get in runs]
        if len(arguments) == 1 and type(arguments[0]) is list:
            arguments = arguments[0]
        try:
            return implementation(frame[1], arguments)
        except ExpressionError as error:
            raise error.at(node.start) from None

    return fold(run, parts)


def _failing(message: str, node: Node) -> Code:
    """Code of what cannot work; the static check says it before, `&&` and `||` may absorb it, as in CEL."""

    def fail(frame: Frame) -> NoReturn:
        raise ExpressionError(message, node.start)

    return Code(fail, 1)


def _count(arities: tuple[int, ...]) -> str:
    counts = " or ".join(str(count) for count in arities)
    return f"{counts} argument" if arities == (1,) else f"{counts} arguments"


# -- collections -------------------------------------------------------------------------------------------------------


def compile_list(compiler: Compiler, node: ListLiteral) -> Code:
    parts = [compiler.compile(item) for item in node.items]
    runs = tuple(part.run for part in parts)
    if not node.optional:

        def build(frame: Frame) -> list[Any]:
            return [run(frame) for run in runs]

        return fold(build, parts)
    flagged = tuple((run, index in node.optional) for index, run in enumerate(runs))

    def build_some(frame: Frame) -> list[Any]:
        result = []
        for run, optional in flagged:
            value = run(frame)
            if optional:
                if type(value) is not Optional:
                    raise ExpressionError(f"[?…] takes an optional, not {a(value)}", node.start)
                if not value.present:
                    continue
                value = value.value
            result.append(value)
        return result

    return fold(build_some, parts)


def compile_map(compiler: Compiler, node: MapLiteral) -> Code:
    parts = [(compiler.compile(key), compiler.compile(value)) for key, value in node.entries]
    entries = tuple((key.run, value.run, index in node.optional) for index, (key, value) in enumerate(parts))

    def build(frame: Frame) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for get_key, get, optional in entries:
            key = get_key(frame)
            if type(key) is not str and type(key) is not int and type(key) is not values.UInt:
                raise ExpressionError(f"the keys of a map are strings or ints, not {a(key)}", node.start)
            if key in result:
                raise ExpressionError(f"the map has the key {key!r} twice", node.start)
            value = get(frame)
            if optional:
                if type(value) is not Optional:
                    raise ExpressionError(f"{{?…}} takes an optional, not {a(value)}", node.start)
                if not value.present:
                    continue
                value = value.value
            result[key] = value
        return result

    return fold(build, [code for pair in parts for code in pair])


# -- macros ------------------------------------------------------------------------------------------------------------


def elements(value: Any, node: Comprehension) -> Iterable[Any]:
    """What a macro runs over: the elements of a list, the keys of a map."""
    if type(value) is list or type(value) is dict:
        return value
    raise ExpressionError(f"{node.kind}() runs over a list or a map, not over {a(value)}", node.start)


def compile_comprehension(compiler: Compiler, node: Comprehension) -> Code:
    over = compiler.compile(node.range)
    slot, (predicate, transform) = compiler.body(node.variable, node.predicate, node.transform)
    each = (predicate.cost if predicate else 0) + (transform.cost if transform else 0) + 1
    get, kind = over.run, node.kind
    test = predicate.run if predicate else None
    change = transform.run if transform else None

    def checked(value: Any) -> bool:
        if value is True or value is False:
            return value
        return not_bool(value, f"the condition of {kind}()", node.start)

    if kind in ("all", "exists"):
        decisive = kind == "exists"
        assert test is not None

        def quantified(frame: Frame) -> bool:
            budget, failed = frame[1], None
            for item in elements(get(frame), node):
                budget.spend(each)
                frame[slot] = item if type(item) in KNOWN else adapt(item)
                try:
                    if checked(test(frame)) is decisive:
                        return decisive
                except ExpressionError as error:
                    failed = failed or error
            if failed is not None:
                raise failed
            return not decisive

        return Code(quantified, over.cost + 1)

    if kind == "exists_one":
        assert test is not None

        def exactly_one(frame: Frame) -> bool:
            budget, count = frame[1], 0
            for item in elements(get(frame), node):
                budget.spend(each)
                frame[slot] = item if type(item) in KNOWN else adapt(item)
                count += checked(test(frame))
            return count == 1

        return Code(exactly_one, over.cost + 1)

    def collected(frame: Frame) -> list[Any]:
        budget, result = frame[1], []
        for item in elements(get(frame), node):
            budget.spend(each)
            value = frame[slot] = item if type(item) in KNOWN else adapt(item)
            if test is None or checked(test(frame)):
                result.append(value if change is None else change(frame))
        budget.spend_bytes(8 * len(result))
        return result

    return Code(collected, over.cost + 1)


def compile_bind(compiler: Compiler, node: Bind) -> Code:
    value = compiler.compile(node.value)
    slot, (body,) = compiler.body(node.variable, node.body)
    assert body is not None
    get, run = value.run, body.run

    def bound(frame: Frame) -> Any:
        frame[slot] = get(frame)
        return run(frame)

    return Code(bound, 1 + value.cost + body.cost)


def compile_optional_map(compiler: Compiler, node: OptionalMap) -> Code:
    operand = compiler.compile(node.operand)
    slot, (body,) = compiler.body(node.variable, node.body)
    assert body is not None
    get, run, flat = operand.run, body.run, node.flat

    def mapped(frame: Frame) -> Optional:
        value = get(frame)
        if type(value) is not Optional:
            raise ExpressionError(f"optMap() is called on an optional, not on {a(value)}", node.start)
        if not value.present:
            return NONE
        frame[slot] = value.value
        result = run(frame)
        if not flat:
            return Optional(True, result)
        if type(result) is not Optional:
            raise ExpressionError(f"optFlatMap() gives an optional, not {a(result)}", node.start)
        return result

    return Code(mapped, 1 + operand.cost + body.cost)
