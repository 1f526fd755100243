"""The syntax tree of an expression: what the parser makes and everything else reads. Nodes never change.

Macros are nodes of their own (`Has`, `Comprehension`, `Bind`, `OptionalMap`), so nobody below the parser has to know
that they were written as calls. `&&` and `||` hold all their operands in one node: a long condition is flat.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from typing import Literal as OneOf


@dataclass(slots=True, frozen=True, eq=False)
class Node:
    """A piece of an expression, from character `start` to before `end`."""

    start: int
    end: int
    #: levels of nesting below and including this node; bounded by the parser
    depth: int

    def children(self) -> Iterator[Node]:
        return iter(())


@dataclass(slots=True, frozen=True, eq=False)
class Literal(Node):
    value: Any


@dataclass(slots=True, frozen=True, eq=False)
class Identifier(Node):
    name: str
    #: written with a leading dot: the scope's root, whatever variable a macro has of that name
    absolute: bool = False


@dataclass(slots=True, frozen=True, eq=False)
class Select(Node):
    operand: Node
    field: str
    optional: bool = False

    def children(self) -> Iterator[Node]:
        yield self.operand


@dataclass(slots=True, frozen=True, eq=False)
class Index(Node):
    operand: Node
    key: Node
    optional: bool = False

    def children(self) -> Iterator[Node]:
        yield self.operand
        yield self.key


@dataclass(slots=True, frozen=True, eq=False)
class Call(Node):
    """A function, or a method where there is a target; `math.abs(x)` is the function `math.abs`, once resolved."""

    name: str
    target: Node | None
    arguments: tuple[Node, ...]

    def children(self) -> Iterator[Node]:
        if self.target is not None:
            yield self.target
        yield from self.arguments


@dataclass(slots=True, frozen=True, eq=False)
class Logic(Node):
    """All operands of a chain of `&&` or of `||`."""

    operator: OneOf["&&", "||"]
    operands: tuple[Node, ...]

    def children(self) -> Iterator[Node]:
        return iter(self.operands)


@dataclass(slots=True, frozen=True, eq=False)
class Not(Node):
    operand: Node

    def children(self) -> Iterator[Node]:
        yield self.operand


@dataclass(slots=True, frozen=True, eq=False)
class Negate(Node):
    operand: Node

    def children(self) -> Iterator[Node]:
        yield self.operand


@dataclass(slots=True, frozen=True, eq=False)
class Binary(Node):
    """`+ - * / %`, `== != < <= > >=` or `in`."""

    operator: str
    left: Node
    right: Node

    def children(self) -> Iterator[Node]:
        yield self.left
        yield self.right


@dataclass(slots=True, frozen=True, eq=False)
class Conditional(Node):
    condition: Node
    then: Node
    otherwise: Node

    def children(self) -> Iterator[Node]:
        yield self.condition
        yield self.then
        yield self.otherwise


@dataclass(slots=True, frozen=True, eq=False)
class Element(Node):
    """An optional element of a list literal, `?value`; only the parser and `ListLiteral` see it."""

    value: Node


@dataclass(slots=True, frozen=True, eq=False)
class ListLiteral(Node):
    items: tuple[Node, ...]
    #: positions whose value is an optional, left out when it is empty
    optional: frozenset[int] = frozenset()

    def children(self) -> Iterator[Node]:
        return iter(self.items)


@dataclass(slots=True, frozen=True, eq=False)
class MapLiteral(Node):
    entries: tuple[tuple[Node, Node], ...]
    #: positions whose value is an optional, left out when it is empty
    optional: frozenset[int] = frozenset()

    def children(self) -> Iterator[Node]:
        for key, value in self.entries:
            yield key
            yield value


@dataclass(slots=True, frozen=True, eq=False)
class Has(Node):
    """`has(a.b)`: whether the field is there."""

    select: Select

    def children(self) -> Iterator[Node]:
        yield self.select


@dataclass(slots=True, frozen=True, eq=False)
class Comprehension(Node):
    """`range.all(x, body)` and its relatives; `map` and `filter` with three arguments have both parts."""

    kind: OneOf["all", "exists", "exists_one", "filter", "map"]
    range: Node
    variable: str
    #: the condition; None: every element
    predicate: Node | None
    #: what becomes of an element; `map` only
    transform: Node | None

    def children(self) -> Iterator[Node]:
        yield self.range
        if self.predicate is not None:
            yield self.predicate
        if self.transform is not None:
            yield self.transform


@dataclass(slots=True, frozen=True, eq=False)
class Bind(Node):
    """`cel.bind(x, value, body)`."""

    variable: str
    value: Node
    body: Node

    def children(self) -> Iterator[Node]:
        yield self.value
        yield self.body


@dataclass(slots=True, frozen=True, eq=False)
class OptionalMap(Node):
    """`optional.optMap(x, body)`; `flat`: `optFlatMap`, whose body is an optional itself."""

    operand: Node
    variable: str
    body: Node
    flat: bool

    def children(self) -> Iterator[Node]:
        yield self.operand
        yield self.body


def path(node: Node) -> tuple[str, ...] | None:
    """The dotted path from an identifier that a chain of plain selections spells, or None where it is something else."""
    names: list[str] = []
    while True:
        match node:
            case Select(operand=operand, field=field):
                names.append(field)
                node = operand
            case Index(operand=operand, key=Literal(value=str() as field)):
                names.append(field)
                node = operand
            case Identifier(name=name):
                names.append(name)
                return tuple(reversed(names))
            case _:
                return None
