"""From syntax tree to Python closures: each node becomes one function of a frame, composed once, run often.

`code` says what that function is; `selecting`, `operating` and `calling` make it, for the kinds of nodes they name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from . import calling, operating, selecting
from .code import FIRST_SLOT, Code
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
)


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


_COMPILERS: Final[Mapping[type[Node], Callable[[Compiler, Any], Code]]] = {
    Literal: selecting.compile_literal,
    Identifier: selecting.compile_identifier,
    Select: selecting.compile_select,
    Index: selecting.compile_index,
    Has: selecting.compile_has,
    Logic: operating.compile_logic,
    Not: operating.compile_not,
    Negate: operating.compile_negate,
    Binary: operating.compile_binary,
    Conditional: operating.compile_conditional,
    Call: calling.compile_call,
    ListLiteral: calling.compile_list,
    MapLiteral: calling.compile_map,
    Comprehension: calling.compile_comprehension,
    Bind: calling.compile_bind,
    OptionalMap: calling.compile_optional_map,
}
