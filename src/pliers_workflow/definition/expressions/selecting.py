"""Names and what is selected from them, compiled: roots, fields, elements, and whether they are there.

A chain of fields from a root is the most frequent thing there is, so its lengths have closures of their own; only when
one fails is the path walked again, slowly, to say where it ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import values
from .code import Code, Frame, constant, fold
from .errors import ExpressionError, ExpressionSyntaxError
from .syntax import Has, Identifier, Index, Literal, Node, Select, path
from .values import KNOWN, NONE, NUMBERS, Optional, a, adapt

if TYPE_CHECKING:
    from .compiling import Compiler


def compile_literal(compiler: Compiler, node: Literal) -> Code:
    if type(node.value) is int and node.value > values.INT_MAX:
        message = f"the integer {node.value} does not fit into 64 bits"
        raise ExpressionSyntaxError(message, node.start, compiler.source)
    return constant(node.value)


def compile_identifier(compiler: Compiler, node: Identifier) -> Code:
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


def compile_select(compiler: Compiler, node: Select) -> Code:
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


def compile_index(compiler: Compiler, node: Index) -> Code:
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


def compile_has(compiler: Compiler, node: Has) -> Code:
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
