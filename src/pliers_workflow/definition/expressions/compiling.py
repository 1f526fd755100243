"""From syntax tree to Python closures: each node becomes one function of a frame, composed once, run often.

A frame is a list: the scope, the budget, then one slot for each variable of a macro. Nodes outside macros run at most
once, so their steps are known beforehand: `Code.cost` is charged in one go when an expression begins, and the cost of
a macro's body with each element. That is what makes a budget cost nothing on the hot path.

Errors are CEL's: strict in types, except that `&&` and `||` absorb an error of one operand when another decides.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn

from . import values
from .budget import Budget
from .errors import ExpressionError, ExpressionSyntaxError
from .functions import FUNCTIONS, METHODS, NAMESPACES, Function, pattern
from .syntax import (
    Binary,
    Bind,
    Call,
    Comprehension,
    Conditional,
    Has,
    Identifier,
    Index,
    ListLiteral,
    Literal,
    Logic,
    MapLiteral,
    Negate,
    Node,
    Not,
    OptionalMap,
    Select,
    path,
)
from .values import KNOWN, NONE, NUMBERS, Optional, a, adapt, contains, equal

#: `[scope, budget, slot, slot, …]`
Frame = list[Any]
Run = Callable[[Frame], Any]

SCOPE: Final = 0
BUDGET: Final = 1
FIRST_SLOT: Final = 2

_COMPARISONS: Final = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_ARITHMETIC: Final = {
    "+": values.add,
    "-": values.subtract,
    "*": values.multiply,
    "/": values.divide,
    "%": values.modulo,
}


class Code:
    """A compiled node."""

    __slots__ = ("constant", "cost", "run", "value")

    def __init__(self, run: Run, cost: int, constant: bool = False, value: Any = None) -> None:
        self.run = run
        #: steps of everything that runs at most once
        self.cost = cost
        #: always gives `value`
        self.constant = constant
        self.value = value


def constant(value: Any) -> Code:
    return Code(lambda frame: value, 1, True, value)


class Compiler:
    """Compiles nodes; knows which macro variables are in sight, and in which slot each lives."""

    def __init__(self, source: str = "", variables: Mapping[str, int] | None = None, slots: int = 0) -> None:
        self.source = source
        self.variables: dict[str, int] = dict(variables or {})
        #: how many slots a frame needs
        self.slots = slots

    def compile(self, node: Node) -> Code:
        compiled: Code = _COMPILERS[type(node)](self, node)
        return compiled

    def resolve(self, call: Call) -> tuple[str, Function | None, tuple[Node, ...]]:
        """The name of a call as written, its function, and its operands, a method's target first."""
        target = call.target
        if target is None:
            return call.name, FUNCTIONS.get(call.name), call.arguments
        if isinstance(target, Identifier) and target.name in NAMESPACES and target.name not in self.variables:
            name = f"{target.name}.{call.name}"
            return name, FUNCTIONS.get(name), call.arguments
        return call.name, METHODS.get(call.name), (target, *call.arguments)

    def bind(self, name: str) -> int:
        """A slot for a variable; the caller restores `variables` when its body is done."""
        slot = FIRST_SLOT + self.slots
        self.slots += 1
        self.variables[name] = slot
        return slot

    def body(self, name: str, *nodes: Node | None) -> tuple[int, list[Code | None]]:
        """Compile what sees the variable `name`."""
        outer = dict(self.variables)
        slot = self.bind(name)
        compiled = [None if node is None else self.compile(node) for node in nodes]
        self.variables = outer
        return slot, compiled


def fold(run: Run, parts: Iterable[Code]) -> Code:
    """The code of a pure node: a constant where all its parts are and the result is small."""
    parts = tuple(parts)
    cost = 1 + sum(part.cost for part in parts)
    if all(part.constant for part in parts):
        try:
            return constant(run([{}, Budget(1_000, 10_000)]))
        except Exception:  # noqa: BLE001  # whatever it is happens again, with a place, when it is evaluated
            pass
    return Code(run, cost)


# -- literals and names ------------------------------------------------------------------------------------------------


def _literal(compiler: Compiler, node: Literal) -> Code:
    if type(node.value) is int and node.value > values.INT_MAX:
        message = f"the integer {node.value} does not fit into 64 bits"
        raise ExpressionSyntaxError(message, node.start, compiler.source)
    return constant(node.value)


def _identifier(compiler: Compiler, node: Identifier) -> Code:
    name = node.name
    slot = None if node.absolute else compiler.variables.get(name)
    if slot is not None:

        def variable(frame: Frame) -> Any:
            return frame[slot]

        return Code(variable, 1)
    if name in values.TYPE_VALUES:
        return constant(values.TYPE_VALUES[name])
    return _chain(compiler, node, name, ())


