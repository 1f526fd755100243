"""What is wrong with an expression before it ever runs: unknown names, wrong types, comparisons that cannot hold.

The check walks the tree once and infers a `Type` for each node. It is silent about whatever may be right: a field that
is not required needs no `has()`, and an `any` fits everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final
from typing import Literal as OneOf

from .compiling import Compiler
from .environment import ANY, BOOL, Environment, Kind, Type
from .errors import ExpressionError
from .expression import Expression
from .functions import FUNCTIONS, METHODS, NAMESPACES, Function
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
from .times import parse_duration, parse_timestamp
from .values import TYPE_VALUES, type_name

#: What an expression may be expected to give.
Expected = OneOf["any", "bool", "number", "string", "list", "map", "timestamp", "duration", "int"]

_NUMBERS: Final = frozenset({"int", "uint", "double", "number"})
_ORDERED: Final = _NUMBERS | {"string", "bytes", "bool", "timestamp", "duration"}


@dataclass(slots=True, frozen=True)
class ExpressionFinding:
    """One mistake of an expression, for its author."""

    message: str
    #: what to write instead, where that is known
    hint: str | None
    #: characters from the beginning of the expression
    position: int
    #: a warning may be meant as it is
    severity: OneOf["error", "warning"] = "error"


def check_expression(
    expression: Expression, environment: Environment, expected: Expected = "any"
) -> list[ExpressionFinding]:
    """All findings, in the order of their positions. Never raises.

    >>> from .expression import compile_expression
    >>> schema = {"properties": {"amount": {"type": "number"}}, "additionalProperties": False}
    >>> for finding in check_expression(compile_expression("data.amuont > 5"), Environment(schema), "bool"):
    ...     print(finding.message, "-", finding.hint)
    data has no field 'amuont' - did you mean data.amount?
    """
    checker = _Checker(environment)
    found = checker.type(expression.tree)
    if not _fits(found, expected):
        message = f"the expression gives {_a(found)}, {_a(Type(expected))} is expected here"
        hint = "compare it with something" if expected == "bool" else None
        checker.report(message, hint, expression.tree)
    unique = dict.fromkeys(checker.findings)
    return sorted(unique, key=lambda finding: finding.position)


def _fits(found: Type, expected: Kind) -> bool:
    kind = found.kind
    if "any" in (kind, expected) or kind == expected:
        return True
    if kind == "optional_type":
        return _fits(found.item or ANY, expected)
    if kind == "number" or expected == "number":
        return kind in _NUMBERS and expected in _NUMBERS
    return False


def _a(found: Type) -> str:
    name = {"null_type": "null", "optional_type": "optional", "any": "anything"}.get(found.kind, found.kind)
    if name in ("null", "anything"):
        return name
    return f"{'an' if name[0] in 'aeio' else 'a'} {name}"


def _suggest(name: str, names: Iterable[str]) -> str | None:
    close = get_close_matches(name, list(names), n=1, cutoff=0.75)
    return close[0] if close else None


class _Checker:
    """Infers types and collects findings."""

    def __init__(self, environment: Environment) -> None:
        self.roots = environment.roots
        self.variables: dict[str, Type] = {}
        self.findings: list[ExpressionFinding] = []

    def report(self, message: str, hint: str | None, node: Node, severity: OneOf["error", "warning"] = "error") -> None:
        self.findings.append(ExpressionFinding(message, hint, node.start, severity))

    def type(self, node: Node) -> Type:
        """The type of `node`; complains about it and everything below."""
        match node:
            case Literal(value=value):
                choices = (value,) if isinstance(value, bool | int | str) else None
                return Type(type_name(value), choices=choices)  # type: ignore[arg-type]  # names are kinds
            case Identifier():
                return self.identifier(node)
            case Select():
                return self.select(node)
            case Has(select=select):
                self.select(select, asked=True)
                return BOOL
            case Index():
                return self.index(node)
            case Logic(operator=operator, operands=operands):
                for operand in operands:
                    self.condition(operand, f"an operand of {operator}")
                return BOOL
            case Not(operand=operand):
                self.condition(operand, "the operand of !")
                return BOOL
            case Negate(operand=operand):
                found = self.type(operand)
                if found.kind not in _NUMBERS | {"any", "duration"}:
                    self.report(f"cannot negate {_a(found)}", None, node)
                    return ANY
                return Type(found.kind)
            case Binary(operator="==" | "!="):
                return self.equality(node)
            case Binary(operator="<" | "<=" | ">" | ">="):
                return self.comparison(node)
            case Binary(operator="in"):
                return self.membership(node)
            case Binary():
                return self.arithmetic(node)
            case Conditional(condition=condition, then=then, otherwise=otherwise):
                self.condition(condition, "the condition of ? :")
                return _either([self.type(then), self.type(otherwise)])
            case Call():
                return self.call(node)
            case ListLiteral(items=items, optional=optional):
                found_items = [self.type(item) for item in items]
                return Type("list", item=_either(found_items) if found_items and not optional else ANY)
            case MapLiteral():
                return self.map(node)
            case Comprehension():
                return self.comprehension(node)
            case Bind(variable=name, value=value, body=body):
                return self.inside(name, self.type(value), body)
            case OptionalMap(operand=operand, variable=name, body=body):
                self.type(operand)
                found = self.inside(name, ANY, body)
                return found if node.flat else Type("optional_type", item=found)
            case _:
                return ANY

    def inside(self, name: str, known: Type, *nodes: Node) -> Type:
        """The type of the last node, where `name` is a variable."""
        outer = dict(self.variables)
        self.variables[name] = known
        found = ANY
        for node in nodes:
            found = self.type(node)
        self.variables = outer
        return found

    def condition(self, node: Node, what: str) -> None:
        found = self.type(node)
        if not _fits(found, "bool"):
            self.report(f"{what} is {_a(found)}, not a bool", "compare it with something", node)

    # -- names ---------------------------------------------------------------------------------------------------------

    def identifier(self, node: Identifier) -> Type:
        name = node.name
        if name in self.variables and not node.absolute:
            return self.variables[name]
        if name in TYPE_VALUES:
            return Type("type")
        if name in self.roots:
            return self.roots[name]
        hint = f"expressions see {', '.join(sorted(self.roots))}"
        if "data" in self.roots and name in self.roots["data"].fields:
            hint = f"write data.{name}"
        elif close := _suggest(name, [*self.roots, *self.variables]):
            hint = f"did you mean {close}?"
        elif name in FUNCTIONS or name in NAMESPACES:
            hint = f"{name} is a function; write {name}(…)"
        self.report(f"there is no {name!r}", hint, node)
        return ANY

    def select(self, node: Select, asked: bool = False) -> Type:
        below = self.type(node.operand)
        if below.kind == "optional_type":
            found = self.field(below.item or ANY, node.field, node, True)
            return Type("optional_type", item=found)
        found = self.field(below, node.field, node, asked or node.optional)
        return Type("optional_type", item=found) if node.optional else found

    def field(self, below: Type, name: str, node: Select | Index, asked: bool) -> Type:
        """The type of a field; `asked`: the expression asks whether it is there."""
        owner = ".".join(path(node.operand) or ()) or "the value"
        if below.kind == "any":
            return ANY
        if below.kind != "map":
            self.report(f"{owner} is {_a(below)}, it has no field {name!r}", None, node)
            return ANY
        if name in below.fields:
            return below.fields[name]
        close = _suggest(name, below.fields)
        hint = f"did you mean {owner}.{close}?" if close else None
        if not below.open:
            if hint is None and below.fields and len(below.fields) <= 20:
                hint = f"it has {', '.join(sorted(below.fields))}"
            self.report(f"{owner} has no field {name!r}", hint, node)
            return ANY
        if close and not asked:
            self.report(f"{owner} has no field {name!r} in its schema", hint, node, "warning")
        return below.item or ANY

    def index(self, node: Index) -> Type:
        below, key = self.type(node.operand), self.type(node.key)
        optional = node.optional or below.kind == "optional_type"
        if below.kind == "optional_type":
            below = below.item or ANY
        found = ANY
        if below.kind == "list":
            if not _fits(key, "number"):
                self.report(f"a list is indexed by an int, not by {_a(key)}", None, node.key)
            found = below.item or ANY
        elif below.kind == "map":
            if isinstance(node.key, Literal) and isinstance(node.key.value, str):
                found = self.field(below, node.key.value, node, optional)
            elif not below.fields:
                found = below.item or ANY
        elif below.kind != "any":
            self.report(f"{_a(below)} has no elements", None, node)
        return Type("optional_type", item=found) if optional else found

    # -- operators -----------------------------------------------------------------------------------------------------

    def equality(self, node: Binary) -> Type:
        left, right = self.type(node.left), self.type(node.right)
        outcome = "false" if node.operator == "==" else "true"
        if not _comparable(left, right) and "null_type" not in (left.kind, right.kind):
            hint = _conversion(left, right, node)
            self.report(f"{_a(left)} never equals {_a(right)}: this is always {outcome}", hint, node)
        elif _disjoint(left, right):
            self.outside(node.left, left, node.right, right, f"this is always {outcome}", node)
        return BOOL

    def outside(self, left: Node, known: Type, right: Node, other: Type, outcome: str, node: Node) -> None:
        """Report a value that is not among the choices of the other side."""
        if isinstance(left, Literal):
            left, known, right, other = right, other, left, known
        if not isinstance(right, Literal):
            self.report(f"the two have no value in common: {outcome}", None, node)
            return
        choices = [choice for choice in known.choices or () if choice is not None]
        name = ".".join(path(left) or ()) or "the value"
        close = _suggest(right.value, filter(_is_text, choices)) if isinstance(right.value, str) else None
        if isinstance(left, Literal):
            self.report(outcome, None, node)
            return
        listed = ", ".join(repr(choice) for choice in choices[:20])
        hint = f"did you mean {close!r}?" if close else f"it can be {listed}"
        self.report(f"{name} can never be {right.value!r}: {outcome}", hint, right)

    def comparison(self, node: Binary) -> Type:
        left, right = self.type(node.left), self.type(node.right)
        if not _comparable(left, right) or any(side.kind not in _ORDERED | {"any"} for side in (left, right)):
            message = f"cannot compare {_a(left)} {node.operator} {_a(right)}"
            self.report(message, _conversion(left, right, node), node)
        return BOOL

    def membership(self, node: Binary) -> Type:
        needle, container = self.type(node.left), self.type(node.right)
        if container.kind not in ("any", "list", "map"):
            hint = "write .contains(…) to look into a string" if container.kind == "string" else None
            self.report(f"'in' looks into a list or a map, not into {_a(container)}", hint, node)
        elif isinstance(node.right, ListLiteral):
            # a list of different things is meant to have some that do not fit
            if container.item is not None and container.item.kind != "any":
                for item in node.right.items:
                    self.member(node.left, needle, item)
        elif container.kind == "list" and container.item is not None and needle.kind != "null_type":
            self.element(needle, container.item, node)
        return BOOL

    def element(self, needle: Type, item: Type, node: Node) -> None:
        """Something that may be in a list of `item`s."""
        if not _comparable(needle, item):
            self.report(f"{_a(needle)} is never in a list of {item.kind}s", None, node)

    def member(self, left: Node, needle: Type, item: Node) -> None:
        """One element of a list literal that something may be in."""
        before = len(self.findings)
        found = self.type(item)
        del self.findings[before:]  # said already
        if not _comparable(needle, found) and "null_type" not in (needle.kind, found.kind):
            self.report(f"{_a(needle)} never equals {_a(found)}", None, item)
        elif _disjoint(needle, found) and not isinstance(left, Literal):
            self.outside(left, needle, item, found, "it has no place in this list", item)

    def arithmetic(self, node: Binary) -> Type:
        left, right = self.type(node.left), self.type(node.right)
        kinds = {left.kind, right.kind}
        if kinds <= _NUMBERS and not ("uint" in kinds and len(kinds) > 1):
            if node.operator == "%" and "double" not in kinds:
                return Type("int")
            if node.operator != "%":
                if node.operator == "/" and "number" in kinds and "double" not in kinds:
                    self.report(
                        "this division drops the fraction where both sides happen to be whole numbers",
                        "write double(…) around one side, or int(…) where dropping is meant",
                        node,
                        "warning",
                    )
                if len(kinds) == 1:
                    return Type(left.kind)
                return Type("double" if "double" in kinds else "number")
        elif "any" in kinds:
            other = right if left.kind == "any" else left
            possible = _NUMBERS | {"any"}
            if node.operator in "+-":
                possible |= {"timestamp", "duration"}
            if node.operator == "+":
                possible |= {"string", "list", "bytes"}
            if other.kind in possible:
                return ANY
        else:
            result = _SUMS.get((node.operator, left.kind, right.kind))
            if result is not None:
                return Type(result, item=_either([left.item or ANY, right.item or ANY]) if result == "list" else None)
        hint = None
        if node.operator == "+" and "string" in kinds:
            hint = "write string(…) around what is no string"
        self.report(f"cannot calculate {_a(left)} {node.operator} {_a(right)}", hint, node)
        return ANY

    # -- calls ---------------------------------------------------------------------------------------------------------

    def call(self, node: Call) -> Type:
        name, function, operands = Compiler(variables=dict.fromkeys(self.variables, 0)).resolve(node)
        found = [self.type(operand) for operand in operands]
        if function is None:
            self.unknown_function(name, node)
            return ANY
        if function.variadic:
            return self.variadic(function, found, node)
        given = len(operands) - function.method
        if given not in function.arities:
            counts = " or ".join(str(arity) for arity in function.arities)
            plural = "" if counts == "1" else "s"
            self.report(f"{function.called()} takes {counts} argument{plural}, not {given}", None, node)
            return ANY
        possible = [
            overload
            for overload in function.overloads
            if len(overload.parameters) == len(found)
            and all(_accepts(parameter, each) for parameter, each in zip(overload.parameters, found, strict=True))
        ]
        if not possible:
            self.report(function.mismatch([each.kind for each in found]), None, node)
            return ANY
        self.literal_argument(function.name, operands)
        results = {overload.result for overload in possible}
        if len(results) > 1:
            return ANY
        return self.result(results.pop(), function.name, found)

    def result(self, name: str, function: str, found: list[Type]) -> Type:
        if name == "same":
            return Type(found[0].kind, item=found[0].item)
        if name == "list":
            return Type("list", item=Type("string") if function == "split" else ANY)
        if function in ("value", "orValue"):
            inner = found[0].item or ANY
            return inner if len(found) == 1 else _either([inner, found[1]])
        if name == "optional_type":
            return Type("optional_type", item=found[0] if function == "optional.of" else ANY)
        return Type(name)  # type: ignore[arg-type]  # the table's result names are kinds

    def variadic(self, function: Function, found: list[Type], node: Call) -> Type:
        if not found:
            self.report(f"{function.called()} takes at least one number", None, node)
            return ANY
        if len(found) == 1 and found[0].kind == "list":
            return found[0].item or ANY
        for each in found:
            if each.kind not in _NUMBERS | {"any"}:
                self.report(f"{function.called()} compares numbers, not {_a(each)}", None, node)
                return ANY
        return _either([Type(each.kind) for each in found])

    def unknown_function(self, name: str, node: Call) -> None:
        as_method = node.target is not None and "." not in name
        names = METHODS if as_method else FUNCTIONS
        hint = None
        if not as_method and name in METHODS:
            hint = f"{name} is a method; write value.{name}(…)"
        elif as_method and name in FUNCTIONS:
            hint = f"{name} is a function; write {name}(value)"
        elif close := _suggest(name, names):
            hint = f"did you mean {close}()?"
        self.report(f"there is no {'method' if as_method else 'function'} {name}()", hint, node)

    def literal_argument(self, name: str, operands: tuple[Node, ...]) -> None:
        """Report timestamps and durations that are written down wrong."""
        read: Any = {"timestamp": parse_timestamp, "duration": parse_duration}.get(name)
        if read is not None and isinstance(operands[0], Literal) and isinstance(operands[0].value, str):
            try:
                read(operands[0].value)
            except ExpressionError as error:
                self.report(error.message, None, operands[0])

    # -- collections ---------------------------------------------------------------------------------------------------

    def map(self, node: MapLiteral) -> Type:
        fields: dict[str, Type] = {}
        certain = not node.optional
        for key, value in node.entries:
            found, known = self.type(key), self.type(value)
            if found.kind not in _NUMBERS | {"any", "string"}:
                self.report(f"the keys of a map are strings or ints, not {_a(found)}", None, key)
            if isinstance(key, Literal) and isinstance(key.value, str):
                fields[key.value] = known
            else:
                certain = False
        return Type("map", fields=fields, item=ANY) if certain else Type("map", item=ANY)

    def comprehension(self, node: Comprehension) -> Type:
        over = self.type(node.range)
        element = ANY
        if over.kind == "list":
            element = over.item or ANY
        elif over.kind == "map":
            element = Type("string") if over.fields or over.open else ANY
        elif over.kind != "any":
            self.report(f"{node.kind}() runs over a list or a map, not over {_a(over)}", None, node)
        outer = dict(self.variables)
        self.variables[node.variable] = element
        if node.predicate is not None:
            self.condition(node.predicate, f"the condition of {node.kind}()")
        changed = element if node.transform is None else self.type(node.transform)
        self.variables = outer
        return Type("list", item=changed) if node.kind in ("map", "filter") else BOOL


_SUMS: Final[Mapping[tuple[str, str, str], Kind]] = {
    ("+", "string", "string"): "string",
    ("+", "bytes", "bytes"): "bytes",
    ("+", "list", "list"): "list",
    ("+", "timestamp", "duration"): "timestamp",
    ("+", "duration", "timestamp"): "timestamp",
    ("+", "duration", "duration"): "duration",
    ("-", "timestamp", "timestamp"): "duration",
    ("-", "timestamp", "duration"): "timestamp",
    ("-", "duration", "duration"): "duration",
}


def _comparable(left: Type, right: Type) -> bool:
    if "any" in (left.kind, right.kind):
        return True
    return left.kind == right.kind or (left.kind in _NUMBERS and right.kind in _NUMBERS)


def _conversion(left: Type, right: Type, node: Binary) -> str | None:
    """What to write where a string meets something that strings are often made of."""
    for one, other, side in ((left, right, node.left), (right, left, node.right)):
        if one.kind != "string":
            continue
        name = ".".join(path(side) or ()) or "…"
        if other.kind in ("timestamp", "duration"):
            return f"write {other.kind}({name})"
        if other.kind in _NUMBERS:
            if isinstance(side, Literal):
                return "write the number without quotes"
            return f"write double({name})"
        if other.kind == "bool" and isinstance(side, Literal):
            return "write true or false without quotes"
    return None


def _disjoint(left: Type, right: Type) -> bool:
    """Whether both have few values, and none in common."""
    if left.choices is None or right.choices is None:
        return False
    return not any(_same(one, other) for one in left.choices for other in right.choices)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _accepts(parameter: str, given: Type) -> bool:
    if "any" in (parameter, given.kind) or parameter == given.kind:
        return True
    if parameter == "number":
        return given.kind in _NUMBERS
    return given.kind == "number" and parameter in ("int", "double")


def _either(types: list[Type]) -> Type:
    """What is known of a value that has one of these types."""
    kinds = {each.kind for each in types}
    concrete = kinds - {"null_type"}
    if len(concrete) == 1:
        first = next(each for each in types if each.kind != "null_type")
        if len(types) == 1:
            return first
        choices: tuple[Any, ...] | None = ()
        for each in types:
            if each.kind != "null_type":
                choices = None if choices is None or each.choices is None else choices + each.choices
        nested = ANY if first.kind in ("list", "optional_type") else first.item
        nullable = "null_type" in kinds or any(each.nullable for each in types)
        # two maps: neither's fields are certain
        return Type(first.kind, item=nested, choices=choices, nullable=nullable)
    if concrete and concrete <= _NUMBERS:
        return Type("number")
    return ANY