def _chain(compiler: Compiler, node: Node, root: str, fields: tuple[str, ...]) -> Code:
    """A root and the fields selected from it: the most frequent thing there is, so its lengths have closures of their own."""
    known = KNOWN
    if not fields:

        def read_root(frame: Frame) -> Any:
            try:
                value = frame[0][root]
            except KeyError:
                raise ExpressionError(f"there is no {root} here", node.start) from None
            return value if type(value) in known else adapt(value)

        return Code(read_root, 1)
    if len(fields) == 1:
        field = fields[0]

        def read_field(frame: Frame) -> Any:
            try:
                value = frame[0][root][field]
            except (KeyError, TypeError, IndexError):
                return _walk(frame[0], root, fields, node)
            return value if type(value) in known else adapt(value)

        return Code(read_field, 2)
    if len(fields) == 2:
        first, second = fields

        def read_two(frame: Frame) -> Any:
            try:
                value = frame[0][root][first][second]
            except (KeyError, TypeError, IndexError):
                return _walk(frame[0], root, fields, node)
            return value if type(value) in known else adapt(value)

        return Code(read_two, 3)

    def read_path(frame: Frame) -> Any:
        try:
            value = frame[0][root]
            for field in fields:
                value = value[field]
        except (KeyError, TypeError, IndexError):
            return _walk(frame[0], root, fields, node)
        return value if type(value) in known else adapt(value)

    return Code(read_path, 1 + len(fields))


def _walk(scope: Mapping[str, Any], root: str, fields: tuple[str, ...], node: Node) -> Any:
    """Read a path slowly, to say where it ends."""
    try:
        value = scope[root]
    except KeyError:
        raise ExpressionError(f"there is no {root} here", node.start) from None
    trail = root
    for field in fields:
        value = _field(adapt(value), field, trail, node)
        trail = f"{trail}.{field}"
    return value


def _field(value: Any, field: str, trail: str, node: Node) -> Any:
    """`value.field`, or an error that names the path."""
    if type(value) is dict:
        try:
            found = value[field]
        except KeyError:
            raise ExpressionError(f"{trail}.{field} is missing", node.start) from None
        return found if type(found) in KNOWN else adapt(found)
    raise ExpressionError(f"{trail} is {a(value)}, so it has no field {field}", node.start)


def _trail(node: Node) -> str:
    names = path(node)
    return ".".join(names) if names else "the value"


def _select(compiler: Compiler, node: Select) -> Code:
    if not node.optional:
        names = _plain_path(node)
        if names is not None and names[0] not in compiler.variables and names[0] not in values.TYPE_VALUES:
            return _chain(compiler, node, names[0], names[1:])
    operand = compiler.compile(node.operand)
    read, field, trail, optional = operand.run, node.field, _trail(node.operand), node.optional

    def select(frame: Frame) -> Any:
        value = read(frame)
        if type(value) is dict and not optional:
            try:
                found = value[field]
            except KeyError:
                raise ExpressionError(f"{trail}.{field} is missing", node.start) from None
            return found if type(found) in KNOWN else adapt(found)
        if optional or type(value) is Optional:
            return _optional_field(value, field, trail, node)
        return _field(value, field, trail, node)

    return fold(select, [operand])


def _plain_path(node: Node) -> tuple[str, ...] | None:
    """The path of a chain of selections by name (not by index) from a root that no variable hides."""
    names: list[str] = []
    while isinstance(node, Select) and not node.optional:
        names.append(node.field)
        node = node.operand
    if not isinstance(node, Identifier) or node.absolute:
        return None
    names.append(node.name)
    return tuple(reversed(names))


def _optional_field(value: Any, field: Any, trail: str, node: Node) -> Optional:
    """`value.?field`: empty where the field or what should hold it is absent or null."""
    if type(value) is Optional:
        if not value.present:
            return NONE
        value = value.value
    if value is None:
        return NONE
    if type(value) is dict:
        return Optional(True, adapt(value[field])) if field in value else NONE
    raise ExpressionError(f"{trail} is {a(value)}, so it has no field {field}", node.start)


def _index(compiler: Compiler, node: Index) -> Code:
    operand, key = compiler.compile(node.operand), compiler.compile(node.key)
    read, read_key, optional, trail = operand.run, key.run, node.optional, _trail(node.operand)

    def index(frame: Frame) -> Any:
        value, position = read(frame), read_key(frame)
        if type(value) is Optional:
            return _at(value.value, position, True, trail, node) if value.present else NONE
        return _at(value, position, optional, trail, node)

    return fold(index, [operand, key])


def _at(value: Any, key: Any, optional: bool, trail: str, node: Index) -> Any:
    found: Any
    if type(value) is list:
        if type(key) not in NUMBERS or key != int(key):
            raise ExpressionError(f"a list is indexed by an int, not by {a(key)}", node.key.start)
        if 0 <= key < len(value):
            found = adapt(value[int(key)])
            return Optional(True, found) if optional else found
        if optional:
            return NONE
        raise ExpressionError(f"{trail} has {len(value)} elements, there is no element {key}", node.key.start)
    if type(value) is dict:
        if type(key) is not str and type(key) not in NUMBERS:
            raise ExpressionError(f"a map is indexed by a string or an int, not by {a(key)}", node.key.start)
        if optional:
            return Optional(True, adapt(value[key])) if key in value else NONE
        try:
            found = value[key]
        except KeyError:
            raise ExpressionError(f"{trail}.{key} is missing" if trail else f"{key} is missing", node.start) from None
        return adapt(found)
    if optional and value is None:
        return NONE
    raise ExpressionError(f"{trail} is {a(value)}, so it has no elements", node.start)


def _has(compiler: Compiler, node: Has) -> Code:
    operand = compiler.compile(node.select.operand)
    read, field, trail = operand.run, node.select.field, _trail(node.select.operand)

    def has(frame: Frame) -> bool:
        value = read(frame)
        if type(value) is dict:
            return field in value
        if type(value) is Optional:
            return _optional_field(value, field, trail, node).present
        raise ExpressionError(f"{trail} is {a(value)}, so it has no field {field}", node.start)

    return fold(has, [operand])


# -- logic -------------------------------------------------------------------------------------------------------------


def not_bool(value: Any, what: str, position: int) -> NoReturn:
    raise ExpressionError(f"{what} is {a(value)}, not a bool", position)


def _logic(compiler: Compiler, node: Logic) -> Code:
    parts = [compiler.compile(operand) for operand in node.operands]
    #: the value that decides alone
    decisive = node.operator == "||"
    name = f"an operand of {node.operator}"
    if len(parts) == 2:
        left, right = parts[0].run, parts[1].run
        left_at, right_at = (operand.start for operand in node.operands)

        def both(frame: Frame) -> Any:
            try:
                value = left(frame)
                if value is decisive:
                    return decisive
                if value is not True and value is not False:
                    not_bool(value, name, left_at)
            except ExpressionError:
                if right(frame) is decisive:
                    return decisive
                raise
            value = right(frame)
            if value is True or value is False:
                return value
            return not_bool(value, name, right_at)

        return fold(both, parts)
    runs = tuple((part.run, operand.start) for part, operand in zip(parts, node.operands, strict=True))

    def chain(frame: Frame) -> Any:
        failed: ExpressionError | None = None
        for run, position in runs:
            try:
                value = run(frame)
                if value is decisive:
                    return decisive
                if value is not True and value is not False:
                    not_bool(value, name, position)
            except ExpressionError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return not decisive

    return fold(chain, parts)


def _not(compiler: Compiler, node: Not) -> Code:
    part = compiler.compile(node.operand)
    run = part.run

    def invert(frame: Frame) -> bool:
        value = run(frame)
        if value is True:
            return False
        if value is False:
            return True
        return not_bool(value, "the operand of !", node.start)

    return fold(invert, [part])


def _conditional(compiler: Compiler, node: Conditional) -> Code:
    parts = [compiler.compile(child) for child in (node.condition, node.then, node.otherwise)]
    condition, then, otherwise = (part.run for part in parts)

    def choose(frame: Frame) -> Any:
        value = condition(frame)
        if value is True:
            return then(frame)
        if value is False:
            return otherwise(frame)
        return not_bool(value, "the condition of ? :", node.start)

    return fold(choose, parts)


# -- operators ---------------------------------------------------------------------------------------------------------


def _negate(compiler: Compiler, node: Negate) -> Code:
    part = compiler.compile(node.operand)
    run = part.run

    def negate(frame: Frame) -> Any:
        try:
            return values.negate(run(frame))
        except ExpressionError as error:
            raise error.at(node.start) from None

    return fold(negate, [part])


def _binary(compiler: Compiler, node: Binary) -> Code:
    left, right = compiler.compile(node.left), compiler.compile(node.right)
    if node.operator in _COMPARISONS:
        run = _comparison(node, left, right)
    elif node.operator in ("==", "!="):
        run = _equality(node, left, right)
    elif node.operator == "in":
        run = _membership(node, left, right)
    else:
        run = _arithmetic(node, left, right)
    return fold(run, [left, right])


def _comparison(node: Binary, left: Code, right: Code) -> Run:
    compare, symbol, position = _COMPARISONS[node.operator], node.operator, node.start
    get_left, get_right, numbers = left.run, right.run, NUMBERS
    if right.constant and type(right.value) in numbers:
        bound = right.value

        def with_number(frame: Frame) -> Any:
            value = get_left(frame)
            if type(value) in numbers:
                return compare(value, bound)
            return _incomparable(symbol, value, bound, position)

        return with_number
    ordered = values.ORDERED

    def both(frame: Frame) -> Any:
        value, other = get_left(frame), get_right(frame)
        kind = type(value)
        if kind is type(other):
            if kind in ordered:
                return compare(value, other)
        elif kind in numbers and type(other) in numbers:
            return compare(value, other)
        return _incomparable(symbol, value, other, position)

    return both


def _incomparable(symbol: str, left: Any, right: Any, position: int) -> NoReturn:
    try:
        values.cannot_compare(symbol, left, right)
    except ExpressionError as error:
        raise error.at(position) from None


def _equality(node: Binary, left: Code, right: Code) -> Run:
    get_left, get_right, wanted = left.run, right.run, node.operator == "=="
    if right.constant:
        expected = right.value
        kind = type(expected)
        if kind is str:

            def with_string(frame: Frame) -> bool:
                value = get_left(frame)
                return (type(value) is str and value == expected) is wanted

            return with_string
        if expected is None or kind is bool:

            def with_singleton(frame: Frame) -> bool:
                return (get_left(frame) is expected) is wanted

            return with_singleton
        if kind in NUMBERS:
            numbers = NUMBERS

            def with_number(frame: Frame) -> bool:
                value = get_left(frame)
                return (type(value) in numbers and value == expected) is wanted

            return with_number

    def both(frame: Frame) -> bool:
        return equal(get_left(frame), get_right(frame), frame[1]) is wanted

    return both


def _membership(node: Binary, left: Code, right: Code) -> Run:
    get_left, get_right, position = left.run, right.run, node.start
    if right.constant and type(right.value) is list and all(type(item) is str for item in right.value):
        choices = frozenset(right.value)

        def among_strings(frame: Frame) -> bool:
            value = get_left(frame)
            return type(value) is str and value in choices

        return among_strings

    def inside(frame: Frame) -> bool:
        try:
            return contains(get_right(frame), get_left(frame), frame[1])
        except ExpressionError as error:
            raise error.at(position) from None

    return inside


def _arithmetic(node: Binary, left: Code, right: Code) -> Run:
    calculate, get_left, get_right, position = _ARITHMETIC[node.operator], left.run, right.run, node.start

    def calculated(frame: Frame) -> Any:
        try:
            return calculate(get_left(frame), get_right(frame), frame[1])
        except ExpressionError as error:
            raise error.at(position) from None

    return calculated


# -- calls -------------------------------------------------------------------------------------------------------------


def _call(compiler: Compiler, node: Call) -> Code:
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
            pattern(parts[1].value)
        except ExpressionError as error:
            raise ExpressionSyntaxError(error.message, operands[1].start, compiler.source) from None
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


def _list(compiler: Compiler, node: ListLiteral) -> Code:
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


def _map(compiler: Compiler, node: MapLiteral) -> Code:
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


def _comprehension(compiler: Compiler, node: Comprehension) -> Code:
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


def _bind(compiler: Compiler, node: Bind) -> Code:
    value = compiler.compile(node.value)
    slot, (body,) = compiler.body(node.variable, node.body)
    assert body is not None
    get, run = value.run, body.run

    def bound(frame: Frame) -> Any:
        frame[slot] = get(frame)
        return run(frame)

    return Code(bound, 1 + value.cost + body.cost)


def _optional_map(compiler: Compiler, node: OptionalMap) -> Code:
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


_COMPILERS: Final[Mapping[type[Node], Callable[[Compiler, Any], Code]]] = {
    Literal: _literal,
    Identifier: _identifier,
    Select: _select,
    Index: _index,
    Has: _has,
    Logic: _logic,
    Not: _not,
    Negate: _negate,
    Binary: _binary,
    Conditional: _conditional,
    Call: _call,
    ListLiteral: _list,
    MapLiteral: _map,
    Comprehension: _comprehension,
    Bind: _bind,
    OptionalMap: _optional_map,
}
